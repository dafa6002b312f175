"""The adapters over confluent-kafka do on a real Kafka what `kstash.ports` promises."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka import Producer as Client
from confluent_kafka.admin import AdminClient
from structlog.testing import capture_logs

from kstash.broker import DevBroker
from kstash.config import Config
from kstash.errors import (
    KafkaUnavailableError,
    MemberFencedError,
    OffsetOutOfRangeError,
    ProducerFailedError,
    RecordTooLargeError,
    TopicMissingError,
)
from kstash.kafka import KafkaCluster
from kstash.ports import (
    Admin,
    Member,
    Message,
    NewTopic,
    Partition,
    Producer,
    Scanner,
    SinkProducer,
)

pytestmark = pytest.mark.integration

DEADLINE_S = 60.0


class World:
    """A cluster of clients of one application, closed behind the test."""

    def __init__(self, broker: DevBroker, application_id: str) -> None:
        self.broker = broker
        self.application_id = application_id
        self.lineage_topic = f"{application_id}-lineage"
        self._closing = contextlib.ExitStack()
        self.admin: Admin = self.cluster().admin()

    def cluster(self, **settings: Any) -> KafkaCluster:
        """The factory of another worker."""
        return KafkaCluster(
            Config.load(
                application_id=self.application_id,
                bootstrap_servers=self.broker.bootstrap_servers,
                session_timeout_ms=6000,
                **settings,
            )
        )

    def create(self, topic: str, partitions: int = 1, **config: str) -> str:
        """Create a topic."""
        settings = {key.replace("_", "."): value for key, value in config.items()}
        self.admin.create([NewTopic(topic, partitions, None, settings)])
        return topic

    def write(self, topic: str, values: list[bytes], partition: int = 0) -> None:
        """Append records by a client of its own."""
        client = Client({"bootstrap.servers": self.broker.bootstrap_servers})
        for value in values:
            client.produce(topic, value, partition=partition)
        assert client.flush(DEADLINE_S) == 0

    def member(self, groups: list[int] | None = None, **settings: Any) -> Owner:
        """A member that has joined; with `groups`, that owns exactly these."""
        owner = Owner(self.cluster(**settings).member())
        self._closing.callback(owner.close)
        if groups is not None:
            owner.wait(lambda: owner.groups == set(groups), "the groups")
        return owner

    def scanner(self) -> Scanner:
        """A scanner."""
        scanner = self.cluster().scanner()
        self._closing.callback(scanner.close)
        return scanner

    def sink(self, group: int = 0, *, expect: str | None = None) -> SinkProducer:
        """An initialised sink producer; `expect` is the committed position it must read."""
        sink = self.cluster().sink_producer(group)
        self._closing.callback(sink.close)
        told: list[tuple[Exception | None, str | None]] = []
        sink.initialise(lambda error, metadata: told.append((error, metadata)))
        wait_for(lambda: bool(told), sink.poll, "init_transactions")
        assert told == [(None, expect)]
        return sink

    def close(self) -> None:
        """Close all clients."""
        self._closing.close()
        self.admin.close()


class Owner:
    """A member with its groups, and every message it got."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.groups: set[int] = set()
        self.calls: list[tuple[str, list[int]]] = []
        self.messages: list[Message] = []
        self.is_closed = False

        def assigned(groups: list[int]) -> None:
            self.calls.append(("assigned", groups))
            self.groups.update(groups)

        def revoked(groups: list[int]) -> None:
            self.calls.append(("revoked", groups))
            self.groups.difference_update(groups)

        def lost(groups: list[int]) -> None:
            self.calls.append(("lost", groups))
            self.groups.difference_update(groups)

        member.subscribe(on_assigned=assigned, on_revoked=revoked, on_lost=lost)

    def poll(self, timeout_s: float = 0.05) -> None:
        """Take what is there."""
        self.messages += self.member.poll(timeout_s)

    def wait(self, until: Callable[[], bool], what: str) -> None:
        """Poll until something holds."""
        wait_for(until, self.poll, what)

    def values(self, topic: str) -> list[bytes | None]:
        """Values of a topic got so far."""
        return [m.value() for m in self.messages if m.topic() == topic]

    def close(self, *, leave: bool = False) -> None:
        """Close the member, once."""
        if not self.is_closed:
            self.is_closed = True
            self.member.close(leave=leave)


