"""Producers and admin over confluent-kafka do on a real Kafka what the ports promise."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from kstash.broker import DevBroker
from kstash.errors import (
    KafkaUnavailableError,
    ProducerFailedError,
    RecordTooLargeError,
    TopicMissingError,
)
from kstash.ports.kafka import NewTopic, Partition, Producer
from kstash.settings.config import Config
from tests.chaos.harness import MORTAL
from tests.integration.kafka_world import (
    DEADLINE_S,
    World,
    commit,
    committed_values,
    take,
    wait_for,
)

pytestmark = pytest.mark.integration


# --- producers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["data", "lineage", "marker", "claim"])
def test_producers_append_and_acknowledge(world: World, kind: str) -> None:
    """Each kind writes key, value, headers and timestamp and calls back with offsets."""
    topic = world.create(f"{world.application_id}-t", 2)
    producer: Producer = getattr(world.cluster(), f"{kind}_producer")()
    offsets: list[tuple[Any, int | None]] = []
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
    reports: list[Any] = []
    for _ in range(100):
        producer.produce(topic, b"x", None, 0, lambda *args: reports.append(args), 0, None)
    started = time.monotonic()
    producer.close()
    assert time.monotonic() - started < 1.0
    assert reports == []


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


@pytest.mark.usefixtures("lineage")
def test_committed_position_is_read_back(world: World) -> None:
    """The metadata of the last commit is what the next producer of the group reads."""
    out = world.create(f"{world.application_id}-out")
    sink = world.sink(1, expect=None)
    offsets: list[int | None] = []
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
    reports: list[int | None] = []
    for group, sink in enumerate(sinks):
        sink.produce(out, b"%d" % group, None, 0, None, 0, None)

        def done(error: Exception | None, group: int = group) -> None:
            assert error is None
            reports.append(group)

        sink.commit("p", done)
    wait_for(lambda: len(reports) == 2, lambda: [sink.poll() for sink in sinks], "both commits")  # type: ignore[func-returns-value]
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


@pytest.mark.usefixtures("lineage")
@pytest.mark.parametrize("has_callback", [True, False])
def test_refused_record_fails_its_producer(world: World, has_callback: bool) -> None:
    """`poll` raises, before any commit, also when only the record after it has a callback.

    What is not written any more would else count as acknowledged, and the other producer of the
    group would write what follows.
    """
    out = world.create(f"{world.application_id}-out", max_message_bytes="2000")
    sink = world.sink()
    errors: list[Any] = []

    def on_delivery(error: Any, _: Any) -> None:
        errors.append(error)

    sink.produce(out, b"opens the partition", None, 0, None, 0, None)
    wait_for(lambda: not len(sink), sink.poll, "an acknowledgement")
    sink.produce(out, bytes(5000), None, 0, on_delivery if has_callback else None, 0, None)
    sink.produce(out, b"after", None, 0, on_delivery, 0, None)
    with pytest.raises(ProducerFailedError, match="MSG_SIZE_TOO_LARGE"):
        wait_for(lambda: not len(sink), sink.poll, "the end of what waits")
    assert errors
    assert all(error is not None for error in errors)
    sink.close()
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
    """Without a broker the error names the address, why, and what to do, within the deadline."""
    from kstash.kafka import client_settings as settings
    from kstash.kafka.admin import KafkaAdmin
    from kstash.kafka.admin_requests import AdminRequests

    config = Config.load(application_id=application_id, bootstrap_servers="127.0.0.1:1")
    admin = KafkaAdmin(AdminRequests(settings.admin(config), deadline_s=1.0))
    with pytest.raises(
        KafkaUnavailableError, match=r"127\.0\.0\.1:1 has nobody .*bootstrap_servers"
    ):
        admin.describe(["t"])


# --- a broker that is away ----------------------------------------------------------------------


def ours(logs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was told beside the client's own lines, which `test_output.py` checks."""
    return [entry["event"] for entry in logs if entry["event"] != "the Kafka client says"]


def test_broker_killed_and_restarted(application_id: str, tmp_path: Path) -> None:
    """While the broker is away clients wait and say so once; then all goes on, nothing is lost."""
    with DevBroker(folder=tmp_path, config=MORTAL) as broker:
        world = World(broker, application_id)
        world.create(world.lineage_topic, 2)
        data = world.create(f"{application_id}-data")
        commit(world.sink(), "before")
        owner = world.member([0, 1])
        owner.consumer.add({(data, 0): 0})
        producer = world.cluster().data_producer()
        acks: list[Any] = []
        reports: list[tuple[Exception | None, str | None]] = []

        def produce(value: bytes) -> None:
            producer.produce(data, value, None, 0, lambda error, _: acks.append(error), 0, None)

        produce(b"a")
        owner.wait(lambda: owner.values(data) == [b"a"], "a record")
        with capture_logs() as logs:
            broker.kill()
            produce(b"b")
            sink = world.cluster().sink_producer(0)
            sink.initialise(lambda error, metadata: reports.append((error, metadata)))

            def is_told() -> bool:
                producer.poll()
                sink.poll()
                return bool(ours(logs))

            owner.wait(is_told, "word of the outage")
            assert (acks, reports) == ([None], [])
            assert owner.groups == {0, 1}
            broker.restart()
            owner.wait(lambda: owner.values(data) == [b"a", b"b"], "the record of the outage")
            produce(b"c")
            owner.wait(lambda: owner.values(data) == [b"a", b"b", b"c"], "a record after it")
        wait_for(lambda: len(acks) == 3, producer.poll, "acks")
        wait_for(lambda: bool(reports), sink.poll, "init_transactions")
        assert acks == [None] * 3
        assert reports == [(None, "before")]
        assert ours(logs) == [
            "broker unreachable, waiting",
            "broker reachable again",
        ]
        producer.close()
        sink.close()
        world.close()
