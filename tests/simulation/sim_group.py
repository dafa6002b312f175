"""A thin driver of `GroupCore`: carries out its effects against the simulated Kafka.

One object is one attempt at owning one task group. When the attempt ends, however it ends, the
object is dead and late callbacks find that out; a new attempt is a new object.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from kstash.core import effects, events
from kstash.core.confirmed import Confirmed
from kstash.core.group_state import GroupState
from kstash.core.ids import OutPartition, TaskId
from kstash.core.lineage_codec import decode_lineage
from kstash.core.records import Checkpoint, Claim, Generation, Gone, LineageRecord
from kstash.core.sink import SinkCommitter
from kstash.core.tail_scan import TailScan
from kstash.core.wire import End, Fence, decode_marker, encode_marker
from kstash.errors import IncarnationFencedError, KstashError
from tests.simulation.programs import INTERNAL, Value
from tests.simulation.sim_calls import is_of_calls
from tests.simulation.sim_files import SimFiles
from tests.simulation.sim_kafka import NEXT, Log, OnAck, Record, Session
from tests.simulation.sim_live import LiveGroup, told_by
from tests.simulation.sim_replay import replay_batch
from tests.simulation.sim_task import Saved, SimTask
from tests.simulation.truth import ViolationError

if TYPE_CHECKING:
    from tests.simulation.world import Worker


BEFORE_SEAL = frozenset(
    {
        GroupState.READING,
        GroupState.CONFIGURING,
        GroupState.CLAIMING,
        GroupState.READING_CLAIM,
        GroupState.FENCING,
        GroupState.SEALING,
        GroupState.READING_SEAL,
        GroupState.READING_CONFIG,
    }
)


class SimGroup(LiveGroup):
    """One attempt of one worker at one task group."""

    def __init__(self, worker: Worker, number: int) -> None:
        super().__init__(worker, number)
        self._read_position = 0
        self._read_through = -1
        self._is_reading = False
        self._collected: list[tuple[int, LineageRecord | Gone]] = []
        self._answers: list[Record] = []
        self._fences_missing = 0
        self._sinks_missing = 0
        self._committed_read: list[str | None] = []
        self._fence_offsets: dict[tuple[str, int], int] = {}
        self.early_ends: dict[tuple[str, int], int] = {}
        self._scanning: list[tuple[TailScan, tuple[int, int], Log, int, int]] | None = None
        self._missing: Any = {}
        self._stored: dict[TaskId, dict[OutPartition, dict[int, Value]]] = {}
        self._verifying: effects.VerifyCheckpoints | None = None
        # What a restore found whole, as it has been on this disk from then on.
        self._restored: dict[tuple[TaskId, str], Saved] = {}
        self.step(events.Begin())

    # ---- the core's events and effects

    def step(self, event: events.Event) -> None:
        """Give one event to the core and carry out what it answers.

        What a zombie of before a reset finds wrong in topics that are not its own ends the attempt.
        """
        try:
            for effect in self.core.step(event):
                EFFECTS[type(effect)](self, effect)
        except (AssertionError, KstashError):
            if not self.is_of_an_older_life:
                raise
            self.worker.start_over(self.number)

    @property
    def is_live(self) -> bool:
        """Whether recovery is over."""
        return self.core.state is GroupState.LIVE

    @property
    def is_of_an_older_life(self) -> bool:
        """Whether the lineage topic was made anew since it began."""
        return self.life < self.world.life

    @property
    def is_reading_lineage(self) -> bool:
        """Whether it is between the first record of the lineage topic and its SEAL."""
        return self.core.state in BEFORE_SEAL

    def close(self) -> None:
        """End this attempt."""
        self.dead = True
        for sink in self.sinks:
            sink.close()

    def work(self, rng: Random, budget: int) -> None:
        """Do some of what can be done in the current state."""
        state = self.core.state
        if self._is_reading:
            self._read(rng)
        elif self._verifying is not None:
            self._verified(self._verifying)
        elif state is GroupState.SCANNING and self._scanning is not None:
            self._scan(budget)
        elif state is GroupState.REPLAYING:
            self._replay(rng, budget)

    def _read_lineage(self, effect: effects.ReadLineage) -> None:
        log = self.lineage_log
        self._read_position = effect.start
        if effect.through is None:
            self._read_through = log.listed_end - 1
        else:
            self._read_through = self.world.mutations.read_end(self, effect.through)
        self._collected = []
        self._is_reading = True

    def _read(self, rng: Random) -> None:
        limit = 1 << 30 if rng.random() < 0.5 else 8
        log = self.lineage_log
        if self._read_through >= log.end:
            # It waits in vain for what lay there before a reset; at a deadline it starts over.
            raise IncarnationFencedError("the lineage topic was made anew")
        found, position = log.fetch(self._read_position, limit, committed=True)
        for record in found:
            if is_of_calls(record):
                self._answers.append(record)
            elif record.offset <= self._read_through:
                self._collected.append((record.offset, told_by(record)))
        self._read_position = position
        if position > self._read_through:
            self._is_reading = False
            self.step(events.LineageRead(self._collected))
            # Which generation counts is known by now.
            for record in self._answers:
                self.answers.fold(record, self.core.view.generation)
            self._answers = []

    def _append_generation(self, _: effects.AppendGeneration) -> None:
        nonce = self.world.next_nonce()
        generation = self.world.generation_seen_by(self.worker)
        self._send_claim(Generation(nonce, generation), lambda offset: events.GenerationAppended())  # noqa: ARG005

    def _append_claim(self, _: effects.AppendClaim) -> None:
        claim = Claim(self.world.next_nonce(), self.worker.name)
        self._send_claim(claim, events.ClaimAppended)

    def _send_claim(self, record: Generation | Claim, event: Any) -> None:
        def on_ack(error: str | None, offset: int) -> None:
            if self.dead:
                return
            # An attempt that timed out may still land, so it is never sent again as it is.
            self.step(event(offset) if error is None else events.Begin())

        self._to_lineage(self.worker.claims, record, on_ack)

    def _fence_outputs(self, effect: effects.FenceOutputs) -> None:
        marker = effect.marker
        ghost = ("fence", marker.incarnations)
        if self.world.knobs.through_bytes:
            decoded = decode_marker(encode_marker(marker))
            assert decoded == marker
        logs = [
            self.world.cluster.log(output.topic, p)
            for stage in self.world.stages
            for output in stage.outputs
            if output.kind == INTERNAL
            for p in range(self.world.groups)
        ]
        self._fences_missing = len(logs)
        self.world.mutations.before_fence(self, logs)
        for log in logs:
            record = Record(None, None, marker, ghost)
            self.worker.markers.send(log, record, self._on_fence(log))
        if self.world.has_sinks:
            self._initialise_sinks()
        self._check_fenced()

    def _on_fence(self, log: Log) -> OnAck:
        def on_ack(error: str | None, offset: int) -> None:
            if self.dead:
                return
            assert error is None
            self._fences_missing -= 1
            self._fence_offsets[log.key] = offset
            self._check_fenced()

        return on_ack

    def _initialise_sinks(self) -> None:
        early = self.world.mutations.committed_before_fence(self)
        name = f"app-{self.number}"
        self._sinks_missing = 2
        for transactional_id in (name, name + NEXT):
            self._initialise_sink(transactional_id, early)

    def _initialise_sink(self, transactional_id: str, early: list[str | None] | None) -> None:
        cluster = self.world.cluster
        sink = Session(cluster, "sink", self.worker.number, transactional_id)
        self.sinks.append(sink)

        def read(answer: str | None) -> None:
            # The producers tell in any order what each has read after its own initialisation.
            if self._committed_read and self.world.mutations.counts_first_position:
                return
            self._committed_read.append(answer)

        def on_done(_: str | None, epoch: int) -> None:
            if self.dead:
                return
            sink.epoch = epoch
            self._sinks_missing -= 1
            read(cluster.positions.get(f"app-{self.number}") if early is None else early[0])
            self._check_fenced()

        cluster.request(sink, lambda: cluster.initialise(transactional_id), on_done)

    def _check_fenced(self) -> None:
        if not self._fences_missing and not self._sinks_missing:
            self.step(events.Fenced(tuple(self._committed_read)))

    def _append_seal(self, effect: effects.AppendSeal) -> None:
        def on_ack(_: str | None, offset: int) -> None:
            if not self.dead:
                self.step(events.SealAppended(offset))

        self._to_lineage(self.worker.markers, effect.record, on_ack)

    def _verify(self, effect: effects.VerifyCheckpoints) -> None:
        # Files are looked at in another turn: a claimant may stall before it lists ends.
        self._verifying = effect

    def _verified(self, effect: effects.VerifyCheckpoints) -> None:
        self._verifying = None
        for task, checkpoints in effect.candidates.items():
            for checkpoint in checkpoints:
                saved = self._files_of(checkpoint)
                if saved is not None:
                    self._restored[task, checkpoint.label] = saved
        self.step(events.CheckpointsVerified(frozenset(self._restored)))

    def _files_of(self, checkpoint: Checkpoint) -> Saved | None:
        if not checkpoint.is_remote:
            return self.worker.disk.get((checkpoint.task, checkpoint.label))
        if not self.world.store.issuperset(entry.uri for entry in checkpoint.files):
            return None
        return self.world.remote.get((checkpoint.task, checkpoint.label))

    def _scan_tails(self, effect: effects.ScanTails) -> None:
        self._missing = effect.missing_inputs
        self._scanning = []
        for scan in effect.scans:
            stage = self.world.stages[scan.task.stage]
            for partition, (start, _) in scan.starts.items():
                topic, kind = stage.outputs[partition[0]]
                log = self.world.cluster.log(topic, partition[1])
                # Sinks hold no FENCE: what is listed by now, perhaps long after the SEAL.
                listed = self._fence_offsets[log.key] if kind == INTERNAL else log.end
                end = self.world.mutations.scan_end(self, log, listed)
                self._scanning.append((scan, partition, log, start, end))

    def _scan(self, budget: int) -> None:
        assert self._scanning is not None
        while self._scanning and budget > 0:
            scan, partition, log, position, end = self._scanning.pop()
            found, _ = log.fetch(max(position, log.start), 1 << 30, committed=False)
            for record in found:
                if record.offset >= end:
                    break
                self._scan_record(scan, partition, record)
            budget -= 1
        if not self._scanning:
            self._scanning = None
            zeros = {stage: dict.fromkeys(inputs, 0) for stage, inputs in self._missing.items()}
            self.step(events.TailsScanned(zeros))

    def _scan_record(self, scan: TailScan, partition: tuple[int, int], record: Record) -> None:
        if scan_record(scan, partition, record):
            stored = self._stored.setdefault(scan.task, {}).setdefault(partition, {})
            stored.update(enumerate(record.value, record.headers[0].first_seq))

    def _append_start(self, effect: effects.AppendStart) -> None:
        def on_ack(*_: Any) -> None:
            if not self.dead and self.core.state is GroupState.STARTING:
                self.step(events.StartAppended())

        self._to_lineage(self.worker.markers, effect.record, on_ack)

    def _recover(self, effect: effects.Recover) -> None:
        sink_stages = [
            s.index for s in self.world.stages if any(o.kind != INTERNAL for o in s.outputs)
        ]
        incarnation = self.core.incarnation
        if sink_stages:
            positions = {
                stage: effect.plans[TaskId(stage, self.number)].committed for stage in sink_stages
            }
            self.committer = SinkCommitter(incarnation.generation, positions)
        self.confirmed = Confirmed(
            incarnation, {task: plan.stable for task, plan in effect.plans.items()}
        )
        self._check_graceful(effect)
        counted = self.core.view.checkpoints.values()
        offsets = [offset for found in counted for offset, _ in found]
        self.world.checkers.check_void(self.lineage_log, offsets)
        for task, plan in sorted(effect.plans.items()):
            # Not from the store again: a successor may have deleted files there meanwhile.
            saved = None if plan.base is None else self._restored[task, plan.base.label]
            if plan.base is not None and plan.base.is_remote:
                self.newest[task.stage] = plan.base
            stage = self.world.stages[task.stage]
            self.tasks[task.stage] = SimTask(
                self, stage, plan, saved, incarnation, self._stored.get(task, {})
            )
            self.world.mutations.begins(self.tasks[task.stage])
            if self.world.knobs.has_files:
                remote = self.core.remote_checkpoints(task)
                self.files[task.stage] = SimFiles(self.world, task, incarnation, remote)
            if plan.base is not None and saved is not None and not plan.base.is_remote:
                self.take_over(plan.base, saved)
        self.first_question = self.world.mutations.first_question(self.worker)
        # What only headers held goes into the lineage topic before any new output.
        for sim_task in self.tasks.values():
            self.flush(sim_task)

    def _check_graceful(self, effect: effects.Recover) -> None:
        """After a RELEASE nothing is replayed, unless its checkpoint was damaged since."""
        chain = self.core.view.chain(self.core.view.parent_of(self.core.incarnation))
        if not chain or chain[-1].incarnation not in self.core.view.releases:
            return
        _, release = self.core.view.releases[chain[-1].incarnation]
        for task, plan in sorted(effect.plans.items()):
            known = {c.position: c.label for _, c in self.core.view.checkpoints.get(task, ())}
            label = known.get(release.positions[task.stage])
            if (task, label) in self.world.checkers.damaged:
                continue
            if not plan.position == plan.adopted == release.positions[task.stage]:
                raise ViolationError(
                    "RELEASE",
                    f"{task} was released at {release.positions[task.stage]}, but replays "
                    f"[{plan.position}, {plan.adopted})",
                )

    def _replay(self, rng: Random, budget: int) -> None:
        for task in self.tasks.values():
            while task.is_replaying and budget > 0:
                replay_batch(task, 1 + int(rng.random() * 5))
                budget -= 1
        if not any(task.is_replaying for task in self.tasks.values()):
            for task in self.tasks.values():
                self.world.checkers.check_start_of_live(task.id, task.incarnation)
            self.step(events.Replayed())

    def _go_live(self, _: effects.GoLive) -> None:
        self.world.live_count += 1


def scan_record(scan: TailScan, partition: tuple[int, int], record: Record) -> bool:
    """Give a record of an output partition to a scan; returns whether it counts as an output."""
    head = record.headers
    if isinstance(head, Fence | End):
        scan.on_marker(partition, record.offset, head)
        return False
    identity, chunk = head
    if identity.task != scan.task:
        return False
    lineage = None if chunk is None else decode_lineage(chunk)
    return scan.on_record(partition, record.offset, identity, lineage)


EFFECTS: dict[type, Any] = {
    effects.ReadLineage: SimGroup._read_lineage,
    effects.AppendGeneration: SimGroup._append_generation,
    effects.AppendClaim: SimGroup._append_claim,
    effects.FenceOutputs: SimGroup._fence_outputs,
    effects.AppendSeal: SimGroup._append_seal,
    effects.VerifyCheckpoints: SimGroup._verify,
    effects.ScanTails: SimGroup._scan_tails,
    effects.AppendStart: SimGroup._append_start,
    effects.Recover: SimGroup._recover,
    effects.GoLive: SimGroup._go_live,
}