def wait_for(until: Callable[[], bool], step: Callable[[], object], what: str) -> None:
    """Do `step` until something holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not until():
        assert time.monotonic() < deadline, f"waited for {what} in vain"
        step()
        time.sleep(0.001)


def drain(owner: Member | Scanner, seconds: float) -> list[Message]:
    """Everything that a consumer hands out in some time."""
    messages: list[Message] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        messages += owner.poll(0.02)
    return messages


def take(reader: Member | Scanner, count: int) -> list[Message]:
    """Messages until there are `count`."""
    messages: list[Message] = []
    wait_for(lambda: len(messages) >= count, lambda: messages.extend(reader.poll(0.05)), "records")
    return messages


def committed_values(world: World, topic: str) -> list[bytes | None]:
    """What a plain `read_committed` reader sees in partition 0 now."""
    reader = Consumer(
        {
            "bootstrap.servers": world.broker.bootstrap_servers,
            "group.id": "plain",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    reader.assign([TopicPartition(topic, 0, 0)])
    values: list[bytes | None] = []
    while (message := reader.poll(DEADLINE_S)) is not None and message.error() is None:
        values.append(message.value())
    reader.close()
    return values


@pytest.fixture
def world(kafka_broker: DevBroker, application_id: str) -> Iterator[World]:
    """The clients of an application of this test."""
    world = World(kafka_broker, application_id)
    yield world
    world.close()


@pytest.fixture
def lineage(world: World) -> str:
    """A lineage topic of two task groups with records L0, L1, L2 in each."""
    topic = world.create(world.lineage_topic, 2)
    for group in (0, 1):
        world.write(topic, [b"L0", b"L1", b"L2"], group)
    return topic


# --- member -------------------------------------------------------------------------------------


def test_nothing_is_handed_out_before_follow(world: World, lineage: str) -> None:
    """An assigned lineage partition is silent; `follow` starts at its offset; it can go back."""
    owner = world.member([0, 1])
    assert drain(owner.member, 1.0) == []
    owner.member.follow(0, 1)
    assert [(m.partition(), m.value()) for m in take(owner.member, 2)] == [(0, b"L1"), (0, b"L2")]
    owner.member.follow(0, 0)
    assert [m.offset() for m in take(owner.member, 3)] == [0, 1, 2]
    assert owner.member.position((lineage, 0)) == 3


def test_follow_from_the_callback(world: World, lineage: str) -> None:
    """`follow` and `add` inside `on_assigned` work as outside."""
    data = world.create(f"{world.application_id}-data", 2)
    world.write(data, [b"D"], 1)
    member = world.cluster().member()

    def assigned(groups: list[int]) -> None:
        for group in groups:
            member.follow(group, 2)
            member.add({(data, group): 0})

    member.subscribe(on_assigned=assigned, on_revoked=lambda _: None, on_lost=lambda _: None)
    messages = sorted((str(m.topic()), m.partition(), m.offset()) for m in take(member, 3))
    member.close(leave=True)
    assert messages == sorted([(lineage, 0, 2), (lineage, 1, 2), (data, 1, 0)])


@pytest.mark.usefixtures("lineage")
def test_data_partitions_start_at_explicit_offsets(world: World) -> None:
    """Data of several topics arrives from the offsets given, in order per partition."""
    one = world.create(f"{world.application_id}-one", 2)
    two = world.create(f"{world.application_id}-two")
    world.write(one, [b"a", b"b", b"c"])
    world.write(one, [b"x"], 1)
    world.write(two, [b"d", b"e"])
    owner = world.member([0, 1])
    owner.member.add({(one, 0): 1, (one, 1): 1})
    owner.member.add({(two, 0): 0})
    owner.wait(lambda: len(owner.messages) == 4, "the records")
    assert owner.values(one) == [b"b", b"c"]
    assert owner.values(two) == [b"d", b"e"]
    world.write(one, [b"y"], 1)
    owner.wait(lambda: len(owner.messages) == 5, "a later record")


@pytest.mark.usefixtures("lineage")
def test_removed_and_paused_partitions_are_silent(world: World) -> None:
    """After `remove` and `pause` nothing comes, not even what was fetched; `resume` goes on."""
    data = world.create(f"{world.application_id}-data", 2)
    for partition in (0, 1):
        world.write(data, [b"%d" % i for i in range(2000)], partition)
    owner = world.member([0, 1])
    owner.member.add({(data, 0): 0, (data, 1): 0})
    seen = len(take(owner.member, 1))
    owner.member.remove([(data, 0)])
    owner.member.pause([(data, 1)])
    assert drain(owner.member, 0.5) == []
    owner.member.resume([(data, 1)])
    rest = take(owner.member, 1)
    assert {m.partition() for m in rest} == {1}
    owner.member.add({(data, 0): 1999})
    messages = drain(owner.member, 1.0) + rest
    assert [m.offset() for m in messages if m.partition() == 0] == [1999]
    assert seen > 0


def test_groups_move_between_members(world: World, lineage: str) -> None:
    """A second member takes one group, cooperatively; when it closes, the first gets it back."""
    first = world.member([0, 1])
    first.member.follow(0, 0)
    first.member.follow(1, 0)
    first.wait(lambda: len(first.messages) == 6, "lineage")
    second = world.member()
    wait_for(
        lambda: len(first.groups) == len(second.groups) == 1,
        lambda: [owner.poll() for owner in (first, second)],  # type: ignore[func-returns-value]
        "one group each",
    )
    kept = min(first.groups)
    assert ("revoked", [1 - kept]) in first.calls
    world.write(lineage, [b"L3"], kept)
    world.write(lineage, [b"other"], 1 - kept)
    first.messages.clear()
    first.wait(lambda: len(first.messages) == 1, "the kept group's record")
    assert (drain(first.member, 0.3), first.messages[0].value()) == ([], b"L3")
    second.close()
    first.wait(lambda: first.groups == {0, 1}, "the group back")


@pytest.mark.usefixtures("lineage")
def test_data_removed_in_a_revocation(world: World) -> None:
    """Data that `on_revoked` removes is silent at once; what the member keeps goes on."""
    data = world.create(f"{world.application_id}-data", 2)
    member = world.cluster().member()
    owned: set[int] = set()
    removed: set[int] = set()
    got: list[tuple[int, int]] = []

    def assigned(groups: list[int]) -> None:
        owned.update(groups)
        for group in groups:
            member.add({(data, group): 0})
            member.follow(group, 0)

    def revoked(groups: list[int]) -> None:
        owned.difference_update(groups)
        member.remove([(data, group) for group in groups])
        removed.update(groups)

    def poll() -> None:
        for message in member.poll(0.02):
            assert message.partition() not in removed, "from a group that was given up"
            if message.topic() == data:
                got.append((message.partition(), message.offset()))
        for partition in (0, 1):
            client.produce(data, b"x", partition=partition)
        client.poll(0)

    client = Client({"bootstrap.servers": world.broker.bootstrap_servers})
    member.subscribe(on_assigned=assigned, on_revoked=revoked, on_lost=revoked)
    wait_for(lambda: {partition for partition, _ in got} == {0, 1}, poll, "data of both groups")
    second = world.member()
    wait_for(lambda: len(second.groups) == 1, lambda: [poll(), second.poll()], "the move")  # type: ignore[func-returns-value]
    assert removed == second.groups
    seen = len(got)
    wait_for(lambda: len(got) > seen + 20, poll, "data of the kept group")
    (kept,) = owned
    offsets = [offset for partition, offset in got if partition == kept]
    assert offsets == list(range(len(offsets)))
    client.flush(DEADLINE_S)
    member.close(leave=True)


@pytest.mark.usefixtures("lineage")
def test_static_member_restarts_into_its_place(world: World) -> None:
    """A static member that went without leaving gets its groups back at once, without others."""
    first = world.member([0, 1], instance_id="a")
    started = time.monotonic()
    first.close()
    again = world.member([0, 1], instance_id="a")
    assert time.monotonic() - started < 4.0, "waited for the session timeout"
    assert again.calls == [("assigned", [0, 1])]


@pytest.mark.usefixtures("lineage")
def test_static_member_leaves_when_told_to(world: World) -> None:
    """`close(leave=True)` of a static member frees its groups at once."""
    data = world.create(f"{world.application_id}-data")
    world.write(data, [b"D"])
    first = world.member([0, 1], instance_id="a")
    first.member.follow(0, 0)
    first.member.add({(data, 0): 0})
    first.poll()
    started = time.monotonic()
    first.close(leave=True)
    world.member([0, 1], instance_id="b")
    assert time.monotonic() - started < 4.0, "waited for the session timeout"
    assert [call for call, _ in first.calls] == ["assigned"]


def test_zombie_is_fenced_and_silent(world: World, lineage: str) -> None:
    """Whose place was taken by a member of the same name hears it and gets nothing any more."""
    zombie = world.member([0, 1], instance_id="a")
    zombie.member.follow(0, 0)
    zombie.wait(lambda: len(zombie.messages) == 3, "lineage")
    world.member([0, 1], instance_id="a")
    world.write(lineage, [b"L3"])
    zombie.messages.clear()
    with pytest.raises(MemberFencedError, match="took this member's place"):
        zombie.wait(lambda: False, "the fence")
    for _ in range(3):
        with pytest.raises(MemberFencedError):
            zombie.poll()
    assert zombie.calls == [("assigned", [0, 1])]


@pytest.mark.usefixtures("lineage")
def test_offset_beyond_the_log_is_an_error(world: World) -> None:
    """An offset that is not in the log is named, and the other partitions go on."""
    data = world.create(f"{world.application_id}-data", 2)
    world.write(data, [b"a"], 1)
    owner = world.member([0, 1])
    owner.member.add({(data, 0): 77, (data, 1): 0})
    with pytest.raises(OffsetOutOfRangeError) as caught:
        owner.wait(lambda: False, "the error")
    assert (caught.value.topic, caught.value.partition, caught.value.offset) == (data, 0, 77)
    owner.wait(lambda: owner.values(data) == [b"a"], "the other partition")


@pytest.mark.usefixtures("lineage")
def test_offset_below_the_log_start_is_an_error(world: World) -> None:
    """An offset that was deleted from the log is named."""
    data = world.create(f"{world.application_id}-data")
    world.write(data, [b"a", b"b", b"c"])
    admin = AdminClient({"bootstrap.servers": world.broker.bootstrap_servers})
    for future in admin.delete_records([TopicPartition(data, 0, 2)]).values():
        future.result()
    assert world.admin.start_offsets([(data, 0)]) == {(data, 0): 2}
    owner = world.member([0, 1])
    owner.member.add({(data, 0): 1})
    with pytest.raises(OffsetOutOfRangeError, match="partition 0, offset 1"):
        owner.wait(lambda: False, "the error")


def test_deleted_topic_is_told(world: World, lineage: str) -> None:
    """A data topic, then the lineage topic, deleted under the member: the error names them."""
    data = world.create(f"{world.application_id}-data")
    owner = world.member([0, 1])
    owner.member.add({(data, 0): 0})
    drain(owner.member, 3.0)  # a topic is taken for new, and waited for, in its first seconds
    delete(world, data)
    with pytest.raises(TopicMissingError, match=data):
        owner.wait(lambda: False, "the error")
    owner.member.remove([(data, 0)])
    delete(world, lineage)
    owner.member.follow(0, 0)
    with pytest.raises(TopicMissingError) as caught:
        owner.wait(lambda: False, "the error")
    assert caught.value.topics == (lineage,)


def delete(world: World, topic: str) -> None:
    """Delete a topic."""
    admin = AdminClient({"bootstrap.servers": world.broker.bootstrap_servers})
    for future in admin.delete_topics([topic]).values():
        future.result()


@pytest.mark.usefixtures("lineage")
def test_offsets_for_lag_tools(world: World) -> None:
    """Offsets of data partitions are committed in the application's group without a wait."""
    data = world.create(f"{world.application_id}-data")
    world.write(data, [b"a", b"b"])
    owner = world.member([0, 1])
    owner.member.add({(data, 0): 0})
    owner.wait(lambda: len(owner.messages) == 2, "records")
    started = time.monotonic()
    owner.member.commit({(data, 0): 2})
    assert time.monotonic() - started < 0.5
    reader = Consumer(
        {
            "bootstrap.servers": world.broker.bootstrap_servers,
            "group.id": world.application_id,
        }
    )

    def offset() -> int:
        return reader.committed([TopicPartition(data, 0)], timeout=DEADLINE_S)[0].offset

    owner.wait(lambda: offset() == 2, "the committed offset")
    reader.close()


