"""What a worker takes, from two consumers and with a membership."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from kstash import App, text
from kstash.ports.kafka import Membership
from kstash.runtime.inputs import POLL_S_MAX, InputConsumer, take
from kstash.testing import MemoryKafka, TestDriver
from kstash.testing.kafka.consumers import MemoryConsumer

PLAIN, IMMEDIATE = ("plain", 0), ("immediate", 0)


class Reader(MemoryConsumer):
    """A consumer that notes how long it was to wait."""

    def __init__(self, kafka: MemoryKafka) -> None:
        super().__init__(kafka)
        self.waits: list[float] = []

    def poll(self, timeout_s: float) -> list[Any]:
        """Note the wait."""
        self.waits.append(timeout_s)
        return super().poll(timeout_s)


class Place:
    """A membership whose polls do what they are told, in turn.

    Attributes:
        waits: how long it was to wait.
    """

    def __init__(self, *polls: Callable[[], bool]) -> None:
        self.waits: list[float] = []
        self._polls = list(polls)

    def poll(self, timeout_s: float) -> bool:
        """The next one."""
        self.waits.append(timeout_s)
        return self._polls.pop(0)()


@pytest.fixture
def kafka() -> MemoryKafka:
    """A record in each of two topics."""
    kafka = MemoryKafka()
    for topic, _ in (PLAIN, IMMEDIATE):
        kafka.create_topic(topic, 1)
        kafka.append(topic, topic.encode())
    return kafka


def taken(place: Place, reader: MemoryConsumer) -> list[bytes | None]:
    """Values of what is taken in half a second."""
    messages = take(cast("Membership", place), reader, 0.5)
    return [message.value() for message in messages]


def test_records_end_the_wait_where_any_are_read(kafka: MemoryKafka) -> None:
    """The group is only looked at; what its callbacks add while nothing is read comes at once."""
    reader, place = Reader(kafka), Place(lambda: True, lambda: True, lambda: True)
    assert taken(place, reader) == []
    reader.add({PLAIN: 0})
    assert taken(place, reader) == [b"plain"]
    assert place.waits == [0.5, 0.0]
    assert reader.waits == [0.5]

    def added() -> bool:
        later.add({IMMEDIATE: 0})
        return True

    later = Reader(kafka)
    assert taken(Place(added), later) == [b"immediate"]


def test_what_a_callback_gives_up_is_not_taken(kafka: MemoryKafka) -> None:
    """The callbacks come first."""
    reader = Reader(kafka)
    reader.add({PLAIN: 0, IMMEDIATE: 0})

    def revoked() -> bool:
        reader.remove([PLAIN])
        return True

    assert taken(Place(revoked), reader) == [b"immediate"]


def test_without_a_place_nothing_is_taken(kafka: MemoryKafka) -> None:
    """The wait is for the group then, so that the loop does not turn in vain."""
    reader, place = Reader(kafka), Place(lambda: False, lambda: False)
    reader.add({PLAIN: 0})
    assert taken(place, reader) == []
    assert place.waits == [0.0, 0.5]
    assert reader.waits == []


def test_each_partition_has_its_consumer(kafka: MemoryKafka) -> None:
    """All that can be done to partitions goes to the one that reads their topic."""
    committed, uncommitted = Reader(kafka), Reader(kafka)
    both = InputConsumer(committed, uncommitted, {IMMEDIATE[0]})
    is_reading = [both.is_reading]
    both.add({PLAIN: 0, IMMEDIATE: 0})
    is_reading.append(both.is_reading)
    assert is_reading == [False, True]
    assert [m.value() for m in both.poll(9.0)] == [b"plain", b"immediate"]
    assert (committed.position(PLAIN), uncommitted.position(IMMEDIATE)) == (1, 1)
    assert (both.position(PLAIN), both.position(IMMEDIATE)) == (1, 1)
    for topic, _ in (PLAIN, IMMEDIATE):
        kafka.append(topic, b"next")
    both.pause([PLAIN, IMMEDIATE])
    assert both.poll(0) == []
    both.resume([IMMEDIATE])
    assert [m.topic() for m in both.poll(0)] == ["immediate"]
    both.resume([PLAIN])
    assert [m.topic() for m in both.poll(0)] == ["plain"]
    both.remove([PLAIN])
    assert (committed.is_reading, uncommitted.is_reading) == (False, True)
    both.close()
    assert not both.is_reading


def test_a_poll_waits_where_something_is_read(kafka: MemoryKafka) -> None:
    """Shortly, as records of the one do not end the wait of the other."""
    committed, uncommitted = Reader(kafka), Reader(kafka)
    both = InputConsumer(committed, uncommitted, {IMMEDIATE[0]})
    both.add({IMMEDIATE: 0})
    both.poll(9.0)
    both.add({PLAIN: 0})
    both.poll(9.0)
    assert (committed.waits, uncommitted.waits) == ([POLL_S_MAX], [POLL_S_MAX, 0.0])


def test_what_cannot_be_read_is_passed_over(kafka: MemoryKafka) -> None:
    """By the consumer of its topic."""
    committed, uncommitted = Reader(kafka), Reader(kafka)
    both = InputConsumer(committed, uncommitted, {IMMEDIATE[0]})
    kafka.append("immediate", b"readable")
    kafka.log(IMMEDIATE).unreadable = range(1)
    both.pass_over({PLAIN: [], IMMEDIATE: [(0, 0)]})
    both.add({IMMEDIATE: 0})
    assert [m.value() for m in both.poll(0)] == [b"readable"]


def test_a_group_that_is_closed_reads_nothing() -> None:
    """Its inputs and its lineage are the next owner's; each of them was read before."""
    app = App("owner")
    app.stream("in", value=text).to("out", value=text)
    with TestDriver(app) as driver:
        worker = driver.rig.worker
        consumer = worker.context.clients.consumer
        assert consumer.position(("in", 0)) == 0
        assert consumer.position(("owner-lineage", 0)) > 0
        worker.groups[0].close()
        assert not consumer.is_reading
        driver.crash()
