"""What the admin client takes for passing, and what for final."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from kstash.errors import ClusterError, KafkaUnavailableError
from kstash.kafka.admin import KafkaAdmin
from kstash.kafka.admin_requests import AdminRequests
from kstash.ports.kafka import NewTopic

NOWHERE = {"bootstrap.servers": "127.0.0.1:1", "client.id": "nobody", "log_level": 0}


@pytest.mark.parametrize(
    "code", [KafkaError._DESTROY_BROKER, KafkaError._TRANSPORT, KafkaError.NOT_CONTROLLER]
)
def test_a_passing_error_is_asked_again(code: int) -> None:
    """A bootstrap address that the client drops, a lost connection, a former controller."""
    requests = AdminRequests(NOWHERE, monotonic=time.monotonic)
    assert not requests.is_absent("ask", KafkaException(KafkaError(code)), ())


def test_what_waiting_does_not_mend_is_an_error() -> None:
    """A request that the cluster does not allow is raised, with what was asked."""
    requests = AdminRequests(NOWHERE)
    error = KafkaException(KafkaError(KafkaError.POLICY_VIOLATION))
    with pytest.raises(ClusterError, match="refused to ask, 't'"):
        requests.is_absent("ask", error, (), ("t", "topic", "CREATE"))


NO_OFFSET = -1001
"""What the client leaves for a partition whose leader's part of the request failed."""


@dataclass(frozen=True)
class Listed:
    """One result of the client's `list_offsets`."""

    offset: int


class Client:
    """Answers `list_offsets` with one offset after the other for each partition, without errors."""

    def __init__(self, offsets: dict[int, list[int]]) -> None:
        self._offsets = offsets
        self.asked: list[list[int]] = []

    def list_offsets(
        self, partitions: Iterable[TopicPartition], **_: object
    ) -> dict[TopicPartition, Future[Listed]]:
        """Answer at once."""
        self.asked.append([place.partition for place in partitions])
        futures = {}
        for place in partitions:
            futures[place] = future = Future[Listed]()
            future.set_result(Listed(self._offsets[place.partition].pop(0)))
        return futures

    def poll(self, timeout: float) -> int:
        """Serve nothing."""
        return int(timeout)

    def list_topics(self, **_: object) -> None:
        """Nothing is new."""


def asking(monkeypatch: pytest.MonkeyPatch, client: Client) -> KafkaAdmin:
    """An admin of topics that exist, with this client."""
    requests = AdminRequests(NOWHERE)
    monkeypatch.setattr(requests, "client", client)
    admin = KafkaAdmin(requests)
    monkeypatch.setattr(admin._offsets, "_check", lambda _: None)
    return admin


def test_no_offset_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that hangs leaves "no offset" without an error; that partition is asked again."""
    client = Client({0: [7], 1: [NO_OFFSET, NO_OFFSET, 8], 2: [0]})
    admin = asking(monkeypatch, client)
    assert admin.end_offsets([("t", 0), ("t", 1), ("t", 2)]) == {
        ("t", 0): 7,
        ("t", 1): 8,
        ("t", 2): 0,
    }
    assert client.asked == [[0, 1, 2], [1], [1]]


def test_no_offset_is_left_out_of_what_is_asked_without_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who does not wait gets the offsets that are known, and no invented one."""
    admin = asking(monkeypatch, Client({0: [7, 1], 1: [NO_OFFSET, NO_OFFSET]}))
    assert admin.ask_end_offsets([("t", 0), ("t", 1)])() == {("t", 0): 7}
    assert admin.ask_start_offsets([("t", 0), ("t", 1)])() == {("t", 0): 1}