# --- scanner ------------------------------------------------------------------------------------


def test_scanner_sees_open_and_aborted_records(world: World, lineage: str) -> None:
    """A scanner reads uncommitted records, and its position moves past transaction markers."""
    out = world.create(f"{world.application_id}-out")
    sink = world.sink()
    sink.produce(out, b"aborted", None, 0, None, 0, None)
    assert sink.flush(DEADLINE_S) == 0
    sink = world.sink()
    sink.produce(out, b"committed", None, 0, None, 0, None)
    commit(sink, "p")
    sink.produce(out, b"open", None, 0, None, 0, None)
    assert sink.flush(DEADLINE_S) == 0
    scanner = world.scanner()
    scanner.add({(out, 0): 0, (lineage, 1): 3})
    messages = take(scanner, 3)
    assert [(m.offset(), m.value()) for m in messages] == [
        (0, b"aborted"),
        (2, b"committed"),
        (4, b"open"),
    ]
    commit(sink, "q")
    end = world.admin.end_offsets([(out, 0)])[out, 0]
    assert end == 6
    wait_for(lambda: scanner.position((out, 0)) == end, lambda: scanner.poll(0.05), "the end")
    assert scanner.position((lineage, 1)) == 3
    scanner.remove([(out, 0)])
    assert committed_values(world, out) == [b"committed", b"open"]


