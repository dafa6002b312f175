"""Consumers over confluent-kafka do on a real Kafka what `kstash.ports.kafka` promises."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka import Producer as Client
from confluent_kafka.admin import AdminClient

from kstash.errors import (
    MemberFencedError,
    OffsetOutOfRangeError,
    TopicMissingError,
)
from tests.integration.kafka_world import (
    DEADLINE_S,
    World,
    commit,
    committed_values,
    drain,
    take,
    wait_for,
)

pytestmark = pytest.mark.integration

LEAVE_S_MAX = 10.0
"""A member that waited for an answer of its own would never come back."""


# --- member -------------------------------------------------------------------------------------


def test_nothing_is_handed_out_before_it_is_added(world: World, lineage: str) -> None:
    """An owned lineage partition is silent until it is read; then it can also go back."""
    owner = world.member([0, 1])
    assert drain(owner, 1.0) == []
    owner.follow(0, 1)
    assert [(m.partition(), m.value()) for m in take(owner, 2)] == [(0, b"L1"), (0, b"L2")]
    owner.follow(0, 0)
    assert [m.offset() for m in take(owner, 3)] == [0, 1, 2]
    assert owner.consumer.position((lineage, 0)) == 3


def test_lineage_and_data_are_added_in_the_callback(world: World, lineage: str) -> None:
    """`add` inside `on_assigned` works as outside."""
    data = world.create(f"{world.application_id}-data", 2)
    world.write(data, [b"D"], 1)
    cluster = world.cluster()
    membership, consumer = cluster.membership(), cluster.consumer()

    def assigned(groups: list[int]) -> None:
        for group in groups:
            consumer.add({(lineage, group): 2, (data, group): 0})

    membership.subscribe(on_assigned=assigned, on_revoked=lambda _: None, on_lost=lambda _: None)
    wait_for(lambda: consumer.is_reading, lambda: membership.poll(0.05), "the groups")
    messages = sorted((str(m.topic()), m.partition(), m.offset()) for m in take(consumer, 3))
    membership.close(leave=True)
    consumer.close()
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
    owner.consumer.add({(one, 0): 1, (one, 1): 1})
    owner.consumer.add({(two, 0): 0})
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
    owner.consumer.add({(data, 0): 0, (data, 1): 0})
    seen = len(take(owner, 1))
    owner.consumer.remove([(data, 0)])
    owner.consumer.pause([(data, 1)])
    assert drain(owner, 0.5) == []
    owner.consumer.resume([(data, 1)])
    rest = take(owner, 1)
    assert {m.partition() for m in rest} == {1}
    owner.consumer.add({(data, 0): 1999})
    messages = drain(owner, 1.0) + rest
    assert [m.offset() for m in messages if m.partition() == 0] == [1999]
    assert seen > 0


def test_groups_move_between_members(world: World, lineage: str) -> None:
    """A second member takes one group, cooperatively; when it closes, the first gets it back."""
    first = world.member([0, 1])
    first.follow(0, 0)
    first.follow(1, 0)
    first.wait(lambda: len(first.messages) == 6, "lineage")
    second = world.member()
    wait_for(
        lambda: len(first.groups) == len(second.groups) == 1,
        lambda: [owner.poll() for owner in (first, second)],
        "one group each",
    )
    kept = min(first.groups)
    assert ("revoked", [1 - kept]) in first.calls
    world.write(lineage, [b"L3"], kept)
    world.write(lineage, [b"other"], 1 - kept)
    first.messages.clear()
    first.wait(lambda: len(first.messages) == 1, "the kept group's record")
    assert (drain(first, 0.3), first.messages[0].value()) == ([], b"L3")
    second.close()
    first.wait(lambda: first.groups == {0, 1}, "the group back")


@pytest.mark.usefixtures("lineage")
def test_a_revocation_may_wait_and_data_goes_on(world: World) -> None:
    """A group is the next member's once it is released; until then all data flows, heartbeats too.

    It is held for longer than the session. What is removed meanwhile is silent at once.
    """
    data = world.create(f"{world.application_id}-data", 2)
    owner = world.member([0, 1])
    owner.releases = False
    owner.consumer.add({(data, 0): 0, (data, 1): 0})
    for group in (0, 1):
        owner.follow(group, 0)
    client = Client({"bootstrap.servers": world.broker.bootstrap_servers})

    def poll() -> None:
        owner.poll(0.02)
        for partition in (0, 1):
            client.produce(data, b"x", partition=partition)
        client.poll(0)

    def seen(partition: int) -> list[int]:
        return [
            m.offset() for m in owner.messages if (m.topic(), m.partition()) == (data, partition)
        ]

    second = world.member()

    def both() -> None:
        poll()
        second.poll(0.0)

    wait_for(lambda: len(owner.groups) == 1, both, "the revocation")
    (kept,) = owner.groups
    owner.consumer.remove([(data, 1 - kept)])
    before = [len(seen(partition)) for partition in (0, 1)]
    started = time.monotonic()
    wait_for(lambda: time.monotonic() > started + 7, both, "more than a session")
    assert second.groups == set()
    assert len(seen(kept)) > before[kept] + 50
    assert len(seen(1 - kept)) == before[1 - kept]
    owner.follow(kept, 0)  # no answer: it is read by another client
    both()
    assert second.groups == set()
    owner.release([1 - kept])
    wait_for(lambda: second.groups == {1 - kept}, both, "the move")
    assert owner.groups == {kept}
    assert seen(kept) == list(range(len(seen(kept))))
    client.flush(DEADLINE_S)


@pytest.mark.usefixtures("lineage")
def test_a_member_that_owes_an_answer_can_close(world: World) -> None:
    """Closed while a revocation waits, a member leaves soon, and the other gets everything."""
    owner = world.member([0, 1])
    owner.releases = False
    second = world.member()

    def both() -> None:
        owner.poll(0.02)
        second.poll(0.02)

    wait_for(lambda: len(owner.groups) == 1, both, "the revocation")
    started = time.monotonic()
    owner.close(leave=True)
    assert time.monotonic() - started < LEAVE_S_MAX
    second.wait(lambda: second.groups == {0, 1}, "both groups")


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
def test_static_member_leaves_when_asked_to(world: World) -> None:
    """`close(leave=True)` of a static member frees its groups at once."""
    data = world.create(f"{world.application_id}-data")
    world.write(data, [b"D"])
    first = world.member([0, 1], instance_id="a")
    first.follow(0, 0)
    first.consumer.add({(data, 0): 0})
    first.poll()
    started = time.monotonic()
    first.close(leave=True)
    world.member([0, 1], instance_id="b")
    assert time.monotonic() - started < 4.0, "waited for the session timeout"
    assert [call for call, _ in first.calls] == ["assigned"]


def test_zombie_is_fenced_and_silent(world: World, lineage: str) -> None:
    """Whose membership a member of the same name took hears it and gets nothing any more."""
    zombie = world.member([0, 1], instance_id="a")
    zombie.follow(0, 0)
    zombie.wait(lambda: len(zombie.messages) == 3, "lineage")
    world.member([0, 1], instance_id="a")
    world.write(lineage, [b"L3"])
    zombie.messages.clear()
    with pytest.raises(MemberFencedError, match="took this membership"):
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
    owner.consumer.add({(data, 0): 77, (data, 1): 0})
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
    owner.consumer.add({(data, 0): 1})
    with pytest.raises(OffsetOutOfRangeError, match="partition 0, offset 1"):
        owner.wait(lambda: False, "the error")


def test_deleted_topic_is_reported(world: World, lineage: str) -> None:
    """A data topic, then the lineage topic, deleted under the member: the error names them."""
    data = world.create(f"{world.application_id}-data")
    owner = world.member([0, 1])
    owner.consumer.add({(data, 0): 0})
    drain(owner, 3.0)  # a topic is taken for new, and waited for, in its first seconds
    delete(world, data)
    with pytest.raises(TopicMissingError, match=data):
        owner.wait(lambda: False, "the error")
    owner.consumer.remove([(data, 0)])
    delete(world, lineage)
    owner.follow(0, 0)
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
    owner.consumer.add({(data, 0): 0})
    owner.wait(lambda: len(owner.messages) == 2, "records")
    started = time.monotonic()
    owner.membership.commit({(data, 0): 2})
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
    # A commit is acknowledged before its marker is written.
    wait_for(lambda: scanner.position((out, 0)) == 6, lambda: scanner.poll(0.05), "the end")
    assert world.admin.end_offsets([(out, 0)]) == {(out, 0): 6}
    assert scanner.position((lineage, 1)) == 3
    scanner.remove([(out, 0)])
    assert committed_values(world, out) == [b"committed", b"open"]
