"""The in-memory Kafka does what kstash relies on, as the real one does."""

from __future__ import annotations

from typing import Any

import pytest

from kstash.errors import (
    KafkaUnavailableError,
    MemberFencedError,
    OffsetOutOfRangeError,
    ProducerFailedError,
    RecordTooLargeError,
    TopicMissingError,
)
from kstash.ports.kafka import Cluster, NewTopic, Producer
from kstash.testing import ManualClock, MemoryCluster, MemoryKafka
from kstash.testing.kafka.membership import MemoryMembership
from kstash.testing.kafka.producers import MemorySinkProducer


def kafka_with(**topics: int) -> MemoryKafka:
    """A cluster with these topics and partition counts, and a clock at 1,000 ms."""
    kafka = MemoryKafka(ManualClock(start_ms=1_000))
    for topic, partition_count in topics.items():
        kafka.create_topic(topic, partition_count)
    return kafka


def send(producer: Producer, *values: str, topic: str = "t", partition: int = 0) -> None:
    """Queue one record for each value."""
    for value in values:
        producer.produce(topic, value.encode(), None, partition, None, 0, None)


def values(messages: list[Any]) -> list[str]:
    """Values of messages as text."""
    return [message.value().decode() for message in messages]


def ready_sink(cluster: MemoryCluster, group: int = 0) -> MemorySinkProducer:
    """A sink producer that is initialised."""
    producer = cluster.sink_producer(group)
    producer.initialise(lambda _error, _metadata: None)
    producer.poll()
    return producer


