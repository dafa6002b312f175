"""What the admin client takes for passing, and what for final."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from kstash.errors import ClusterError
from kstash.kafka.admin import KafkaAdmin

NOWHERE = {"bootstrap.servers": "127.0.0.1:1", "client.id": "nobody", "log_level": 0}


@pytest.mark.parametrize(
    "code", [KafkaError._DESTROY_BROKER, KafkaError._TRANSPORT, KafkaError.NOT_CONTROLLER]
)
def test_a_passing_error_is_asked_again(code: int) -> None:
    """A bootstrap address that the client drops, a lost connection, a former controller."""
    admin = KafkaAdmin(NOWHERE, monotonic=time.monotonic)
    assert not admin._is_absent("ask", KafkaException(KafkaError(code)), ())
    admin.close()


def test_what_waiting_does_not_mend_is_an_error() -> None:
    """A request that the cluster does not allow is raised, with what was asked."""
    admin = KafkaAdmin(NOWHERE)
    with pytest.raises(ClusterError, match="ask"):
        admin._is_absent("ask", KafkaException(KafkaError(KafkaError.POLICY_VIOLATION)), ())
    admin.close()


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
    admin: Any = KafkaAdmin(NOWHERE)
    monkeypatch.setattr(admin, "_check_existence", lambda _: None)
    monkeypatch.setattr(admin, "_client", client)
    return admin  # type: ignore[no-any-return] # patched


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
