"""What the maintenance client makes of the client's answers; no broker."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from confluent_kafka import KafkaError, TopicPartition

from kstash.errors import ClusterError
from kstash.kafka.upkeep import Upkeep

TIME_MS = 1_795_000_000_000


@dataclass(frozen=True)
class Answer:
    """A `TopicPartition` as it comes back: its error cannot be set from outside."""

    topic: str
    partition: int
    offset: int
    error: KafkaError | None = None


class LeaderlessConsumer:
    """Answers for partition 0; partition 1 has no leader, so its place still holds the time."""

    def __init__(self, _: object) -> None:
        pass

    def offsets_for_times(self, asked: list[TopicPartition], _timeout_s: float) -> list[Answer]:
        """As the client: what failed is left as it was asked, with an error beside it."""
        error = KafkaError(KafkaError.LEADER_NOT_AVAILABLE)
        return [
            Answer(place.topic, 1, place.offset, error) if place.partition else Answer("in", 0, 17)
            for place in asked
        ]

    def close(self) -> None:
        """Nothing to close."""


def test_a_time_is_no_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition whose offset is not known fails the whole: a reset must not begin at the time."""
    monkeypatch.setattr("kstash.kafka.upkeep.Consumer", LeaderlessConsumer)
    upkeep = Upkeep("127.0.0.1:9", {})
    assert upkeep.offsets_at([("in", 0)], TIME_MS) == {("in", 0): 17}
    with pytest.raises(ClusterError, match="look up offsets by time: LEADER_NOT_AVAILABLE"):
        upkeep.offsets_at([("in", 0), ("in", 1)], TIME_MS)
