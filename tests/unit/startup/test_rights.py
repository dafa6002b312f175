"""Rights: what a worker needs is checked when it starts, and what is missing is named."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest
import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

import kstash
from kstash.errors import RightMissingError
from kstash.kafka import failures
from kstash.kafka.admin import KafkaAdmin
from kstash.kafka.admin_requests import AdminRequests
from kstash.ports.kafka import TopicInfo
from kstash.settings.config import Config
from kstash.startup.rights import check_rights, explained, rights_needed
from kstash.topology.model import Topology

NOWHERE = {"bootstrap.servers": "127.0.0.1:9", "client.id": "shop-admin"}
LINEAGE, CHECKPOINTS, INTERNAL = "shop-lineage", "shop-checkpoints", "shop-words-repartition"


def _topology(**options: Any) -> Topology:
    app = kstash.App("shop")
    keyed = app.stream("in", value=kstash.text).key_by(lambda line: line, key=kstash.text)
    keyed.count("words").to("out", **options)
    return app.topology()


def _config(**settings: Any) -> Config:
    return Config.load(application_id="shop", **settings)


@pytest.mark.parametrize(
    ("settings", "options", "expected"),
    [
        (
            {},
            {},
            {
                "in": ("READ",),
                "out": ("WRITE", "READ"),
                INTERNAL: ("WRITE", "READ", "DELETE"),
                LINEAGE: ("READ", "WRITE"),
                CHECKPOINTS: ("READ", "WRITE"),
            },
        ),
        (
            {"checkpoint_store": "none"},
            {"delivery": "transactional"},
            {
                "in": ("READ",),
                "out": ("WRITE",),
                INTERNAL: ("WRITE", "READ", "DELETE"),
                LINEAGE: ("READ", "WRITE"),
            },
        ),
        (
            {"guarantee": "none"},
            {},
            {"in": ("READ",), "out": ("WRITE",), INTERNAL: ("WRITE", "READ")},
        ),
    ],
)
def test_what_is_needed(
    settings: dict[str, Any], options: dict[str, Any], expected: dict[str, tuple[str, ...]]
) -> None:
    """No more than a guarantee and a delivery make use of."""
    assert rights_needed(_topology(**options), _config(**settings)) == expected


def test_all_that_is_missing_is_named_at_once() -> None:
    """Each right with its topic, and a command; topics that are not there are not asked for."""
    found = {
        "in": TopicInfo("in", 1, 1, operations=frozenset({"DESCRIBE"})),
        INTERNAL: TopicInfo(INTERNAL, 1, 1, operations=frozenset({"READ", "WRITE"})),
    }
    with pytest.raises(RightMissingError) as caught:
        check_rights(_topology(), _config(), found)
    assert caught.value.missing == (("topic", "in", "READ"), ("topic", INTERNAL, "DELETE"))
    assert "READ on topic 'in'; DELETE on topic 'shop-words-repartition'" in str(caught.value)
    assert "--operation READ --topic in" in str(caught.value)


def test_a_topic_that_may_not_be_described() -> None:
    """What is needed there is named, since READ and WRITE bring DESCRIBE along."""
    error = RightMissingError([("topic", "out", "DESCRIBE"), ("topic", "x", "DESCRIBE")])
    made = explained(error, _topology(), _config())
    assert made.missing == (
        ("topic", "out", "WRITE"),
        ("topic", "out", "READ"),
        ("topic", "x", "DESCRIBE"),
    )


def test_a_cluster_that_does_not_say_is_believed() -> None:
    """Some do not report what a client may do."""
    check_rights(_topology(), _config(), {"in": TopicInfo("in", 1, 1)})


@pytest.mark.parametrize(
    ("code", "right", "named"),
    [
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, ("topic", "t", "CREATE"), "CREATE on topic 't'"),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, ("group", "g", "READ"), "READ on group 'g'"),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, ("topic", "t", "READ"), None),
    ],
)
def test_a_request_that_is_refused_for_want_of_a_right(
    code: int, right: tuple[str, str, str], named: str | None
) -> None:
    """The right is named when it is of the kind that is refused."""
    made = failures.refused("ask", KafkaException(KafkaError(code)), right=right)
    assert isinstance(made, RightMissingError) == (named is not None)
    assert (named or "ask was refused") in str(made)
    assert "check the client's credentials and the ACLs" in str(made)


def test_the_topic_of_a_refused_request_is_named() -> None:
    """Whatever the request is about: names, partitions, resources."""
    requests = AdminRequests(NOWHERE)
    error = KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    for item in ("t", TopicPartition("t", 0)):
        with pytest.raises(RightMissingError, match="DESCRIBE_CONFIGS on topic 't'"):
            requests.is_absent("ask", error, (), (item, "topic", "DESCRIBE_CONFIGS"))


def test_a_deletion_that_is_refused_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each topic, until one succeeds: a purge is tried again and again."""

    class Client:
        is_allowed = False

        def delete_records(
            self, places: list[TopicPartition], **_: object
        ) -> dict[TopicPartition, Future[Any]]:
            futures: dict[TopicPartition, Future[Any]] = {}
            for place in places:
                future: Future[Any] = Future()
                futures[place] = future
                if self.is_allowed:
                    future.set_result(Deleted())
                else:
                    code = KafkaError.TOPIC_AUTHORIZATION_FAILED
                    future.set_exception(KafkaException(KafkaError(code)))
            return futures

    class Deleted:
        low_watermark = 7

    requests, client = AdminRequests(NOWHERE), Client()
    monkeypatch.setattr(requests, "client", client)
    admin = KafkaAdmin(requests)
    limits = {("t", 0): 5, ("t", 1): 5, ("u", 0): 5}
    with structlog.testing.capture_logs() as logs:
        assert admin.delete_records(limits)() == {}
        assert admin.delete_records(limits)() == {}
    assert [line["topic"] for line in logs] == ["t", "u"]
    client.is_allowed = True
    assert admin.delete_records(limits)() == dict.fromkeys(limits, 7)
    client.is_allowed = False
    with structlog.testing.capture_logs() as logs:
        admin.delete_records(limits)()
    assert [line["topic"] for line in logs] == ["t", "u"]
