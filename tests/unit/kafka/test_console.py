"""What a console makes of a cluster that gives no answer; no broker."""

from __future__ import annotations

from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any

import pytest

from kstash.errors import KafkaUnavailableError
from kstash.kafka.console import KafkaConsole


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
    monkeypatch.setattr("kstash.kafka.console.make_consumer", SilentConsumer)
    kafka = KafkaConsole("127.0.0.1:9", deadline_s=0.05)
    kafka._requests._complaints.answered()
    records = kafka.read({("t", 0): 0, ("t", 1): 0})
    assert next(records) is not None
    with pytest.raises(KafkaUnavailableError, match=r"nothing was heard of t \[0\], t \[1\]"):
        next(records)


def test_a_queue_that_stays_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sending ends with an error when nothing is taken any more."""

    def full(*_: object, **__: object) -> None:
        raise BufferError("Local: Queue full")

    kafka = KafkaConsole("127.0.0.1:9", deadline_s=0)
    producer = SimpleNamespace(produce=full, poll=lambda _: 0)
    monkeypatch.setattr(kafka, "_open_producer", lambda: producer)
    with pytest.raises(KafkaUnavailableError, match="take records"):
        kafka.send("t", 0, None, b"")
