"""Task groups that move between workers: drained while the others go on, released, not replayed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal

from structlog.testing import capture_logs

import kstash
from kstash.core.group_state import GroupState
from kstash.core.record_codec import encode_value
from kstash.core.record_keys import CHECKPOINT, START, encode_key, key_incarnation
from kstash.core.records import Claim
from kstash.runtime.group.group import TaskGroup
from kstash.runtime.group.phase import Phase
from kstash.runtime.layout import Layout
from kstash.runtime.worker.worker import Worker
from kstash.testing import ManualClock, MemoryCluster, MemoryKafka
from kstash.testing.background import ManualBackground
from kstash.testing.kafka.log import PartitionLog
from kstash.testing.metrics import MemoryMetrics
from kstash.testing.state import MemoryBackend
from kstash.testing.stores import MemoryCheckpointStore

STEPS_MAX = 2_000


class Pair:
    """An application of two task groups, and workers of it that are stepped by hand."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.kafka = MemoryKafka(self.clock)
        app = kstash.App("moves", **settings)
        app.stream("in", value=kstash.text).map_values(str.upper).to("out", value=kstash.text)
        self.topology, self.config = app.topology(), app.config
        counts = {"in": 2, "out": 2}
        counts[self.topology.lineage_topic] = Layout(self.topology, counts).group_count
        for topic, count in counts.items():
            self.kafka.create_topic(topic, count)
        self.metrics = MemoryMetrics()
        self.nonces = itertools.count()
        self.workers: list[Worker] = []

    def start(self, name: str, until: Literal["end", "drain"] | None = None) -> Worker:
        """Start one more worker."""
        cluster = MemoryCluster(self.kafka, "moves", member_id=name)
        worker = Worker(
            self.topology,
            self.config,
            cluster=cluster,
            state=MemoryBackend(),
            store=MemoryCheckpointStore(),
            background=ManualBackground(),
            clock=self.clock,
            metrics=self.metrics,
            nonce=lambda: next(self.nonces).to_bytes(16, "big"),
            until=until,
        )
        self.workers.append(worker)
        return worker

    def kill(self, worker: Worker) -> None:
        """End a worker as `kill -9` would; the cluster has not noticed yet."""
        self.workers.remove(worker)
        worker.context.clients.cluster.kill()  # type: ignore[attr-defined] # it is a MemoryCluster

    def turn(self, count: int = 60) -> None:
        """Let each worker take turns while time passes: 10 ms each."""
        for _ in range(count):
            for worker in self.workers:
                worker.step(0.0)
            self.clock.advance(0.01)

    def send(self, value: str) -> None:
        """One record to each input partition."""
        for partition in (0, 1):
            self.kafka.append("in", value.encode(), partition=partition)

    def outputs(self, partition: int) -> list[bytes | None]:
        """Committed outputs of a partition."""
        log = self.kafka.log(("out", partition))
        return [r.value() for r in log.read(0, 1_000, is_committed=True)[0]]


def _stall(group: TaskGroup) -> Callable[[], None]:
    """Let a group do nothing; returns what lets it go on."""
    vars(group)["tick"] = lambda *_, **__: None
    return lambda: vars(group).pop("tick")


def _live_pair(**settings: Any) -> tuple[Pair, Worker]:
    pair = Pair(**settings)
    first = pair.start("a")
    pair.turn()
    pair.send("before")
    pair.turn()
    assert first.is_live
    assert set(first.groups) == {0, 1}
    return pair, first


def test_kept_group_goes_on_while_another_drains() -> None:
    """A group that cannot be finished yet holds up neither its neighbours nor the loop."""
    pair, first = _live_pair(checkpoint_interval_ms=60_000)
    go_on = _stall(first.groups[1])
    second = pair.start("b")
    pair.turn()
    pair.send("while")
    pair.turn()
    assert set(first.groups) == {0, 1}
    assert not second.groups
    assert pair.outputs(0) == [b"BEFORE", b"WHILE"]
    assert pair.outputs(1) == [b"BEFORE"]
    go_on()
    pair.turn()
    assert (set(first.groups), set(second.groups)) == ({0}, {1})
    assert pair.outputs(1) == [b"BEFORE", b"WHILE"]