# --- producers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["data", "lineage", "marker", "claim"])
def test_producers_append_and_acknowledge(world: World, kind: str) -> None:
    """Each kind writes key, value, headers and timestamp and calls back with offsets."""
    topic = world.create(f"{world.application_id}-t", 2)
    producer: Producer = getattr(world.cluster(), f"{kind}_producer")()
    offsets: list[tuple[Any, int]] = []
    headers: list[tuple[str, bytes | None]] = [("__kstash.s", b"\x00\x01"), ("n", None)]
    for index in range(3):
        producer.produce(
            topic,
            b"v%d" % index,
            b"k",
            1,
            lambda error, message: offsets.append((error, message.offset())),
            1_700_000_000_000 + index,
            headers,
        )
    wait_for(lambda: len(offsets) == 3, producer.poll, "acks")
    assert offsets == [(None, 0), (None, 1), (None, 2)]
    wait_for(lambda: len(producer) == 0, producer.poll, "nothing more outstanding")
    scanner = world.scanner()
    scanner.add({(topic, 1): 0})
    last = take(scanner, 3)[2]
    assert (last.key(), last.value(), last.timestamp()) == (b"k", b"v2", (1, 1_700_000_000_002))
    assert last.headers() == headers
    producer.close()


def test_claim_producer_acknowledges_soon(world: World) -> None:
    """A fresh claim producer's first ack takes far less than an idempotent one's half second."""
    topic = world.create(f"{world.application_id}-t")
    cluster = world.cluster()
    producer = cluster.claim_producer()
    done: list[float] = []
    started = time.monotonic()
    producer.produce(topic, b"", b"k", 0, lambda *_: done.append(time.monotonic()), 0, None)
    wait_for(lambda: bool(done), producer.poll, "the ack")
    assert done[0] - started < 0.4
    producer.close()


