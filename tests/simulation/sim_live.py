"""The live path of a task group: lineage, outputs, commits, checkpoints, trimming."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from kstash.core.confirmed import Confirmed
from kstash.core.group import GroupCore
from kstash.core.live import Admission, may_say_end
from kstash.core.outputs import Outgoing
from kstash.core.record_codec import decode_record, encode_value
from kstash.core.record_keys import encode_key
from kstash.core.records import Checkpoint, FileEntry, Gone, LineageRecord, Release
from kstash.core.sink import CommitState, CommittedPositions, SinkCommitter
from kstash.core.trim import made_remote, may_trim_now, said_again, tombstones
from kstash.core.watermark import EventTimes
from kstash.core.wire import End, Identity, decode_identity
from kstash.errors import IncarnationFencedError
from tests.simulation.programs import IMMEDIATE, INTERNAL
from tests.simulation.sim_calls import Answers, given_up, is_of_calls
from tests.simulation.sim_files import SimFiles, named_by
from tests.simulation.sim_kafka import OnAck, Record, Session
from tests.simulation.sim_task import Saved, SimTask, as_meaning
from tests.simulation.understanding import understand

if TYPE_CHECKING:
    from tests.simulation.world import Worker, World


def told_by(record: Record) -> LineageRecord | Gone:
    """What a record of the lineage topic says."""
    if record.value is not None:
        told: LineageRecord = record.value
        return told
    assert record.key is not None
    return Gone(record.key)


class Pending:
    """A checkpoint that was taken and is not published yet."""

    __slots__ = ("files", "is_uploaded", "record", "saved")

    def __init__(self, record: Checkpoint, saved: Saved) -> None:
        self.record = record
        self.saved = saved
        self.files: tuple[FileEntry, ...] = ()
        self.is_uploaded = False


class LiveGroup:
    """The live path of one attempt at one task group."""

    def __init__(self, worker: Worker, number: int) -> None:
        world = worker.world
        self.worker = worker
        self.world: World = world
        self.number = number
        self.life = world.life
        self.dead = False
        self.lineage_log = world.lineage_logs[number]
        self.core = GroupCore(
            group=number,
            application=world.application,
            specs=world.specs_of(worker, number),
            external_inputs=world.external_inputs,
            settings={"hash": "1"},
        )
        self.tasks: dict[int, SimTask] = {}
        self.confirmed: Confirmed | None = None
        self.answers = Answers()
        # By stage; none in a world whose checkpoints are one piece.
        self.files: dict[int, SimFiles] = {}
        # Two producers: the one outputs go to, and the one whose transaction is committed.
        self.sinks: list[Session] = []
        self.open_slot = self.closing_slot = 0
        self.committer: SinkCommitter | None = None
        self.sink_queue: list[tuple[SimTask, Outgoing]] = []
        self.sink_unacked = [0, 0]
        self.pending: list[Pending] = []
        self.published: list[Checkpoint] = []
        # Of each stage the remote checkpoint last read back, while nothing newer is on its way.
        self.newest: dict[int, Checkpoint] = {}
        self.trimmed: set[bytes] = set()
        self.checkpoint_number = 0
        self.listings: dict[tuple[str, int], tuple[int, int]] = {}
        # Of the worker's questions, the first one after the tasks were opened (H64).
        self.first_question = 0
        self.is_draining = self.is_releasing = self.is_released = False
        self.checkpoints_unacked = 0
        self.admission = Admission()

    def follow(self) -> None:
        """Read what is new in the lineage topic; raises when a higher CLAIM is there."""
        view = self.core.view
        if view.next_offset > self.lineage_log.end:
            raise IncarnationFencedError("the lineage topic was made anew: its end is below")
        found, _ = self.lineage_log.fetch(view.next_offset, 1 << 30, committed=True)
        for record in found:
            if is_of_calls(record):
                self.answers.fold(record, view.generation)
                continue
            told = told_by(record)
            view.fold(record.offset, told)
            if self.confirmed is not None:
                self.confirmed.fold(record.offset, told)
        self.act()
        self.core.check_fenced()
        if self.published:
            self._trim()

    def act(self) -> None:
        """Do outside of Kafka what events have asked for, once they are confirmed."""
        if self.confirmed is None or self.life < self.world.life:
            return  # what a zombie of before a reset does late belongs to that life
        for task in self.tasks.values():
            core = task.core
            if not task.logs:
                continue
            confirmed = self.confirmed.through(task.id, core.stable)
            task.caller.start(confirmed)
            for position in range(task.acted, confirmed):
                event = task.truth[position]
                self.world.checkers.on_effect(task.id, position, event)
                task.acted = position + 1

    # ---- lineage

    def _to_lineage(
        self, session: Session, record: LineageRecord, on_ack: OnAck | None, ghost: Any = None
    ) -> None:
        key = encode_key(record)
        value: LineageRecord = record
        if self.world.knobs.through_bytes:
            value = decode_record(key, encode_value(record))
            assert value == record, (value, record)
        key = self.world.mutations.cleaner_key(key)
        session.send(self.lineage_log, Record(key, value, ghost, record), on_ack)

    def flush(self, task: SimTask) -> None:
        """Append what the stash holds to the lineage topic."""
        for segment in task.core.take_segments():
            end = segment.end
            self._to_lineage(self.worker.lineage, segment, self._on_segment(task, end))

    def _on_segment(self, task: SimTask, end: int) -> OnAck:
        def on_ack(*_: Any) -> None:
            if not self.dead:
                for outgoing in task.core.on_segment_acked(end):
                    self.send(task, outgoing)

        return on_ack

    def hint(self, task: SimTask) -> None:
        """Append a HINT when something moved."""
        record = task.core.take_hint()
        if record is not None:
            self._to_lineage(self.worker.lineage, record, None)

    def list_ends(self, task: SimTask) -> None:
        """Ask for the ends of output partitions where the task is idle; the answer comes later."""
        for o, output in enumerate(task.stage.outputs):
            for p in range(self.world.groups):
                if task.core.is_idle_at((o, p)):
                    end = self.world.cluster.log(output.topic, p).listed_end
                    self.listings[output.topic, p] = self.worker.questions, end
        self.worker.questions += 1

    def answer_listings(self) -> None:
        """Give all tasks the ends that the worker knows, those of other groups' questions too."""
        ends = self.worker.ends
        ends |= self.listings
        self.listings.clear()
        for task in self.tasks.values():
            for o, output in enumerate(task.stage.outputs):
                for p in range(self.world.groups):
                    question, end = ends.get((output.topic, p), (-1, 0))
                    if question >= self.first_question:
                        task.core.on_idle_end((o, p), end)

    # ---- outputs

    def send(self, task: SimTask, outgoing: Outgoing) -> None:
        """Produce outputs, or queue them while a transaction is being committed."""
        output = task.stage.outputs[outgoing.partition[0]]
        if output.kind == INTERNAL:
            self._produce_frame(task, output.topic, outgoing)
            return
        committer = self.committer
        assert committer is not None
        stage = task.stage.index
        if committer.admits(stage, outgoing.position):
            committer.on_sent(stage, outgoing.position)
            self._produce_to_sink(task, output.topic, output.kind, outgoing)
        else:
            self.sink_queue.append((task, outgoing))

    def _produce_frame(self, task: SimTask, topic: str, outgoing: Outgoing) -> None:
        log = self.world.cluster.log(topic, outgoing.partition[1])
        count = outgoing.count
        identity = self._identity(task, outgoing, outgoing.first_seq, count)
        chunk = None if outgoing.chunk is None else understand(outgoing.chunk)
        meaning = as_meaning(task, outgoing, outgoing.first_seq, outgoing.payload, chunk)
        record = Record(None, outgoing.payload, (identity, outgoing.chunk), meaning)
        self.worker.data.send(log, record, self._on_output(task, outgoing))

    def _identity(self, task: SimTask, outgoing: Outgoing, first: int, count: int) -> Identity:
        identity = Identity(
            self.world.application, task.id, task.incarnation, outgoing.position, count, first
        )
        if self.world.knobs.through_bytes:
            identity = decode_identity(identity.encode())
        return identity

    def _on_output(self, task: SimTask, outgoing: Outgoing) -> OnAck:
        def on_ack(error: str | None, offset: int) -> None:
            if not self.dead and error is None:
                task.core.on_output_acked(outgoing.partition, outgoing.position, offset)

        return on_ack

    def _produce_to_sink(self, task: SimTask, topic: str, kind: str, outgoing: Outgoing) -> None:
        slot = self.open_slot
        log = self.world.cluster.log(topic, outgoing.partition[1])
        self.sink_unacked[slot] += 1
        acked = self._on_output(task, outgoing)

        def on_last(error: str | None, offset: int) -> None:
            if not self.dead:
                self.sink_unacked[slot] -= 1
                acked(error, offset)

        chunk = outgoing.chunk
        assert chunk is None or kind == IMMEDIATE, "lineage on a transactional sink"
        last = outgoing.count - 1
        for i, value in enumerate(outgoing.payload):
            first = outgoing.first_seq + i
            identity = self._identity(task, outgoing, first, 1)
            ghost = None if chunk is None else understand(chunk)
            meaning = as_meaning(task, outgoing, first, (value,), ghost)
            headers = (identity, chunk) if kind == IMMEDIATE else None
            record = Record(None, (value,), headers, meaning)
            self.sinks[slot].send(log, record, on_last if i == last else None)
            chunk = None

    # ---- commits

    def commit(self) -> None:
        """Move the open transaction one step towards its commit."""
        committer = self.committer
        if committer is None:
            return
        tasks = {stage: task.core for stage, task in self.tasks.items()}
        if committer.may_close(tasks):
            committer.close()
            self.closing_slot = self.open_slot
        if committer.state is not CommitState.CLOSING:
            return
        slot = self.closing_slot
        # A driver may take its time with the switch.
        is_time = self.world.knobs.switches or committer.is_stable(tasks)
        if is_time and committer.may_switch(tasks, self.sink_unacked[slot]):
            committer.switch()
            self.open_slot = 1 - slot
            self.drain_queue()
        if not committer.may_commit(tasks):
            return
        sink = self.sinks[slot]
        if sink.failed:
            return
        metadata = committer.commit()
        cluster = self.world.cluster
        incarnation = self.core.incarnation
        positions = CommittedPositions.decode(metadata).positions

        def call() -> bool:
            done = cluster.commit(sink, metadata)
            if done:
                for stage, position in sorted(positions.items()):
                    self.world.checkers.on_position((stage, self.number), incarnation, position)
            return done

        cluster.request(sink, call, self._on_committed)

    def _on_committed(self, _: str | None, done: bool) -> None:
        if self.dead or self.committer is None:
            return
        if not done:
            self.sinks[self.closing_slot].failed = True
            return
        for stage, position in sorted(self.committer.on_committed().items()):
            self.tasks[stage].core.on_committed(position)
        self.drain_queue()

    def drain_queue(self) -> None:
        """Produce what was queued during the commit."""
        queue, self.sink_queue = self.sink_queue, []
        for task, outgoing in queue:
            self.send(task, outgoing)

    # ---- checkpoints

    def checkpoint(self, task: SimTask, *, is_remote: bool) -> None:
        """Freeze the state at the current position; it is published later."""
        core = task.core
        if core.is_under_way and not self.world.mutations.freezes_within_event:
            return  # its outputs would be all that is there of it after a crash
        task.checkpointed = core.position
        kept = self.world.mutations.frozen(task.state.snapshot())
        self.checkpoint_number += 1
        label = f"{str(task.incarnation).replace(':', '-')}-{self.checkpoint_number}"
        record = Checkpoint(
            task.incarnation,
            task.id,
            self.checkpoint_number,
            is_remote,
            core.position,
            label,
            (),
            dict(enumerate(task.offsets)),
            core.sequences(),
            {i: t.copy() for i, t in enumerate(task.tables) if t is not None},
            {},
            made=core.made(),
            places=dict(task.places),
            event_time=self._frozen_times(task),
        )
        self.pending.append(Pending(record, Saved(kept, task.truth)))

    def _frozen_times(self, task: SimTask) -> EventTimes | None:
        timed = task.state.timed
        if timed is None:
            return None
        return self.world.mutations.frozen_times(timed.event_time.saved())

    def publish(self, rng: Random) -> None:
        """Upload files, and publish checkpoints whose conditions hold."""
        for pending in list(self.pending):
            record = pending.record
            task = self.tasks[record.task.stage]
            if not pending.is_uploaded:
                is_remote = record.is_remote or record.incarnation != task.incarnation
                files = self.files.get(record.task.stage) if is_remote else None
                if files is not None and files.on_way:
                    continue  # one upload of a task at a time
                pending.is_uploaded = rng.random() < 0.7
                if pending.is_uploaded:
                    where = self.world.remote if is_remote else self.worker.disk
                    where[record.task, record.label] = pending.saved
                    if files is not None:
                        pending.files = files.upload(record, pending.saved.snapshot)
                continue
            is_early = self.is_draining and self.world.mutations.releases_before_commits
            if not self._may_publish(task, record) and not (
                is_early and task.core.stable >= record.position
            ):
                continue
            core = task.core
            final: Checkpoint | None
            if record.incarnation == task.incarnation:
                final = replace(
                    record,
                    files=pending.files,
                    scan_from=core.scan_from(),
                    reached=core.stable,
                    checked=core.checked(),
                )
            else:
                final = made_remote(record, core, self.checkpoint_number + 1, pending.files)
                if final is None:
                    continue
                self.checkpoint_number += 1
            self.pending.remove(pending)
            history = pending.saved.history
            ghost = (pending.saved.snapshot, history)
            self.checkpoints_unacked += 1
            self._to_lineage(self.worker.lineage, final, self._on_checkpoint(final), ghost)
            self.published.append(final)
            if self.world.mutations.deletes_without_reading_back and final.is_remote:
                self._collect(final)
            if self.world.mutations.trims_without_reading_back:
                mine = self.core.view.checkpoints.setdefault(final.task, [])
                before = list(mine)
                offset = self.core.view.next_offset
                late = [c for c in self.published if c.task == final.task]
                mine += [(offset + i, c) for i, c in enumerate(late)]
                self._send_tombstones()
                mine[:] = before

    def take_over(self, base: Checkpoint, saved: Saved) -> None:
        """A task comes back from a local checkpoint: its files are stored, it becomes remote."""
        self.pending.append(Pending(base, saved))

    def _may_publish(self, task: SimTask, record: Checkpoint) -> bool:
        if self.committer is not None and self.committer.is_fresh:
            return False
        return task.core.may_publish_checkpoint(record.position)

    def _on_checkpoint(self, final: Checkpoint) -> OnAck:
        def on_ack(*_: Any) -> None:
            self.checkpoints_unacked -= 1
            if final.is_remote and final.task.stage in self.files:
                self.files[final.task.stage].on_published(final)

        return on_ack

    def _collect(self, own: Checkpoint) -> None:
        files = self.files.get(own.task.stage)
        if files is not None:
            files.collect(own, named_by(f for f in self.files.values() if f is not files))

    def delete_files(self) -> None:
        """Delete old files of checkpoints, as was decided in an earlier turn."""
        for files in self.files.values():
            files.delete()

    # ---- a graceful move

    def begin_release(self) -> None:
        """Take no more input; checkpoint every task where it stands, if no event is under way."""
        if any(task.core.is_under_way for task in self.tasks.values()):
            return
        self.is_draining = True
        self.admission.close()
        for task in self.tasks.values():
            self.checkpoint(task, is_remote=True)

    def release(self) -> None:
        """Append RELEASE once every checkpoint is in the lineage topic."""
        waits = bool(self.pending or self.checkpoints_unacked)
        if self.world.mutations.releases_before_checkpoints:
            waits = False
        if self.is_releasing or waits:
            return
        self.is_releasing = True
        positions = {stage: task.core.position for stage, task in self.tasks.items()}
        release = Release(self.core.incarnation, positions)
        self._to_lineage(self.worker.lineage, release, self._on_release)

    def _on_release(self, error: str | None, _: Any) -> None:
        if not self.dead and error is None:
            self.is_released = True

    def _trim(self) -> None:
        view = self.core.view
        for own in list(self.published):
            if not may_trim_now(view, own):
                continue
            self.published.remove(own)
            if not own.is_remote:
                continue
            self.newest[own.task.stage] = own
            self._send_tombstones()
            self._collect(own)

    def say_again(self, task: SimTask) -> None:
        """Publish an idle task's newest checkpoint again, where its outputs end by now."""
        newest = self.newest.get(task.stage.index)
        if newest is None or any(p.record.task == task.id for p in self.pending):
            return
        if self.committer is not None and self.committer.is_fresh:
            return
        offsets = {i: at for i, at in enumerate(task.offsets) if task.tables[i] is None}
        record = said_again(newest, task.core, self.checkpoint_number + 1, offsets)
        if record is not None:
            self.checkpoint_number += 1
            ghost = (task.state.snapshot(), task.truth)
            self._to_lineage(self.worker.lineage, record, None, ghost)
            self.published.append(record)
            del self.newest[task.stage.index]

    def _send_tombstones(self) -> None:
        covered = tombstones(self.core.view, [task.id for task in self.tasks.values()])
        for key in (*covered, *given_up(self)):
            if key not in self.trimmed:
                self.trimmed.add(key)
                key = self.world.mutations.cleaner_key(key)
                self.worker.lineage.send(self.lineage_log, Record(key, None, None, ("gone",)))

    # ---- ends of a bounded run

    def send_ends(self) -> None:
        """In a bounded run, say that a task at its ends has produced everything."""
        for task in self.tasks.values():
            if task.ends_sent or not self.world.is_at_end(task):
                continue
            core, mutations = task.core, self.world.mutations
            is_durable = core.may_publish_checkpoint(core.position)
            if mutations.ends_before_stable:
                is_durable = core.outputs_done_through() >= core.position
            waits = self.world.knobs.flushes_at_end and bool(task.state.kept)
            if mutations.ends_before_flushes:
                waits = False
            if not may_say_end(has_read_all=True, waits=waits, is_durable=is_durable):
                continue
            task.ends_sent = True
            for o, output in enumerate(task.stage.outputs):
                if output.kind != INTERNAL:
                    continue
                for p in range(self.world.groups):
                    last = core.next_sequence((o, p)) - 1
                    application, life = self.world.application, self.world.life
                    marker = End(application, life, task.id, task.incarnation, last, core.position)
                    record = Record(None, None, marker, ("end",))
                    self.worker.data.send(self.world.cluster.log(output.topic, p), record)
