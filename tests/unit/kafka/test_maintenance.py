"""What the maintenance client makes of the client's answers; no broker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from kstash.errors import ClusterError
from kstash.kafka.maintenance import Maintenance

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
    monkeypatch.setattr("kstash.kafka.maintenance.make_consumer", LeaderlessConsumer)
    upkeep = Maintenance("127.0.0.1:9", {})
    assert upkeep.offsets_at([("in", 0)], TIME_MS) == {("in", 0): 17}
    with pytest.raises(ClusterError, match="look up offsets by time: LEADER_NOT_AVAILABLE"):
        upkeep.offsets_at([("in", 0), ("in", 1)], TIME_MS)


class FencingProducer:
    """Notes whose transactions were initialised; one id is refused."""

    fenced: ClassVar[list[str]] = []

    def __init__(self, settings: dict[str, str]) -> None:
        self._id = settings["transactional.id"]

    def init_transactions(self, timeout_s: float) -> None:
        """As the client's."""
        assert timeout_s > 0
        if self._id == "refused":
            raise KafkaException(KafkaError(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED))
        self.fenced.append(self._id)


def test_fencing_initialises_the_transactions_of_every_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what aborts and bars; one that is refused fails the whole, by its name."""
    monkeypatch.setattr("kstash.kafka.maintenance.make_producer", FencingProducer)
    monkeypatch.setattr(FencingProducer, "fenced", [])
    upkeep = Maintenance("127.0.0.1:9", {})
    ids = [f"shop-{number}" for number in range(40)]
    upkeep.fence(ids)
    assert sorted(FencingProducer.fenced) == sorted(ids)
    with pytest.raises(ClusterError, match="fence transactional id 'refused'"):
        upkeep.fence(["shop-0", "refused"])