class Worker:
    """A member that notes its callbacks."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self.cluster = cluster
        self.member: MemoryMembership = cluster.membership()
        self.calls: list[tuple[str, list[int]]] = []
        self.owned: list[int] = []
        self.releases = True
        self.member.subscribe(
            on_assigned=self._assigned, on_revoked=self._revoked, on_lost=self._lost
        )

    def poll(self) -> None:
        """Poll the member once."""
        assert self.member.poll(0)

    def _assigned(self, groups: list[int]) -> None:
        self.calls.append(("assigned", groups))
        self.owned = sorted(self.owned + groups)

    def _revoked(self, groups: list[int]) -> None:
        self.calls.append(("revoked", groups))
        self.owned = [group for group in self.owned if group not in groups]
        if self.releases:
            self.member.release(groups)

    def _lost(self, groups: list[int]) -> None:
        self.calls.append(("lost", groups))
        self.owned = [group for group in self.owned if group not in groups]


def group_of(kafka: MemoryKafka, *names: str) -> list[Worker]:
    """Workers of one application, each polled until the group is at rest."""
    workers = [Worker(MemoryCluster(kafka, "app", member_id=name)) for name in names]
    settle(*workers)
    return workers


def settle(*workers: Worker) -> None:
    """Poll all members often enough for two rebalances."""
    for _ in range(4):
        for worker in workers:
            worker.poll()


# --- the clock ----------------------------------------------------------------------------------


def test_clock_stands_still_until_it_is_advanced() -> None:
    """Both readings move together, by hand only, and never back."""
    clock = ManualClock(start_ms=5)
    assert (clock.monotonic(), clock.time_ms()) == (0.0, 5)
    for _ in range(10):
        clock.advance(0.1)
    assert (clock.monotonic(), clock.time_ms()) == (1.0, 1005)
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)


# --- records ------------------------------------------------------------------------------------


def test_cluster_fulfils_the_port() -> None:
    """The in-memory cluster is a `Cluster` for the type checker too."""
    cluster: Cluster = MemoryCluster(kafka_with(t=1), "app")
    assert cluster.admin().describe(["t", "u"]).keys() == {"t"}


def test_records_keep_what_was_produced() -> None:
    """Key, value, headers and timestamp come back; timestamp 0 becomes now."""
    kafka = kafka_with(t=2)
    producer = MemoryCluster(kafka, "app").data_producer()
    producer.produce("t", b"v", b"k", 1, None, 77, [("h", b"x"), ("h", None)])
    producer.produce("t", None, b"k", 1, None, 0, None)
    producer.poll()
    first, second = kafka.read("t")
    assert (first.topic(), first.partition(), first.offset()) == ("t", 1, 0)
    assert (first.key(), first.value(), first.timestamp()) == (b"k", b"v", (1, 77))
    assert first.headers() == [("h", b"x"), ("h", None)]
    assert (second.value(), second.headers(), second.timestamp()) == (None, None, (1, 1000))


def test_record_is_durable_and_acknowledged_by_poll() -> None:
    """Nothing is in the log before poll; the callback gets the offset."""
    kafka = kafka_with(t=1)
    producer = MemoryCluster(kafka, "app").data_producer()
    acks: list[tuple[Any, int | None]] = []
    for _ in range(2):
        producer.produce(
            "t", b"v", None, 0, lambda error, m: acks.append((error, m.offset())), 0, None
        )
    assert (len(producer), kafka.read("t")) == (2, [])
    producer.poll()
    assert (len(producer), acks) == (0, [(None, 0), (None, 1)])


def test_poll_serves_only_what_was_there_before() -> None:
    """A callback that produces does not make poll endless."""
    kafka = kafka_with(t=1)
    producer = MemoryCluster(kafka, "app").data_producer()

    def again(_error: object, _message: object) -> None:
        producer.produce("t", b"again", None, 0, again, 0, None)

    again(None, None)
    producer.poll()
    assert len(kafka.read("t")) == 1
    assert len(producer) == 1


def test_scanner_reads_partitions_in_turn() -> None:
    """A partition with much in it does not starve the next one."""
    kafka = kafka_with(t=2)
    kafka.fetch_max = kafka.poll_max = 2
    for partition in (0, 1):
        for index in range(3):
            kafka.append("t", f"{partition}{index}".encode(), partition=partition)
    scanner = MemoryCluster(kafka, "app").scanner()
    scanner.add({("t", 0): 0, ("t", 1): 1})
    polls = [values(scanner.poll(0)) for _ in range(4)]
    assert polls == [["00", "01"], ["11", "12"], ["02"], []]
    assert (scanner.position(("t", 0)), scanner.position(("t", 1))) == (3, 3)


def test_paused_and_removed_partitions_are_not_read() -> None:
    """A paused partition goes on where it was; a removed one is gone."""
    kafka = kafka_with(t=2)
    scanner = MemoryCluster(kafka, "app").consumer()
    scanner.add({("t", 0): 0, ("t", 1): 0})
    scanner.pause([("t", 0)])
    scanner.remove([("t", 1)])
    for partition in (0, 1):
        kafka.append("t", b"v", partition=partition)
    assert scanner.poll(0) == []
    scanner.resume([("t", 0)])
    assert [message.partition() for message in scanner.poll(0)] == [0]


def test_offsets_outside_the_log_are_refused() -> None:
    """Below the log start and beyond the end the error names partition and offset."""
    kafka = kafka_with(t=1)
    for _ in range(3):
        kafka.append("t", b"v")
    kafka.log(("t", 0)).delete_before(2)
    assert MemoryCluster(kafka, "app").admin().start_offsets([("t", 0)]) == {("t", 0): 2}
    for offset in (1, 4):
        scanner = MemoryCluster(kafka, "app").scanner()
        scanner.add({("t", 0): offset})
        with pytest.raises(OffsetOutOfRangeError) as caught:
            scanner.poll(0)
        assert (caught.value.topic, caught.value.offset) == ("t", offset)


def test_deletion_leaves_a_reader_behind_it_alone() -> None:
    """A reader at a later offset does not notice that the log start moved."""
    kafka = kafka_with(t=1)
    for index in range(3):
        kafka.append("t", b"%d" % index)
    scanner = MemoryCluster(kafka, "app").scanner()
    scanner.add({("t", 0): 2})
    kafka.log(("t", 0)).delete_before(2)
    kafka.log(("t", 0)).delete_before(1)
    assert values(scanner.poll(0)) == ["2"]


def test_missing_topics_are_named() -> None:
    """Reading, producing and describing a topic that is gone."""
    kafka = kafka_with(t=1)
    cluster = MemoryCluster(kafka, "app")
    scanner, producer = cluster.scanner(), cluster.data_producer()
    scanner.add({("t", 0): 0})
    kafka.delete_topic("t")
    with pytest.raises(TopicMissingError, match="t-0"):
        scanner.poll(0)
    send(producer, "v")
    with pytest.raises(ProducerFailedError, match="t-0"):
        producer.poll()


def test_too_large_records_are_refused_at_once() -> None:
    """The topic's limit holds for key, value and headers together."""
    kafka = MemoryKafka()
    kafka.create_topic("t", 1, {"max.message.bytes": "10"})
    producer = MemoryCluster(kafka, "app").data_producer()
    producer.produce("t", b"12345", b"123", 0, None, 0, [("h", b"1")])
    with pytest.raises(RecordTooLargeError, match=r"max\.message\.bytes of 10"):
        producer.produce("t", b"12345", b"123", 0, None, 0, [("h", b"12")])


