"""What a consumer's errors are taken for; no broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, Message

from kstash.errors import KafkaUnavailableError, KstashError, OffsetOutOfRangeError
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
    ("offset", "expected", "text"),
    [
        (17, OffsetOutOfRangeError, "partition 3, offset 17"),
        (-1001, KafkaUnavailableError, r"app-scan: the client lost its place in 'data' \[3\]"),
    ],
)
def test_an_offset_that_is_gone_is_not_a_lost_place(
    consumer: AssignedConsumer,
    monkeypatch: pytest.MonkeyPatch,
    offset: int,
    expected: type[KstashError],
    text: str,
) -> None:
    """An error without an offset says nothing of the log: starting again is all that it takes."""
    monkeypatch.setattr(consumer, "_fetch", lambda _: [failure(offset)])
    assert consumer.poll(0) == []
    with pytest.raises(expected, match=text):
        consumer.poll(0)
