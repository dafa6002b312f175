"""What the tools make of a cluster that gives no answer; no broker."""

from __future__ import annotations

from concurrent.futures import Future
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from kstash.errors import KafkaUnavailableError
from kstash.kafka.maintenance import Maintenance
from kstash.kafka.tools import KafkaTools
from kstash.ports.kafka import NewTopic


def test_a_topic_that_is_not_answered_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own answer may not come at all: an error with the address, and no traceback."""
    tools = KafkaTools("127.0.0.1:9", deadline_s=0)
    unanswered: dict[str, Future[Any]] = {"t": Future()}
    answers = SimpleNamespace(create_topics=lambda _: unanswered)
    monkeypatch.setattr(tools, "_admin", answers)
    monkeypatch.setattr(tools, "_connect", lambda: None, raising=False)
    with pytest.raises(KafkaUnavailableError, match=r"127.0.0.1:9.* create a topic"):
        tools.create([NewTopic("t", 1, 1, {})])


class SilentConsumer:
    """Has one record of partition 0, and never a word of partition 1, which has no leader."""

    def __init__(self, _: object) -> None:
        record = SimpleNamespace(error=lambda: None, headers=lambda: None)
        self._answers = chain([[record]], repeat([]))

    def assign(self, _: object) -> None:
        """Takes what it is told to read."""

    def consume(self, _count: int, _timeout_s: float) -> list[Any]:
        """As the client."""
        return next(self._answers)

    def close(self) -> None:
        """Nothing to close."""


def test_a_partition_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What others have said does not let one be waited for without end; it is named."""
    monkeypatch.setattr("kstash.kafka.tools.make_consumer", SilentConsumer)
    tools = KafkaTools("127.0.0.1:9", deadline_s=0.05)
    monkeypatch.setattr(tools, "_connect", lambda: None)
    records = tools.read({("t", 0): 0, ("t", 1): 0})
    assert next(records) is not None
    with pytest.raises(KafkaUnavailableError, match=r"nothing was heard of t \[0\], t \[1\]"):
        next(records)


def test_a_queue_that_stays_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sending ends with an error when nothing is taken any more."""

    def full(*_: object, **__: object) -> None:
        raise BufferError("Local: Queue full")

    tools = KafkaTools("127.0.0.1:9", deadline_s=0)
    producer = SimpleNamespace(produce=full, poll=lambda _: 0)
    monkeypatch.setattr(tools, "_open_producer", lambda: producer)
    with pytest.raises(KafkaUnavailableError, match="take records"):
        tools.send("t", 0, None, b"")


def test_a_deletion_that_cannot_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster is gone when the topics are listed again: an error with the address."""

    def gone(**_: object) -> None:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    monkeypatch.setattr("kstash.kafka.maintenance.first_contact", lambda *_: None)
    upkeep = Maintenance("127.0.0.1:9", {})
    monkeypatch.setattr(
        upkeep, "_client", SimpleNamespace(delete_topics=lambda _: {}, list_topics=gone)
    )
    with pytest.raises(KafkaUnavailableError, match=r"127.0.0.1:9.* list the topics"):
        upkeep.delete_topics(["t"])
