"""One contract for the ports, held by the in-memory Kafka and by the adapters over a real one.

What the runtime relies on is stated here once; a difference means that tests over `MemoryKafka`
prove nothing about production.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kstash.errors import MemberFencedError, OffsetOutOfRangeError, ProducerFailedError
from kstash.ports.kafka import (
    Cluster,
    Consumer,
    Membership,
    Message,
    NewTopic,
    Partition,
    SinkProducer,
)
from kstash.runtime.inputs import take
from kstash.settings.config import Config
from kstash.testing import MemoryCluster, MemoryKafka

DEADLINE_S = 30.0


class World:
    """Clusters of one application, and a topic `data` with two partitions."""

    def __init__(self, application_id: str, cluster: Callable[[str], Cluster]) -> None:
        self.cluster = cluster
        self.main = cluster("a")
        self.data = f"{application_id}-data"
        self.lineage = f"{application_id}-lineage"
        self.admin = self.main.admin()
        self.admin.create([NewTopic(self.data, 2, None, {}), NewTopic(self.lineage, 2, None, {})])
        self._closers: list[Callable[[], None]] = [self.admin.close]

    def closing(self, client: Any, **arguments: Any) -> Any:
        """Close a client at the end of the test."""
        self._closers.append(lambda: client.close(**arguments))
        return client

    def sink(self) -> SinkProducer:
        """A sink producer of group 1 that is initialised."""
        producer: SinkProducer = self.closing(self.main.sink_producer(1))
        initialised(producer)
        return producer

    def scanner(self, offsets: dict[Partition, int]) -> Consumer:
        """A scanner that reads from given offsets."""
        scanner: Consumer = self.closing(self.main.scanner())
        scanner.add(offsets)
        return scanner

    def consumer(self, offsets: dict[Partition, int] | None = None) -> Consumer:
        """A worker's consumer, which reads from given offsets."""
        consumer: Consumer = self.closing(self.main.consumer())
        if offsets:
            consumer.add(offsets)
        return consumer

    def member(self, name: str, calls: list[tuple[str, list[int]]]) -> Membership:
        """A member that notes its callbacks."""
        membership: Membership = self.closing(self.cluster(name).membership(), leave=True)
        membership.subscribe(
            on_assigned=lambda groups: calls.append(("assigned", groups)),
            on_revoked=lambda groups: calls.append(("revoked", groups)),
            on_lost=lambda groups: calls.append(("lost", groups)),
        )
        return membership

    def close(self) -> None:
        """Close all clients, the last one first."""
        for close in reversed(self._closers):
            close()


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.integration)])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """The same world over both."""
    application_id = f"contract-{uuid.uuid4().hex[:8]}"
    if request.param == "memory":
        kafka = MemoryKafka()
        made = World(
            application_id, lambda name: MemoryCluster(kafka, application_id, member_id=name)
        )
    else:
        from kstash.kafka import KafkaCluster

        servers = request.getfixturevalue("kafka_broker").bootstrap_servers

        def cluster(name: str) -> Cluster:
            return KafkaCluster(
                Config.load(
                    application_id=application_id, bootstrap_servers=servers, instance_id=name
                ),
                tells_ends=True,
            )

        made = World(application_id, cluster)
    yield made
    made.close()