def test_released_group_is_not_replayed() -> None:
    """The next owner of a drained group goes on at its checkpoint."""
    pair, _ = _live_pair(checkpoint_interval_ms=60_000)
    second = pair.start("b")
    pair.turn()
    assert second.is_live
    pair.send("after")
    pair.turn()
    assert pair.outputs(1) == [b"BEFORE", b"AFTER"]
    assert pair.metrics.counts.get("replayed_records", 0) == 0


def test_group_that_cannot_be_finished_goes_at_the_deadline() -> None:
    """`shutdown_timeout_ms` later the next owner has it, and replays."""
    pair, first = _live_pair(checkpoint_interval_ms=60_000, shutdown_timeout_ms=1_000)
    _stall(first.groups[1])
    second = pair.start("b")
    pair.turn(50)
    assert set(first.groups) == {0, 1}
    pair.turn(200)
    assert (set(first.groups), set(second.groups)) == ({0}, {1})
    assert second.is_live
    assert pair.metrics.counts["replayed_records"] == 1


def test_claim_of_another_ends_the_wait_for_a_drain() -> None:
    """Who sees another's claim has lost its membership, and owes the group its answer at once."""
    pair, first = _live_pair(checkpoint_interval_ms=60_000)
    _stall(first.groups[1])
    second = pair.start("b")
    pair.turn()
    assert not second.groups
    claim = Claim(bytes(16), "another")
    lineage = pair.topology.lineage_topic
    pair.kafka.append(lineage, encode_value(claim), key=encode_key(claim), partition=0)
    pair.turn()
    assert set(second.groups) == {1}


def test_stopping_worker_answers_what_it_owes() -> None:
    """A worker that stops while it owes an answer finishes all its groups, and gives it."""
    pair, first = _live_pair(checkpoint_interval_ms=60_000)
    go_on = _stall(first.groups[1])
    second = pair.start("b")
    pair.turn()
    assert not second.groups
    pair.workers.remove(first)
    go_on()
    assert first.close()
    pair.turn()
    assert set(second.groups) == {0, 1}
    assert second.is_live
    assert pair.metrics.counts.get("replayed_records", 0) == 0


def test_added_partitions_are_told_once() -> None:
    """They are not read, and the log says so within a minute; once for each number."""
    pair, first = _live_pair(checkpoint_interval_ms=60_000)
    logs, config = pair.kafka._topics["in"]
    logs.append(PartitionLog("in", 2, config=config, clock=pair.kafka.clock))
    pair.kafka.append("in", b"beyond", partition=2)
    with capture_logs() as logged:
        for _ in range(3):
            pair.clock.advance(61.0)
            pair.turn(5)
    line = "partitions were added to an input, their records are not read"
    assert [entry["event"] for entry in logged].count(line) == 1
    assert first.is_live
    assert pair.outputs(0) + pair.outputs(1) == [b"BEFORE", b"BEFORE"]


def test_what_is_done_is_not_started_again_by_who_has_not_heard_yet() -> None:
    """A run is over, and who hears it first leaves: the other one gets its group, and ends too."""
    pair = Pair()
    pair.send("all")
    first = pair.start("a", "end")
    second = pair.start("b", "end")
    for _ in range(STEPS_MAX):
        if first.is_done:
            break
        pair.turn(1)
        # It has not heard yet: its next look is still to come.
        if second._bounded is not None and second._bounded.run is not None:
            second._bounded._check_at = None
    assert [first.is_done, second.is_done] == [True, False]
    pair.workers.remove(first)
    first.close()
    pair.turn()
    assert set(second.groups) == {0, 1}
    assert second.is_done
    assert len(second.ended_groups) == 1
    for partition in (0, 1):
        log = pair.kafka.log((pair.topology.lineage_topic, partition))
        records = log.read(0, 1_000, is_committed=False)[0]
        kinds = [key_incarnation(record.key() or b"")[1] for record in records]
        assert kinds.count(START) == 1
    second.close()


def test_h60_groups_without_an_owner_are_shared_out_anew() -> None:
    """H60: who was asked to give a group up dies, and is back under its name: nobody has it.

    The cluster sees no need to share out, so the workers that look have it do so within 30 s.
    """
    pair, first = _live_pair(checkpoint_interval_ms=60_000)
    _stall(first.groups[1])
    second = pair.start("b")
    pair.turn(5)
    assert set(first.groups) == {0, 1}, "it drains"
    pair.kill(first)
    again = pair.start("a")
    pair.turn(100)
    assert (set(again.groups), set(second.groups)) == ({0}, set())
    pair.turn(2_900)
    assert (set(again.groups), set(second.groups)) == ({0}, {1})
    assert again.is_live
    assert second.is_live
    pair.send("after")
    pair.turn()
    assert pair.outputs(1) == [b"BEFORE", b"AFTER"]