def test_too_large_record(world: World) -> None:
    """What the broker refuses stops the producer for good: nothing may follow a lost record."""
    topic = world.create(f"{world.application_id}-t", max_message_bytes="2000")
    producer = world.cluster().data_producer()
    with pytest.raises(RecordTooLargeError, match=topic):
        producer.produce(topic, bytes(101 * 1024 * 1024), None, 0, None, 0, None)
    producer.produce(topic, bytes(5000), None, 0, None, 0, None)
    with pytest.raises(ProducerFailedError, match="too large") as caught:
        wait_for(lambda: False, producer.poll, "the failure")
    assert not caught.value.is_fenced
    with pytest.raises(ProducerFailedError):
        producer.produce(topic, b"later", None, 0, None, 0, None)
    with pytest.raises(ProducerFailedError):
        producer.poll()
    producer.close()
    assert world.admin.end_offsets([(topic, 0)]) == {(topic, 0): 0}


def test_close_forgets_what_waits(world: World) -> None:
    """`close` drops queued records at once and calls nobody back."""
    topic = world.create(f"{world.application_id}-t")
    producer = world.cluster(linger_ms=1000).data_producer()
    told: list[Any] = []
    for _ in range(100):
        producer.produce(topic, b"x", None, 0, lambda *args: told.append(args), 0, None)
    started = time.monotonic()
    producer.close()
    assert time.monotonic() - started < 1.0
    assert told == []