def test_admin_creates_and_describes() -> None:
    """A topic that exists is left as it is."""
    admin = MemoryCluster(kafka_with(t=1), "app").admin()
    admin.create([NewTopic("t", 9, None, {}), NewTopic("u", 2, 1, {"cleanup.policy": "compact"})])
    found = admin.describe(["t", "u"])
    assert (found["t"].partition_count, found["u"].partition_count) == (1, 2)
    assert found["u"].config == {"cleanup.policy": "compact", "max.message.bytes": "1048588"}
    assert admin.end_offsets([("u", 1)]) == {("u", 1): 0}


def test_cluster_that_is_away_answers_nothing() -> None:
    """Producers keep what they have, consumers get nothing, admin calls fail; then all go on."""
    kafka = kafka_with(t=1)
    cluster = MemoryCluster(kafka, "app")
    producer, scanner = cluster.data_producer(), cluster.scanner()
    scanner.add({("t", 0): 0})
    kafka.is_away = True
    send(producer, "v")
    producer.poll()
    assert (len(producer), scanner.poll(0)) == (1, [])
    with pytest.raises(KafkaUnavailableError):
        cluster.admin().describe(["t"])
    kafka.is_away = False
    producer.poll()
    assert values(scanner.poll(0)) == ["v"]


# --- compaction ---------------------------------------------------------------------------------


def test_compaction_keeps_the_last_of_each_key() -> None:
    """Offsets and the end stay as they were; tombstones go only when told."""
    kafka = kafka_with(t=1)
    for key, value in ((b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"b", None)):
        kafka.append("t", value, key=key)
    log = kafka.log(("t", 0))
    log.compact()
    assert [record.offset() for record in kafka.read("t")] == [2, 3]
    log.compact(drops_tombstones=True)
    assert [record.offset() for record in kafka.read("t")] == [2]
    assert (log.start_offset, log.end_offset) == (0, 4)
    scanner = MemoryCluster(kafka, "app").scanner()
    scanner.add({("t", 0): 1})
    assert [message.offset() for message in scanner.poll(0)] == [2]
    assert scanner.position(("t", 0)) == 4


def test_compaction_removes_aborted_and_spares_unstable_records() -> None:
    """An aborted record does not hide a committed one; nothing past the LSO is touched."""
    kafka = kafka_with(t=1)
    cluster = MemoryCluster(kafka, "app")
    kafka.append("t", b"kept", key=b"k")
    sink = ready_sink(cluster)
    sink.produce("t", b"aborted", b"k", 0)
    sink.poll()
    sink = ready_sink(cluster)
    sink.produce("t", b"open", b"k", 0)
    sink.poll()
    kafka.log(("t", 0)).compact(drops_tombstones=True)
    assert values(kafka.read("t", is_committed=False)) == ["kept", "open"]


# --- links --------------------------------------------------------------------------------------


def test_held_requests_are_lost_in_a_crash() -> None:
    """What was not carried out is not in the log after a kill."""
    kafka = kafka_with(t=1)
    cluster = MemoryCluster(kafka, "app")
    producer = cluster.data_producer()
    send(producer, "1")
    producer.poll()
    cluster.links["data"].holds_requests = True
    send(producer, "2")
    producer.poll()
    assert len(producer) == 1
    cluster.kill()
    producer.carry_out_late()
    assert values(kafka.read("t")) == ["1"]


def test_held_requests_may_arrive_after_a_crash() -> None:
    """A request in flight at a kill reaches the log whenever the test lets it."""
    kafka = kafka_with(t=1)
    cluster = MemoryCluster(kafka, "app")
    cluster.links["data"].holds_requests = True
    send(cluster.data_producer(), "late")
    (producer,) = cluster.kill(arrive_late=True)
    kafka.append("t", b"new")
    producer.carry_out_late()
    assert values(kafka.read("t")) == ["new", "late"]


def test_held_acks_come_when_released() -> None:
    """The record is durable while its producer does not know."""
    kafka = kafka_with(t=1)
    cluster = MemoryCluster(kafka, "app")
    cluster.links["lineage"].holds_acks = True
    producer = cluster.lineage_producer()
    send(producer, "v")
    assert producer.flush(1) == 1
    assert values(kafka.read("t")) == ["v"]
    cluster.links["lineage"].holds_acks = False
    assert producer.flush(1) == 0


def test_delay_counts_by_the_clock() -> None:
    """A delayed request is carried out once its time has come."""
    clock = ManualClock()
    kafka = MemoryKafka(clock)
    kafka.create_topic("t", 1)
    cluster = MemoryCluster(kafka, "app")
    cluster.links["lineage"].delay_s = 0.5
    producer = cluster.lineage_producer()
    send(producer, "v")
    clock.advance(0.4)
    producer.poll()
    assert kafka.read("t") == []
    clock.advance(0.1)
    producer.poll()
    assert values(kafka.read("t")) == ["v"]


