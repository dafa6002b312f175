"""The delay of acknowledgements that tests ask for (`lineage_ack_delay_ms`)."""

from __future__ import annotations

from typing import Any

from kstash.kafka.producers import DelayedAcks
from kstash.testing.clock import ManualClock
from kstash.testing.kafka.broker import MemoryKafka
from kstash.testing.kafka.cluster import MemoryCluster


def delayed(kafka: MemoryKafka, clock: ManualClock, delay_s: float) -> DelayedAcks:
    """A producer on `kafka` whose acknowledgements are late by the manual clock."""
    return DelayedAcks(
        MemoryCluster(kafka, "app").lineage_producer(),
        delay_s,
        monotonic=clock.monotonic,
        sleep=clock.advance,
    )


def test_records_are_held_back_in_order() -> None:
    """A record is written, and acknowledged, after the delay; the order is kept."""
    clock = ManualClock()
    kafka = MemoryKafka(clock)
    kafka.create_topic("t", 1)
    producer = delayed(kafka, clock, 0.5)
    told: list[int | None] = []

    def on_delivery(error: Any, message: Any) -> None:
        assert error is None
        told.append(message.offset())

    producer.produce("t", b"a", None, 0, on_delivery)
    producer.poll()
    clock.advance(0.25)
    producer.produce("t", b"b", None, 0, on_delivery)
    producer.produce("t", b"c", None, 0, None)
    producer.poll()
    assert kafka.log(("t", 0)).end_offset == 0
    assert (told, len(producer)) == ([], 3)
    clock.advance(0.25)
    producer.poll()
    assert kafka.log(("t", 0)).end_offset == 1
    assert (told, len(producer)) == ([0], 2)
    clock.advance(0.25)
    producer.poll()
    assert kafka.log(("t", 0)).end_offset == 3
    assert (told, len(producer)) == ([0, 1], 0)


def test_flush_waits_for_the_delay_up_to_its_deadline() -> None:
    """`flush` writes what falls due before its deadline, and counts the rest as missing."""
    clock = ManualClock()
    kafka = MemoryKafka(clock)
    kafka.create_topic("t", 1)
    producer = delayed(kafka, clock, 0.5)
    told: list[int | None] = []
    producer.produce("t", b"a", None, 0, lambda _, message: told.append(message.offset()))
    assert producer.flush(0.2) == 1
    assert told == []
    assert producer.flush(0.5) == 0
    assert told == [0]


def test_close_loses_what_is_held_back() -> None:
    """After `close` nothing is written and nothing is told: this is what a crash leaves."""
    clock = ManualClock()
    kafka = MemoryKafka(clock)
    kafka.create_topic("t", 1)
    producer = delayed(kafka, clock, 0.5)
    told: list[int | None] = []
    producer.produce("t", b"a", None, 0, lambda _, message: told.append(message.offset()))
    producer.poll()
    producer.close()
    clock.advance(1)
    assert (len(producer), told) == (0, [])
    assert kafka.log(("t", 0)).end_offset == 0