def test_lineage_acks_can_be_late(world: World) -> None:
    """With `lineage_ack_delay_ms` records are written, and so acknowledged, that much later."""
    topic = world.create(f"{world.application_id}-t")
    producer = world.cluster(lineage_ack_delay_ms=1000).lineage_producer()
    scanner = world.scanner()
    scanner.add({(topic, 0): 0})
    acks: list[float] = []
    started = time.monotonic()
    producer.produce(topic, b"x", None, 0, lambda *_: acks.append(time.monotonic()), 0, None)
    wait_for(lambda: bool(acks), producer.poll, "the late ack")
    assert acks[0] - started >= 1.0
    take(scanner, 1)
    wait_for(lambda: len(producer) == 0, producer.poll, "nothing more outstanding")
    producer.close()


# --- sinks --------------------------------------------------------------------------------------


def commit(sink: SinkProducer, metadata: str) -> None:
    """Commit and wait for it."""
    told: list[Exception | None] = []
    sink.commit(metadata, told.append)
    wait_for(lambda: bool(told), sink.poll, "the commit")
    if told[0] is not None:
        raise told[0]


@pytest.mark.usefixtures("lineage")
def test_committed_position_is_read_back(world: World) -> None:
    """The metadata of the last commit is what the next producer of the group reads."""
    out = world.create(f"{world.application_id}-out")
    sink = world.sink(1, expect=None)
    offsets: list[int] = []
    sink.produce(out, b"a", None, 0, lambda _, m: offsets.append(m.offset()), 0, None)
    assert offsets == [], "callbacks run in poll only"
    commit(sink, "1;5;0:7")
    assert offsets == [0]
    sink.produce(out, b"b", None, 0, None, 0, None)
    commit(sink, "1;5;0:9")
    world.sink(1, expect="1;5;0:9")
    world.sink(0, expect=None)
    assert committed_values(world, out) == [b"a", b"b"]


@pytest.mark.usefixtures("lineage")
def test_offsets_only_transaction(world: World) -> None:
    """A commit without records commits the position."""
    sink = world.sink()
    commit(sink, "first")
    commit(sink, "second")
    world.sink(expect="second")


@pytest.mark.usefixtures("lineage")
def test_successor_fences_and_aborts(world: World) -> None:
    """Taking over aborts what was open, its position too, and the predecessor hears of it."""
    out = world.create(f"{world.application_id}-out")
    zombie = world.sink()
    zombie.produce(out, b"a", None, 0, None, 0, None)
    commit(zombie, "a")
    zombie.produce(out, b"b", None, 0, None, 0, None)
    assert zombie.flush(DEADLINE_S) == 0
    started = time.monotonic()
    successor = world.sink(expect="a")
    assert time.monotonic() - started < 2.0
    with pytest.raises(ProducerFailedError) as caught:
        commit(zombie, "b")
    assert caught.value.is_fenced
    with pytest.raises(ProducerFailedError):
        zombie.poll()
    with pytest.raises(ProducerFailedError):
        zombie.produce(out, b"c", None, 0, None, 0, None)
    successor.produce(out, b"d", None, 0, None, 0, None)
    commit(successor, "d")
    world.sink(expect="d")
    assert committed_values(world, out) == [b"a", b"d"]


@pytest.mark.usefixtures("lineage")
def test_groups_commit_side_by_side(world: World) -> None:
    """Two groups of a worker commit at the same time, and neither waits for the other's poll."""
    out = world.create(f"{world.application_id}-out")
    sinks = [world.sink(0), world.sink(1)]
    told: list[int] = []
    for group, sink in enumerate(sinks):
        sink.produce(out, b"%d" % group, None, 0, None, 0, None)

        def done(error: Exception | None, group: int = group) -> None:
            assert error is None
            told.append(group)

        sink.commit("p", done)
    wait_for(lambda: len(told) == 2, lambda: [sink.poll() for sink in sinks], "both commits")  # type: ignore[func-returns-value]
    assert sorted(committed_values(world, out)) == [b"0", b"1"]  # type: ignore[type-var]