def test_gapless_producer_stops_at_an_error() -> None:
    """All after the failed record fails too, and poll raises from then on."""
    kafka = kafka_with(t=1)
    cluster = MemoryCluster(kafka, "app")
    errors: list[object] = []
    producer = cluster.data_producer()
    cluster.links["data"].error = KafkaUnavailableError("timed out")
    for _ in range(2):
        producer.produce("t", b"v", None, 0, lambda error, _message: errors.append(error), 0, None)
    for _ in range(2):
        with pytest.raises(ProducerFailedError, match="timed out"):
            producer.poll()
    assert len(errors) == 2
    assert kafka.read("t") == []


def test_claim_producer_survives_an_error() -> None:
    """A lost claim is told to its callback only: the next attempt is another record."""
    kafka = kafka_with(t=1)
    cluster = MemoryCluster(kafka, "app")
    producer = cluster.claim_producer()
    cluster.links["claim"].error = KafkaUnavailableError("timed out")
    send(producer, "1", "2")
    producer.poll()
    assert values(kafka.read("t")) == ["2"]


# --- transactions -------------------------------------------------------------------------------


def test_committed_reader_stops_at_the_last_stable_offset() -> None:
    """Records of others after an open transaction wait as well; the marker takes an offset."""
    kafka = kafka_with(t=1)
    cluster = MemoryCluster(kafka, "app")
    sink, plain = ready_sink(cluster), cluster.data_producer()
    send(plain, "before")
    plain.poll()
    send(sink, "inside")
    sink.poll()
    send(plain, "behind")
    plain.poll()
    assert values(kafka.read("t")) == ["before"]
    assert values(kafka.read("t", is_committed=False)) == ["before", "inside", "behind"]
    sink.commit("7", lambda _error: None)
    sink.poll()
    assert values(kafka.read("t")) == ["before", "inside", "behind"]
    assert kafka.log(("t", 0)).end_offset == 4


def test_new_producer_aborts_and_fences_the_old_one() -> None:
    """The open transaction is skipped by committed readers; the old producer is told so."""
    kafka = kafka_with(t=2)
    old = ready_sink(MemoryCluster(kafka, "app"))
    send(old, "a")
    send(old, "b", partition=1)
    old.poll()
    new = ready_sink(MemoryCluster(kafka, "app"))
    send(new, "c")
    new.commit("1", lambda _error: None)
    new.poll()
    assert values(kafka.read("t")) == ["c"]
    assert values(kafka.read("t", is_committed=False)) == ["a", "c", "b"]
    errors: list[object] = []
    old.commit("2", errors.append)
    with pytest.raises(ProducerFailedError, match="fenced") as caught:
        old.poll()
    assert caught.value.is_fenced
    assert errors == [caught.value]


def test_position_is_committed_with_the_transaction() -> None:
    """A successor reads the last committed metadata of its own group, and None before."""
    kafka = kafka_with(t=1)
    told: list[tuple[object, str | None]] = []
    for group, metadata in ((0, "5"), (1, "6"), (0, "7"), (0, None)):
        sink = MemoryCluster(kafka, "app").sink_producer(group)
        sink.initialise(lambda error, found: told.append((error, found)))
        if metadata is not None:
            sink.commit(metadata, lambda _error: None)
        sink.poll()
    assert told == [(None, None), (None, None), (None, "5"), (None, "7")]


def test_commit_waits_for_the_records_before_it() -> None:
    """A held link commits nothing; a crash then leaves the transaction to its successor."""
    kafka = kafka_with(t=1)
    cluster = MemoryCluster(kafka, "app")
    sink = ready_sink(cluster)
    done: list[object] = []
    send(sink, "1")
    sink.poll()
    cluster.links["sink"].holds_requests = True
    sink.commit("1", done.append)
    sink.poll()
    cluster.kill()
    assert (done, kafka.read("t")) == ([], [])
    ready_sink(MemoryCluster(kafka, "app"))
    assert kafka.read("t") == []
    assert kafka.log(("t", 0)).last_stable_offset == 2


def test_transaction_times_out() -> None:
    """After the time-out readers go on, and the producer is fenced."""
    kafka = kafka_with(t=1)
    sink = ready_sink(MemoryCluster(kafka, "app"))
    send(sink, "1")
    sink.poll()
    kafka.coordinator.time_out("app-0")
    send(sink, "2")
    with pytest.raises(ProducerFailedError, match="fenced"):
        sink.poll()
    kafka.append("t", b"other")
    assert values(kafka.read("t")) == ["other"]