def until(condition: Callable[[], object], *steps: Callable[[], object]) -> None:
    """Take the steps in turn until the condition holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "not within the deadline"
        for step in steps:
            step()


def initialised(producer: SinkProducer) -> str | None:
    """Initialise a sink producer; returns the committed position."""
    answers: list[tuple[Exception | None, str | None]] = []
    producer.initialise(lambda error, metadata: answers.append((error, metadata)))
    until(lambda: answers, producer.poll)
    assert answers[0][0] is None
    return answers[0][1]


def committed(producer: SinkProducer, metadata: str) -> None:
    """Commit and wait for it."""
    done: list[Exception | None] = []
    producer.commit(metadata, done.append)
    until(lambda: done, producer.poll)
    assert done == [None]


def values(messages: list[Message]) -> list[bytes | None]:
    """Values of messages."""
    return [message.value() for message in messages]


def read(reader: Consumer, count: int) -> list[Message]:
    """Poll until so many messages have come, and once more: there must not be another."""
    messages: list[Message] = []
    until(lambda: len(messages) >= count, lambda: messages.extend(reader.poll(0.1)))
    messages.extend(reader.poll(0.3))
    assert len(messages) == count
    return messages


def test_record_comes_back_as_it_was_produced(world: World) -> None:
    """Null and empty stay apart in key, value and header; callbacks name offsets in order."""
    producer = world.closing(world.main.data_producer())
    acks: list[int] = []

    def acked(error: Any, message: Any) -> None:
        assert error is None
        acks.append(message.offset())

    headers: list[tuple[str, bytes | None]] = [("h", b""), ("h", None), ("g", b"x")]
    producer.produce(world.data, b"v", b"k", 1, acked, 1234, headers)
    producer.produce(world.data, b"", None, 1, acked, 1235, None)
    producer.produce(world.data, None, b"", 1, acked, 1236, None)
    until(lambda: len(producer) == 0, producer.poll)
    assert acks == [0, 1, 2]
    messages = read(world.scanner({(world.data, 1): 0}), 3)
    assert [(m.key(), m.value()) for m in messages] == [(b"k", b"v"), (None, b""), (b"", None)]
    assert [m.timestamp()[1] for m in messages] == [1234, 1235, 1236]
    assert messages[0].headers() == headers
    assert not messages[1].headers()
    assert world.admin.end_offsets([(world.data, 0), (world.data, 1)]) == {
        (world.data, 0): 0,
        (world.data, 1): 3,
    }


def test_stable_ends_stop_at_the_first_open_transaction(world: World) -> None:
    """Where a committed reader gets to: after it, once it is committed, with its marker."""
    sink = world.sink()
    place = world.data, 0
    sink.produce(world.data, b"open", None, 0, None, 0, None)
    until(lambda: len(sink) == 0, sink.poll)

    def ends(ask: Callable[[list[Partition]], Callable[[], dict[Partition, int] | None]]) -> int:
        answer, found = ask([place]), dict[Partition, int]()
        until(lambda: bool(found), lambda: found.update(answer() or {}))
        return found[place]

    assert (ends(world.admin.ask_stable_ends), ends(world.admin.ask_end_offsets)) == (0, 1)
    committed(sink, "done")
    # A commit is acknowledged before its marker is written.
    until(lambda: ends(world.admin.ask_stable_ends) == 2)


def test_records_are_deleted_below_a_limit(world: World) -> None:
    """The log starts there; asked for without waiting. A lower limit, or none there, says so."""
    producer = world.closing(world.main.data_producer())
    for _ in range(5):
        producer.produce(world.data, b"v", None, 1, None, 0, None)
    until(lambda: len(producer) == 0, producer.poll)

    def answer(ask: Callable[[], dict[Partition, int] | None]) -> dict[Partition, int]:
        found: list[dict[Partition, int]] = []
        until(lambda: bool(found), lambda: found.extend(a for a in [ask()] if a is not None))
        return found[0]

    both = [(world.data, 0), (world.data, 1)]
    assert answer(world.admin.delete_records({both[1]: 3})) == {both[1]: 3}
    assert answer(world.admin.delete_records({both[1]: 1})) == {both[1]: 3}
    assert answer(world.admin.ask_start_offsets(both)) == {both[0]: 0, both[1]: 3}
    assert len(read(world.scanner({both[1]: 3}), 2)) == 2


def test_transaction_is_seen_at_once_or_at_its_commit(world: World) -> None:
    """A scanner sees open transactions; a worker waits, also for what others wrote after them."""
    sink, plain = world.sink(), world.closing(world.main.data_producer())
    reader = world.consumer({(world.data, 0): 0})
    sink.produce(world.data, b"inside", None, 0, None, 0, None)
    until(lambda: len(sink) == 0, sink.poll)
    plain.produce(world.data, b"after", None, 0, None, 0, None)
    until(lambda: len(plain) == 0, plain.poll)
    assert values(read(world.scanner({(world.data, 0): 0}), 2)) == [b"inside", b"after"]
    assert read(reader, 0) == []
    committed(sink, "position")
    assert values(read(reader, 2)) == [b"inside", b"after"]


def test_position_moves_past_the_marker_at_the_end(world: World) -> None:
    """The end of a log that ends with a marker is reached by position, never by a record."""
    sink = world.sink()
    sink.produce(world.data, b"v", None, 0, None, 0, None)
    committed(sink, "position")
    scanner = world.scanner({(world.data, 0): 0})
    # A commit is acknowledged before its marker is written.
    until(lambda: scanner.position((world.data, 0)) == 2, lambda: scanner.poll(0.1))
    assert world.admin.end_offsets([(world.data, 0)]) == {(world.data, 0): 2}


def test_successor_aborts_fences_and_learns_the_position(world: World) -> None:
    """The open transaction of the predecessor is aborted before `initialise` is done."""
    old = world.sink()
    committed(old, "first")
    old.produce(world.data, b"aborted", None, 0, None, 0, None)
    until(lambda: len(old) == 0, old.poll)
    new: SinkProducer = world.closing(world.main.sink_producer(1))
    assert initialised(new) == "first"
    new.produce(world.data, b"valid", None, 0, None, 0, None)
    committed(new, "second")
    reader = world.consumer({(world.data, 0): 0})
    assert values(read(reader, 1)) == [b"valid"]
    assert values(read(world.scanner({(world.data, 0): 0}), 2)) == [b"aborted", b"valid"]

    def write() -> None:
        old.produce(world.data, b"zombie", None, 0, None, 0, None)
        done: list[Exception | None] = []
        old.commit("zombie", done.append)
        until(lambda: done, old.poll)
        if done[0] is not None:
            raise done[0]

    with pytest.raises(ProducerFailedError) as caught:
        write()
    assert caught.value.is_fenced
    successor: SinkProducer = world.closing(world.main.sink_producer(1))
    assert initialised(successor) == "second"


def test_position_is_committed_without_records(world: World) -> None:
    """An offsets-only transaction writes nothing into topics."""
    sink = world.sink()
    committed(sink, "alone")
    assert world.admin.end_offsets([(world.data, 0)]) == {(world.data, 0): 0}
    successor: SinkProducer = world.closing(world.main.sink_producer(1))
    assert initialised(successor) == "alone"


def test_lineage_and_data_come_from_one_consumer(world: World) -> None:
    """It reads what it was given, whoever owns it; what it is not given is silent."""
    producer = world.closing(world.main.lineage_producer())
    for topic in (world.lineage, world.data):
        for partition in (0, 1):
            producer.produce(topic, topic.encode(), None, partition, None, 0, None)
    until(lambda: len(producer) == 0, producer.poll)
    reader = world.consumer({(world.data, 1): 0})
    reader.add({(world.lineage, 1): 0})
    assert sorted(map(bytes, filter(None, values(read(reader, 2))))) == sorted(
        [world.lineage.encode(), world.data.encode()]
    )


def test_consumer_knows_whether_it_reads_anything(world: World) -> None:
    """Also what is paused; a worker that reads nothing waits for its group instead."""
    reader = world.consumer()
    steps: list[Callable[[], None]] = [
        lambda: None,
        lambda: reader.add({(world.data, 0): 0}),
        lambda: reader.pause([(world.data, 0)]),
        lambda: reader.remove([(world.data, 0), (world.data, 1)]),
    ]
    found = []
    for step in steps:
        step()
        found.append(reader.is_reading)
    assert found == [False, True, True, False]


@pytest.mark.parametrize("kind", ["committed", "uncommitted"])
def test_consumer_knows_when_it_has_read_all(world: World, kind: str) -> None:
    """Of an empty partition, after records, and before a transaction that is open."""
    partition = world.data, 0
    reader = reader_of(world, kind)
    assert not reader.is_at_end(partition)
    reader.add({partition: 0})
    until(lambda: reader.is_at_end(partition), lambda: reader.poll(0.1))
    producer = world.closing(world.main.data_producer())
    producer.produce(world.data, b"1", None, 0, None, 0, None)
    until(lambda: len(producer) == 0, producer.poll)
    assert values(read(reader, 1)) == [b"1"]
    until(lambda: reader.is_at_end(partition), lambda: reader.poll(0.1))
    sink = world.sink()
    sink.produce(world.data, b"open", None, 0, None, 0, None)
    until(lambda: len(sink) == 0, sink.poll)
    if kind == "uncommitted":
        assert values(read(reader, 1)) == [b"open"]
    until(lambda: reader.is_at_end(partition), lambda: reader.poll(0.1))
    committed(sink, "position")
    if kind == "committed":
        assert values(read(reader, 1)) == [b"open"]
    # Its marker is passed, too.
    until(lambda: reader.is_at_end(partition), lambda: reader.poll(0.1))
    reader.remove([partition])
    assert not reader.is_at_end(partition)


def test_a_member_reads_what_its_callbacks_add(world: World) -> None:
    """The wait is for the group first, and then for records."""
    producer = world.closing(world.main.data_producer())
    for partition in (0, 1):
        producer.produce(world.data, b"%d" % partition, None, partition, None, 0, None)
    until(lambda: len(producer) == 0, producer.poll)
    reader = world.consumer()
    membership: Membership = world.closing(world.main.membership(), leave=True)

    def assigned(groups: list[int]) -> None:
        reader.add({(world.data, group): 0 for group in groups})

    def given_up(groups: list[int]) -> None:
        reader.remove([(world.data, group) for group in groups])

    membership.subscribe(on_assigned=assigned, on_revoked=given_up, on_lost=given_up)
    messages: list[Message] = []
    until(lambda: len(messages) == 2, lambda: messages.extend(take(membership, reader, 0.1)))
    assert sorted(map(bytes, filter(None, values(messages)))) == [b"0", b"1"]


def test_second_member_gets_half_and_gives_it_back(world: World) -> None:
    """A newcomer gets a group once its owner releases it, and leaves it to it when it goes."""
    calls: dict[str, list[tuple[str, list[int]]]] = {"a": [], "b": []}
    first = world.member("a", calls["a"])
    until(lambda: calls["a"], lambda: first.poll(0.1))
    second: Membership = world.cluster("b").membership()
    second.subscribe(
        on_assigned=lambda groups: calls["b"].append(("assigned", groups)),
        on_revoked=lambda groups: calls["b"].append(("revoked", groups)),
        on_lost=lambda groups: calls["b"].append(("lost", groups)),
    )

    def both() -> None:
        first.poll(0.1)
        second.poll(0.1)

    until(lambda: len(calls["a"]) == 2, both)
    for _ in range(5):
        both()
    assert calls["b"] == []
    moved = calls["a"][1][1]
    first.release(moved)
    until(lambda: calls["b"], both)
    assert len(moved) == 1
    assert calls["a"] == [("assigned", [0, 1]), ("revoked", moved)]
    assert calls["b"] == [("assigned", moved)]
    second.close(leave=True)
    until(lambda: len(calls["a"]) == 3, lambda: first.poll(0.1))
    assert calls["a"][2] == ("assigned", moved)
    assert len(calls["b"]) == 1


def test_static_member_takes_the_place_of_its_predecessor(world: World) -> None:
    """The successor gets the groups at once, the zombie an error."""
    calls: list[tuple[str, list[int]]] = []
    zombie = world.member("a", calls)
    until(lambda: calls, lambda: zombie.poll(0.1))
    successor = world.member("a", calls)
    until(lambda: len(calls) == 2, lambda: successor.poll(0.1))
    assert calls == [("assigned", [0, 1]), ("assigned", [0, 1])]
    with pytest.raises(MemberFencedError):
        until(lambda: False, lambda: zombie.poll(0.1))


def test_offset_beyond_the_end_is_an_error(world: World) -> None:
    """It names topic and partition."""
    scanner = world.scanner({(world.data, 0): 5})
    with pytest.raises(OffsetOutOfRangeError) as caught:
        until(lambda: False, lambda: scanner.poll(0.1))
    assert (caught.value.topic, caught.value.partition) == (world.data, 0)


def reader_of(world: World, kind: str) -> Consumer:
    """A consumer of inputs: those read committed, or those read at once."""
    if kind == "committed":
        return world.consumer()
    consumer: Consumer = world.closing(world.main.uncommitted_consumer())
    return consumer


@pytest.mark.parametrize("kind", ["committed", "uncommitted"])
def test_paused_partition_goes_on_where_it_was(world: World, kind: str) -> None:
    """Nothing is lost and nothing comes twice over a pause."""
    producer = world.closing(world.main.data_producer())
    reader = reader_of(world, kind)
    reader.add({(world.data, 0): 0})
    for number in range(3):
        producer.produce(world.data, b"%d" % number, None, 0, None, 0, None)
        until(lambda: len(producer) == 0, producer.poll)
        if number == 0:
            assert values(read(reader, 1)) == [b"0"]
            reader.pause([(world.data, 0)])
    assert read(reader, 0) == []
    reader.resume([(world.data, 0)])
    assert values(read(reader, 2)) == [b"1", b"2"]


@pytest.mark.parametrize("kind", ["committed", "uncommitted"])
def test_partition_that_was_paused_is_read_when_added_anew(world: World, kind: str) -> None:
    """A group that was lost while the inputs were paused, and came back, goes on."""
    producer = world.closing(world.main.data_producer())
    producer.produce(world.data, b"record", None, 0, None, 0, None)
    until(lambda: len(producer) == 0, producer.poll)
    reader = reader_of(world, kind)
    reader.add({(world.data, 0): 0})
    reader.pause([(world.data, 0)])
    reader.remove([(world.data, 0)])
    reader.resume([(world.data, 0)])
    reader.add({(world.data, 0): 0})
    assert values(read(reader, 1)) == [b"record"]