def test_a_member_that_the_group_knows_otherwise_joins_again() -> None:
    """A worker that has other groups than the cluster gave it joins again, and has those."""
    pair, first = _live_pair(checkpoint_interval_ms=60_000)
    first._groups._drop(1)  # as a callback that was lost
    pair.turn(1_000)
    assert set(first.groups) == {0}
    pair.turn(2_000)
    assert set(first.groups) == {0, 1}
    assert first.is_live


def test_to_share_out_anew_disturbs_no_drain() -> None:
    """H60: the cluster calls a group nobody's while its owner takes long to give it up."""
    pair, first = _live_pair(checkpoint_interval_ms=60_000, shutdown_timeout_ms=60_000)
    go_on = _stall(first.groups[1])
    second = pair.start("b")
    with capture_logs() as logs:
        pair.turn(4_000)
        assert set(first.groups) == {0, 1}
        go_on()
        pair.turn()
    assert (set(first.groups), set(second.groups)) == ({0}, {1})
    assert "task groups without an owner, they are shared out anew" in {
        line["event"] for line in logs
    }
    assert pair.metrics.counts["recoveries"] == 3


def test_h33_no_checkpoint_counts_before_the_first_commit() -> None:
    """H33: a start from it would find no committed position, and refuse.

    A task that has put out nothing is checkpointed once all the same, but after the commit.
    """
    pair = Pair(checkpoint_interval_ms=1_000)
    worker = pair.start("a")
    cluster = worker.context.clients.cluster
    assert isinstance(cluster, MemoryCluster)
    for _ in range(STEPS_MAX):
        cluster.links["sink"].holds_requests = _are_past_their_fences(worker)
        pair.turn(1)
        if worker.is_live:
            break
    pair.turn(500)
    assert pair.kafka.coordinator.positions == {}
    assert not _checkpoints(pair)
    cluster.links["sink"].holds_requests = False
    pair.turn(500)
    assert len(pair.kafka.coordinator.positions) == 2
    assert _checkpoints(pair)


def _are_past_their_fences(worker: Worker) -> bool:
    """Whether the sinks of all groups are initialised, so that only a commit is held back."""
    recoveries = [g.recovery for g in worker.groups.values() if g.recovery is not None]
    later = list(GroupState)[list(GroupState).index(GroupState.SEALING) :]
    return len(recoveries) == 2 and all(r.state in later for r in recoveries)


def _checkpoints(pair: Pair) -> list[object]:
    records = pair.kafka.read(pair.topology.lineage_topic)
    return [r for r in records if key_incarnation(r.key() or b"")[1] == CHECKPOINT]


def test_what_a_zombie_holds_is_no_final_state() -> None:
    """Its successor ended the run, and its own RELEASE is void: one worker owns a key at the end.

    It ran to the end, and finds that the run is over, before its clients hear that its groups were
    taken, and read the CLAIMs.
    """
    pair = Pair()
    pair.send("all")
    zombie = pair.start("a", "end")
    lineage = zombie.context.clients.cluster.links["lineage"]  # type: ignore[attr-defined] # it is a MemoryCluster
    for _ in range(STEPS_MAX):
        pair.turn(1)
        if zombie.is_live:
            break
    lineage.holds_requests = True
    pair.turn()
    assert {group.phase for group in zombie.groups.values()} == {Phase.DRAINING}
    pair.workers.remove(zombie)
    vars(zombie.context.clients.membership)["poll"] = lambda _: True
    vars(zombie.context.clients.consumer)["poll"] = lambda _: []
    pair.kafka.group("moves").expire("a")
    second = pair.start("b", "end")
    pair.turn()
    assert set(second.ended_groups) == {0, 1}
    pair.workers = [zombie]
    lineage.holds_requests = False
    pair.turn()
    assert set(zombie.groups) == {0, 1}
    assert zombie.is_done
    assert not zombie.ended_groups
    zombie.close()
    second.close()