@pytest.mark.usefixtures("lineage")
def test_refused_record_fails_the_transaction(world: World) -> None:
    """A record that the broker refuses fails the commit: the group recovers."""
    out = world.create(f"{world.application_id}-out", max_message_bytes="2000")
    sink = world.sink()
    sink.produce(out, bytes(5000), None, 0, None, 0, None)
    with pytest.raises(ProducerFailedError) as caught:
        commit(sink, "p")
    assert not caught.value.is_fenced
    world.sink(expect=None)
    assert committed_values(world, out) == []


# --- admin --------------------------------------------------------------------------------------


def test_admin_describes_and_creates(world: World) -> None:
    """Topics are described with partition count, replication factor and settings."""
    topic = world.create(f"{world.application_id}-t", 3, cleanup_policy="compact")
    world.admin.create([NewTopic(topic, 5, None, {})])
    found = world.admin.describe([topic, "there-is-no-such-topic"])
    assert list(found) == [topic]
    assert (found[topic].partition_count, found[topic].replication_factor) == (3, 1)
    assert found[topic].config["cleanup.policy"] == "compact"
    assert found[topic].config["retention.ms"] == "604800000"


def test_admin_lists_offsets(world: World) -> None:
    """Start and end offsets come for all partitions asked; a missing topic is an error."""
    topic = world.create(f"{world.application_id}-t", 2)
    world.write(topic, [b"a", b"b"], 1)
    partitions: list[Partition] = [(topic, 0), (topic, 1)]
    assert world.admin.end_offsets(partitions) == {(topic, 0): 0, (topic, 1): 2}
    assert world.admin.start_offsets(partitions) == {(topic, 0): 0, (topic, 1): 0}
    with pytest.raises(TopicMissingError, match="there-is-no-such-topic"):
        world.admin.end_offsets([("there-is-no-such-topic", 0)])


def test_admin_says_what_to_check_when_nobody_answers(application_id: str) -> None:
    """Without a broker the error names the address and what to look at, within the deadline."""
    from kstash.kafka import settings
    from kstash.kafka.admin import KafkaAdmin

    config = Config.load(application_id=application_id, bootstrap_servers="127.0.0.1:1")
    admin = KafkaAdmin(settings.admin(config), deadline_s=1.0)
    with pytest.raises(KafkaUnavailableError, match=r"127\.0\.0\.1:1.*advertised\.listeners"):
        admin.describe(["t"])


# --- a broker that is away ----------------------------------------------------------------------


def test_broker_killed_and_restarted(application_id: str, tmp_path: Path) -> None:
    """While the broker is away clients wait and say so once; then all goes on, nothing is lost."""
    with DevBroker(folder=tmp_path) as broker:
        world = World(broker, application_id)
        world.create(world.lineage_topic, 2)
        data = world.create(f"{application_id}-data")
        commit(world.sink(), "before")
        owner = world.member([0, 1])
        owner.member.add({(data, 0): 0})
        producer = world.cluster().data_producer()
        acks: list[Any] = []
        told: list[tuple[Exception | None, str | None]] = []

        def produce(value: bytes) -> None:
            producer.produce(data, value, None, 0, lambda error, _: acks.append(error), 0, None)

        produce(b"a")
        owner.wait(lambda: owner.values(data) == [b"a"], "a record")
        with capture_logs() as logs:
            broker.kill()
            produce(b"b")
            sink = world.cluster().sink_producer(0)
            sink.initialise(lambda error, metadata: told.append((error, metadata)))
            for _ in range(40):
                owner.poll()
                producer.poll()
                sink.poll()
            assert (acks, told) == ([None], [])
            assert owner.groups == {0, 1}
            broker.restart()
            owner.wait(lambda: owner.values(data) == [b"a", b"b"], "the record of the outage")
            produce(b"c")
            owner.wait(lambda: owner.values(data) == [b"a", b"b", b"c"], "a record after it")
        wait_for(lambda: len(acks) == 3, producer.poll, "acks")
        wait_for(lambda: bool(told), sink.poll, "init_transactions")
        assert acks == [None] * 3
        assert told == [(None, "before")]
        assert [entry["event"] for entry in logs] == [
            "broker unreachable, waiting",
            "broker reachable again",
        ]
        producer.close()
        sink.close()
        world.close()