def test_any_broker_that_answers_shows_that_there_is_access(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The node that is asked may be dead while others answer: its errors refuse nobody."""
    client = Client({0: [NO_OFFSET, 7]})
    listed = KafkaError(KafkaError._TRANSPORT)
    answers: list[Any] = [KafkaException(listed), None]

    def ask(_: object, **__: object) -> dict[TopicPartition, Future[Listed]]:
        future = Future[Listed]()
        future.set_exception(KafkaException(listed)) if answers else future.set_result(Listed(7))
        return {TopicPartition("t", 0): future}

    def list_topics(**_: object) -> None:
        error = answers.pop(0)
        if error:
            raise error

    monkeypatch.setattr(client, "list_offsets", ask)
    monkeypatch.setattr(client, "list_topics", list_topics)
    admin = asking(monkeypatch, client)
    seen: list[bool] = []
    monkeypatch.setattr("time.sleep", lambda _: seen.append(admin.has_access))
    assert admin.end_offsets([("t", 0)]) == {("t", 0): 7}
    assert seen == [False, True]


TIME_MS = 1_795_000_000_000
NO_RECORD = -1


def test_a_time_is_no_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition without a leader is asked again; where no record is as new, it is the end."""
    client = Client({0: [17], 1: [NO_OFFSET, 3], 2: [NO_RECORD, 40]})
    admin = asking(monkeypatch, client)
    places = [("in", 0), ("in", 1), ("in", 2)]
    assert admin.offsets_at(places, TIME_MS) == {("in", 0): 17, ("in", 1): 3, ("in", 2): 40}
    assert client.asked == [[0, 1, 2], [1], [2]]


class TopicClient(Client):
    """Creates and deletes as it is told: an error by topic, or no answer at all."""

    def __init__(self, **answers: int | None) -> None:
        super().__init__({})
        self.listed: set[str] = set()
        self._answers = answers

    def create_topics(self, topics: Iterable[Any], **_: object) -> dict[str, Future[None]]:
        """One answer each."""
        return {topic.topic: self._answer(topic.topic) for topic in topics}

    def delete_topics(self, topics: Iterable[str], **_: object) -> dict[str, Future[None]]:
        """One answer each."""
        return {topic: self._answer(topic) for topic in topics}

    def list_topics(self, **_: object) -> Any:
        """Those that are listed still."""
        return SimpleNamespace(topics=dict.fromkeys(self.listed))

    def _answer(self, topic: str) -> Future[None]:
        future = Future[None]()
        code = self._answers.get(topic, 0)
        if code:
            future.set_exception(KafkaException(KafkaError(code)))
        elif code is not None:
            future.set_result(None)
        return future


def impatient(monkeypatch: pytest.MonkeyPatch, client: Client) -> KafkaAdmin:
    """An admin with this client, that waits for nothing."""
    requests = AdminRequests(NOWHERE, deadline_s=0.0)
    monkeypatch.setattr(requests, "client", client)
    return KafkaAdmin(requests)


def test_topics_that_exist_already_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who creates them decides what that means."""
    admin = impatient(monkeypatch, TopicClient(old=KafkaError.TOPIC_ALREADY_EXISTS))
    monkeypatch.setattr(admin, "describe", lambda *_, **__: {})
    assert admin.create([NewTopic(name, 1, 1, {}) for name in ("new", "old")]) == ["old"]
    assert admin.create([]) == []


def test_a_topic_that_is_refused_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the cluster's reason."""
    admin = impatient(monkeypatch, TopicClient(t=KafkaError.INVALID_REPLICATION_FACTOR))
    with pytest.raises(ClusterError, match=r"create topics, 't': INVALID_REPLICATION_FACTOR"):
        admin.create([NewTopic("t", 1, 9, {})])


def test_a_topic_that_is_not_answered_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own answer may not come at all: an error with the address, and no traceback."""
    admin = impatient(monkeypatch, TopicClient(t=None))
    with pytest.raises(KafkaUnavailableError, match=r"127.0.0.1:1.* create topics"):
        admin.create([NewTopic("t", 1, 1, {})])


def test_a_deletion_waits_until_nothing_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A topic that is gone already is fine; one that stays listed is an error."""
    client = TopicClient(gone=KafkaError.UNKNOWN_TOPIC_OR_PART)
    admin = impatient(monkeypatch, client)
    admin.delete_topics(["here", "gone"])
    client.listed = {"here", "other"}
    with pytest.raises(KafkaUnavailableError, match=r"delete \['here'\] .*still listed"):
        admin.delete_topics(["here", "gone"])


def test_a_deletion_that_cannot_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster is gone when the topics are listed again: an error with the address."""

    def gone(**_: object) -> None:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    client = TopicClient()
    monkeypatch.setattr(client, "list_topics", gone)
    with pytest.raises(KafkaUnavailableError, match=r"127.0.0.1:1.* list the topics"):
        impatient(monkeypatch, client).delete_topics(["t"])
