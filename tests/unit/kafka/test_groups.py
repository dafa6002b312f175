"""Who is in a group, and what is made of answers that are none; no broker."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from kstash.errors import ClusterError, KafkaUnavailableError, RightMissingError
from kstash.kafka import groups
from kstash.kafka.admin_requests import AdminRequests
from kstash.kafka.groups import KafkaGroups, holder_of
from kstash.ports.kafka import Partition

NOWHERE = {"bootstrap.servers": "127.0.0.1:1", "client.id": "nobody", "log_level": 0}
UUID = "00000000-0000-4000-8000-000000000000"


def answer(*names: str, group: str = "shop", error: KafkaError | None = None) -> Any:
    """What a broker says of a group with these members."""
    members = [SimpleNamespace(id=f"{name}-{UUID}", client_host=f"/{name}") for name in names]
    return SimpleNamespace(id=group, error=error, members=members, state="Stable")


class Brokers:
    """What the brokers say, one time after the other; the last one again and again.

    Attributes:
        log: what was asked for, in order.
        refusal: of the coordinator, when it is asked for offsets.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[Any] | KafkaError) -> None:
        self.log: list[str] = []
        self.refusal: Exception | None = None
        self._answers = list(answers)
        monkeypatch.setattr(groups, "make_admin", lambda *_, **__: self)
        monkeypatch.setattr(groups, "CommittedPositionsReader", lambda *_, **__: self)
        monkeypatch.setattr(groups, "RETRY_PAUSE_S", 0)
        self.groups = KafkaGroups(AdminRequests(NOWHERE, deadline_s=0.05))

    def list_groups(self, group: str, timeout: float) -> list[Any]:
        """The next answer."""
        assert timeout > 0
        self.log.append(f"list {group}")
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(found, KafkaError):
            raise KafkaException(found)
        return found

    def offsets(self, _: list[Partition]) -> dict[Partition, int]:
        """The coordinator's answer."""
        self.log.append("offsets")
        if self.refusal is not None:
            raise self.refusal
        return {}

    def close(self) -> None:
        """Nothing to close."""


def test_members_are_named_with_their_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """By instance id, or client id: what the broker's member id begins with."""
    brokers = Brokers(monkeypatch, [answer("worker-1", "a"), answer("b", group="another")])
    assert brokers.groups.members("shop") == ["a at /a", "worker-1 at /worker-1"]
    assert brokers.log == ["list shop"]


def test_a_group_that_no_broker_lists_is_asked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two coordinators it looks as if it did not exist, until the new one answers."""
    brokers = Brokers(monkeypatch, [], [answer("a")])
    assert brokers.groups.members("shop") == ["a at /a"]
    assert brokers.log == ["list shop", "offsets", "list shop"]
    assert Brokers(monkeypatch, []).groups.members("shop") == []


def test_a_group_that_is_hidden_does_not_look_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brokers leave out what a client may not see: a reset must not take that for a stop."""
    brokers = Brokers(monkeypatch, [])
    brokers.refusal = RightMissingError([("group", "shop", "READ")], "refused")
    with pytest.raises(RightMissingError, match="READ on group 'shop'"):
        brokers.groups.members("shop")


def test_members_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a coordinator loads, or a broker gives no answer; then it is an error."""
    loading = KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS)
    brokers = Brokers(
        monkeypatch, loading, [answer(error=KafkaError(KafkaError.NOT_COORDINATOR))], [answer("a")]
    )
    assert brokers.groups.members("shop") == ["a at /a"]
    with pytest.raises(KafkaUnavailableError, match="describe group 'shop'"):
        Brokers(monkeypatch, loading).groups.members("shop")


def test_the_holder_of_a_static_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The member whose id begins with the instance id; a longer name is another one."""
    Brokers(monkeypatch, [answer("a", "a-b")])
    asked = {"group": "shop", "timeout_s": 1.0}
    assert holder_of(NOWHERE, instance_id="a", **asked) == f"a-{UUID}"  # type: ignore[arg-type]
    assert holder_of(NOWHERE, instance_id="b", **asked) is None  # type: ignore[arg-type]
    Brokers(monkeypatch, [])
    with pytest.raises(KafkaException):
        holder_of(NOWHERE, instance_id="a", **asked)  # type: ignore[arg-type]


class Client:
    """An admin client that lists two groups, and deletes what it may."""

    def list_consumer_groups(self, **_: object) -> Future[Any]:
        """Two."""
        future = Future[Any]()
        listed = [SimpleNamespace(group_id=name) for name in ("shop", "other")]
        future.set_result(SimpleNamespace(valid=listed))
        return future

    def delete_consumer_groups(self, names: list[str], **_: object) -> dict[str, Future[None]]:
        """All but one with members."""
        futures = {}
        for name in names:
            futures[name] = future = Future[None]()
            if name == "busy":
                future.set_exception(KafkaException(KafkaError(KafkaError.NON_EMPTY_GROUP)))
            elif name == "gone":
                future.set_exception(KafkaException(KafkaError(KafkaError.GROUP_ID_NOT_FOUND)))
            else:
                future.set_result(None)
        return futures

    def poll(self, timeout: float) -> int:
        """Serve nothing."""
        return int(timeout)


def test_groups_that_exist_and_that_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is gone is fine; one with members is refused, by its name."""
    requests = AdminRequests(NOWHERE)
    monkeypatch.setattr(requests, "client", Client())
    found = KafkaGroups(requests)
    assert found.existing(["shop", "shop-positions"]) == ["shop"]
    found.delete(["shop", "gone"])
    found.delete([])
    with pytest.raises(ClusterError, match="delete groups, 'busy'"):
        found.delete(["shop", "busy"])