# --- membership ---------------------------------------------------------------------------------


def test_groups_are_spread_over_members() -> None:
    """A second member gets half, after the first has given it up in its own poll."""
    kafka = kafka_with(**{"app-lineage": 4})
    first = Worker(MemoryCluster(kafka, "app", member_id="a"))
    first.poll()
    assert first.owned == [0, 1, 2, 3]
    second = Worker(MemoryCluster(kafka, "app", member_id="b"))
    second.poll()
    assert second.owned == []
    first.poll()
    second.poll()
    assert (first.owned, second.owned) == ([0, 1], [2, 3])
    assert first.calls == [("assigned", [0, 1, 2, 3]), ("revoked", [2, 3])]


def test_rebalance_moves_no_more_than_needed() -> None:
    """With three members each keeps what it has as far as that is even."""
    kafka = kafka_with(**{"app-lineage": 5})
    first, second = group_of(kafka, "a", "b")
    before = (first.owned, second.owned)
    third = Worker(MemoryCluster(kafka, "app", member_id="c"))
    settle(first, second, third)
    owned = [first.owned, second.owned, third.owned]
    assert sorted(len(groups) for groups in owned) == [1, 2, 2]
    assert set(first.owned) <= set(before[0])
    assert set(second.owned) <= set(before[1])
    assert sorted(first.owned + second.owned + third.owned) == [0, 1, 2, 3, 4]


def test_leaver_hands_its_groups_over() -> None:
    """A member that leaves is told nothing; the other gets its groups at its next poll."""
    kafka = kafka_with(**{"app-lineage": 2})
    first, second = group_of(kafka, "a", "b")
    first.member.close(leave=True)
    second.poll()
    assert second.owned == [0, 1]


def test_revoked_group_is_kept_until_it_is_released() -> None:
    """The next owner gets it then, or when its owner closes."""
    kafka = kafka_with(**{"app-lineage": 2})
    first = Worker(MemoryCluster(kafka, "app", member_id="a"))
    first.releases = False
    settle(first)
    second = Worker(MemoryCluster(kafka, "app", member_id="b"))
    settle(first, second)
    assert first.calls == [("assigned", [0, 1]), ("revoked", [1])]
    assert second.owned == []
    first.member.release([1])
    settle(first, second)
    assert second.owned == [1]


def test_static_member_keeps_its_place_when_closed() -> None:
    """The others get nothing until its session has expired."""
    kafka = kafka_with(**{"app-lineage": 2})
    first, second = group_of(kafka, "a", "b")
    first.member.close(leave=False)
    second.poll()
    assert second.owned == [1]
    first.cluster.expire()
    second.poll()
    assert second.owned == [0, 1]


def test_restarted_static_member_gets_its_groups_back() -> None:
    """A successor with the same id owns the same groups; the zombie gets fatal errors only."""
    kafka = kafka_with(**{"app-lineage": 4})
    first, second = group_of(kafka, "a", "b")
    successor = Worker(MemoryCluster(kafka, "app", member_id="a"))
    successor.poll()
    assert successor.owned == first.owned
    assert len(second.calls) == 1
    for _ in range(2):
        with pytest.raises(MemberFencedError, match="'a'"):
            first.poll()
    assert [name for name, _ in first.calls] == ["assigned"]


def test_expired_zombie_loses_its_groups_and_joins_again() -> None:
    """It hears of the loss in its next poll, when another member owns them already."""
    kafka = kafka_with(**{"app-lineage": 2})
    first, second = group_of(kafka, "a", "b")
    first.cluster.expire()
    second.poll()
    assert second.owned == [0, 1]
    settle(first, second)
    assert ("lost", [0]) in first.calls
    assert len(first.owned) == len(second.owned) == 1


def test_group_grows_with_its_topic() -> None:
    """A member that came before the topic gets its groups when it is there."""
    kafka = kafka_with()
    worker = Worker(MemoryCluster(kafka, "app", member_id="a"))
    worker.poll()
    kafka.create_topic("app-lineage", 2)
    worker.poll()
    assert worker.owned == [0, 1]


def test_only_members_commit_offsets() -> None:
    """Offsets for lag tools are kept; those of a member that is out are refused quietly."""
    kafka = kafka_with(**{"app-lineage": 1})
    worker = Worker(MemoryCluster(kafka, "app", member_id="a"))
    worker.member.commit({("t", 0): 5})
    worker.cluster.expire()
    worker.member.commit({("t", 0): 6})
    assert worker.member.committed == {("t", 0): 5}
