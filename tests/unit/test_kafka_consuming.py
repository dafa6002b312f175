"""What a consumer's errors are taken for; no broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, Message

from kstash.errors import OffsetOutOfRangeError
from kstash.kafka.consuming import AssignedConsumer


def failure(offset: int) -> Message:
    """A consumed error, as the client hands it out."""
    error = KafkaError(KafkaError._AUTO_OFFSET_RESET, "reason")
    return Message(topic="data", partition=3, offset=offset, error=error)


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Iterator[AssignedConsumer]:
    """A consumer without a broker, whose questions for watermarks need not wait."""
    monkeypatch.setattr("kstash.kafka.consuming.LOOKUP_DEADLINE_S", 0.05)
    settings = {"client.id": "app-scan", "group.id": "app", "bootstrap.servers": "127.0.0.1:9"}
    consumer = AssignedConsumer(settings, bootstrap_servers="127.0.0.1:9")
    yield consumer
    consumer.close()


@pytest.mark.parametrize(
    ("offset", "shown"),
    [(17, 17), (OFFSET_INVALID, 4)],
    ids=["below the log's start", "of a truncated log"],
)
def test_records_that_are_gone_are_named(
    consumer: AssignedConsumer, monkeypatch: pytest.MonkeyPatch, offset: int, shown: int
) -> None:
    """The error names the offset, also that of a truncated log, where the client gives none."""
    monkeypatch.setattr(consumer, "_fetch", lambda _: [failure(offset)])
    consumer.add({("data", 3): 4})
    assert consumer.poll(0) == []
    with pytest.raises(OffsetOutOfRangeError, match=f"partition 3, offset {shown}"):
        consumer.poll(0)


def test_what_is_no_offset_is_refused(consumer: AssignedConsumer) -> None:
    """Below 0 the client would go to a committed offset, or to one end of the log."""
    with pytest.raises(AssertionError, match="no offsets"):
        consumer.add({("data", 3): OFFSET_INVALID})
