"""One task: its inputs, its program, its state and its outputs, in replay and live.

Replay and live run the same code on the same bytes; what differs is who decides which input comes
next (the lineage, or what the consumer handed out) and that outputs which are out already are
suppressed (`core.replay`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from kstash.core.determinants import Consumed, Determinant
from kstash.core.ids import Incarnation
from kstash.core.kinds import OutputKind
from kstash.core.outputs import Outgoing
from kstash.core.plan import TaskPlan
from kstash.core.records import Checkpoint, FileEntry
from kstash.core.replay import RecordsNext, Replay, Stored
from kstash.core.task import TaskCore
from kstash.core.trim import made_remote
from kstash.errors import LineageGapError, ReplayDivergedError
from kstash.operators.batch import Batch
from kstash.operators.program import RECORD_ERRORS, Location, StageProgram
from kstash.operators.sizes import Limit, bytes_of
from kstash.operators.slices import drop_head, part_of
from kstash.ports.kafka import Message
from kstash.ports.state import TaskState
from kstash.runtime.decode import Events
from kstash.runtime.task.checkpoint import PendingCheckpoint
from kstash.runtime.task.inputs import TaskInput
from kstash.runtime.task.outputs import TaskOutput
from kstash.runtime.task.refusals import Sent
from kstash.runtime.task.stored import is_same, stored_record
from kstash.runtime.task.under_way import Made, UnderWay, Watch
from kstash.topology.model import Stage

REPLAY_SLICE_EVENTS = 500
"""Events replayed at once, at most."""


class Task:
    """One incarnation of one task.

    `watch` looks at batches that take long, `fail` is given what a record failed with.

    Attributes:
        may_leave_work: whether an event may be under way for longer than a batch takes.
        parts: of what events have made, so far; it rises while an event is under way, too.
        pending, publishing: the checkpoint that waits for lineage; the one on its way to Kafka.
        checkpoint_number, checkpointed_position: of the newest that was frozen, or begun from.
        records_in, replayed: logical records processed; those of them that were not the first time.
        records_out, suppressed: logical outputs handed over; those that were there already.
        newest_timestamp: Unix milliseconds, of the last record processed; 0 before it.
        stream_time_ms: the greatest timestamp of the last record of a batch; 0 before it.
        written: records handed to the producers, by output index.
        dropped: input records that counted for nothing, by why.
    """

    def __init__(
        self,
        *,
        name: str,
        stage: Stage,
        plan: TaskPlan,
        core: TaskCore,
        incarnation: Incarnation,
        inputs: dict[int, TaskInput],
        state: TaskState,
        places: Mapping[int, Location],
        limits: Sequence[Limit],
        outputs: Sequence[TaskOutput],
        sent: Sent,
        stored: Stored,
        watch: Watch,
        fail: Callable[[Exception], None],
    ) -> None:
        self.name, self.stage = name, stage
        self.core = core
        self.incarnation = incarnation
        self.inputs = inputs
        self.state = state
        self.outputs = outputs
        self.may_leave_work = any(node.may_leave_work for node in stage.nodes)
        self.program = StageProgram(stage, state, watch.clock, places, limits)
        self.pending: PendingCheckpoint | None = None
        self.publishing: Checkpoint | None = None
        self.checkpoint_number = 0
        self.checkpointed_position = plan.position
        self.parts = self.records_in = self.records_out = self.suppressed = self.replayed = 0
        self.newest_timestamp = self.stream_time_ms = 0
        self.written = [0] * len(outputs)
        self.dropped: Counter[str] = Counter()
        self._logs_runs = plan.logs_runs(len(inputs))
        self.replay = Replay(
            plan,
            name=name,
            only_input=next(iter(inputs)) if len(inputs) == 1 else None,
            topics=[output.topic for output in outputs],
            internal=frozenset(i for i, o in enumerate(outputs) if o.kind is OutputKind.FRAMES),
            stored=stored,
        )
        self.sent = sent
        self._watch, self._fail = watch, fail
        self._under_way: UnderWay | None = None
        self._order = deque(sorted(inputs))
        self._partition = core.task.partition

    # -- replay ----------------------------------------------------------------------------------

    @property
    def is_replaying(self) -> bool:
        """Whether the task has not reached its adopted end yet, or not done all up to there."""
        return self.core.is_replaying

    @property
    def has_waiting(self) -> bool:
        """Whether consumed records wait to be processed, or what is left of them."""
        return self._under_way is not None or any(source.buffer for source in self.inputs.values())

    @property
    def is_under_way(self) -> bool:
        """Whether an event is, of which some outputs are made and others will be."""
        return self._under_way is not None

    def offer(self, input_index: int, messages: Sequence[Message]) -> None:
        """Buffer consumed records until their turn."""
        self.inputs[input_index].buffer.extend(messages)

    def replay_slice(self) -> bool:
        """Replay some buffered events; returns whether anything was done."""
        if not self.is_replaying:
            return False
        if self._under_way is not None:
            self._go_on(self._under_way)
            return True
        records = self._next_records()
        source = self.inputs[records.input]
        if not source.buffer:
            return False
        events = self._take(source, records.count)
        if not events.count:
            source.next_offset = events.next_offset
            return True
        try:
            self.replay.verify(records, events.count, events.end_offset)
        except ReplayDivergedError as error:
            error.at(*source.partition, events.end_offset)
            raise
        self._begin(records.input, events)
        return True

    def wanted_input(self) -> int | None:
        """In replay, the input whose records come next; the others may be paused."""
        is_asked = self.is_replaying and not self.is_under_way
        return self._next_records().input if is_asked else None

    def _next_records(self) -> RecordsNext:
        event = self.replay.next_event(self.core.position, REPLAY_SLICE_EVENTS)
        if not isinstance(event, RecordsNext):
            raise LineageGapError(
                f"task {self.name}: no operator of the stage takes what was logged: {event}"
            )
        return event

    def _take(self, source: TaskInput, count: int) -> Events:
        events = source.take(count)
        if events.dropped is not None:
            self.dropped.update(events.dropped)
        return events

    # -- processing ------------------------------------------------------------------------------

    def process(self) -> bool:
        """Process a batch of buffered records live, of the inputs in turn, or go on with one.

        Returns:
            Whether there was anything.
        """
        if self._under_way is not None:
            self._go_on(self._under_way)
            return True
        for _ in self.inputs:
            index = self._order[0]
            self._order.rotate(-1)
            source = self.inputs[index]
            source.buffer.drop_before(source.next_offset)
            if source.buffer:
                self._process_live(index, source)
                return True
        return False

    def _process_live(self, input_index: int, source: TaskInput) -> None:
        events = self._take(source, len(source.buffer))
        if not events.count:
            source.next_offset = events.next_offset
            return
        entries: tuple[Determinant, ...] = ()
        if self._logs_runs:
            entries = (Consumed(self.core.position, input_index, events.count, events.end_offset),)
        self._begin(input_index, events, entries)

    def _begin(self, input_index: int, events: Events, entries: Sequence[Determinant] = ()) -> None:
        """Process events of an input; `entries` is their lineage, none where nothing is logged."""
        source, is_new = self.inputs[input_index], not self.is_replaying
        self._go_on(UnderWay(source, input_index, events, is_new=is_new), entries)

    def _go_on(self, batch: UnderWay, entries: Sequence[Determinant] = ()) -> None:
        """Make the next part of a batch: it is under way until nothing is left of it."""
        core, events = self.core, batch.events
        had_made = batch.has_made
        try:
            made = batch.go_on(self.program, self._watch)
        except RECORD_ERRORS as error:
            batch.source.add_place(error, events, error.record_index)
            self._fail(error)
            raise
        self.parts += 1
        if self._under_way is None:
            core.advance(entries, core.position + events.count, is_over=batch.is_over)
        elif batch.is_over:
            core.end_event()
        self._under_way = None if batch.is_over else batch
        if made and not had_made:
            start, end = events.offsets[0], events.end_offset
            self.sent.made_of(core.position, batch.source.partition, start, end)
        # Hashed, suppressed or not, before any of it is out (H44).
        self._note(made)
        if batch.is_over and (batch.has_made or self.replay.is_checked_at(core.position)):
            self._check_made()
        for output_index, outputs, size_bytes in made:
            self._emit(output_index, outputs, size_bytes)
        if batch.is_over:
            self._count(batch)

    def _count(self, batch: UnderWay) -> None:
        """A batch is over: its input goes on after it."""
        source, timestamps = batch.source, batch.events.batch.timestamps
        self.records_in += len(timestamps)
        source.records += len(timestamps)
        if not batch.is_new:
            self.replayed += len(timestamps)
        if timestamps:
            newest = self.newest_timestamp = source.newest_timestamp = timestamps[-1]
            # Not the greatest of all: looking at each costs a hundredth of what a word count does.
            self.stream_time_ms = max(self.stream_time_ms, newest)
        source.next_offset = batch.events.next_offset

    def _note(self, made: Sequence[Made]) -> None:
        marks = self.core.marks
        if marks is not None:
            for output_index, outputs, _ in made:
                values = outputs.values if self.outputs[output_index].has_values else None
                marks.note(output_index, outputs.keys, values, outputs.timestamps, outputs.headers)

    def _check_made(self) -> None:
        """All that was made up to the position is hashed: compare it with what was made before."""
        core, marks = self.core, self.core.marks
        if marks is not None:
            core.mark_made()
            if self.replay.is_checked_at(core.position):
                self.replay.check(marks.at(core.position))

    def _emit(self, output_index: int, outputs: Batch, size_bytes: int) -> None:
        output = self.outputs[output_index]
        for partition, mask in output.spread.split(outputs.keys, self._partition):
            out = (output_index, partition)
            count = len(outputs) if mask is None else mask.count(1)
            first = self.core.next_sequence(out)
            suppressed = self.replay.suppressed(out, self.core.position, first, count)
            is_stored = self.replay.is_stored(out, first, count)
            if suppressed:
                self.core.skip(out, suppressed)
                self.suppressed += suppressed
                if suppressed == count and not is_stored:
                    continue  # most of a replay: nobody needs the records themselves
            batch = outputs
            if mask is not None:
                batch = part_of(outputs, mask, has_values=output.has_values)
            if is_stored:
                made = partial(stored_record, batch, has_values=output.has_values)
                self.replay.compare(out, first, len(batch), made, is_same)
            if suppressed == count:
                continue
            if suppressed:
                batch = drop_head(batch, suppressed)
            self.records_out += len(batch)
            self.written[output_index] += len(batch)
            left_bytes = size_bytes if batch is outputs else bytes_of(batch)
            self.sent.made(out, left_bytes)
            outgoing = self.core.emit(out, len(batch), batch)
            if outgoing is not None:
                output.send(outgoing)

    def send(self, outgoing: Outgoing) -> None:
        """Send outputs that the cap had held back until now."""
        self.outputs[outgoing.partition[0]].send(outgoing)

    # -- checkpoints -----------------------------------------------------------------------------

    def freeze(self) -> None:
        """Take a checkpoint of the state at the current position; published later.

        Not while an event is under way: nothing of it but its outputs is there after a crash.
        """
        assert self._under_way is None
        position = self.core.position
        self.checkpoint_number += 1
        label = f"{self.incarnation.generation}-{self.incarnation.offset}-{self.checkpoint_number}"
        files = self.state.checkpoint(label, position)
        inputs = sorted(self.inputs.items())
        self.pending = PendingCheckpoint(
            number=self.checkpoint_number,
            label=label,
            position=position,
            files=files,
            input_offsets={index: source.next_offset for index, source in inputs},
            sequences=self.core.sequences(),
            made=self.core.made(),
            readers={i: s.reader.copy() for i, s in inputs if s.reader is not None},
        )
        self.checkpointed_position = position

    def publishable(self) -> Checkpoint | None:
        """The pending checkpoint's record, once its conditions hold."""
        pending = self.pending
        if pending is None or not self.core.may_publish_checkpoint(pending.position):
            return None
        # Without stores there are no files, so no lost disk can take it.
        return pending.record(self.core, is_remote=not self.stage.stores)

    def remote_record(self, local: Checkpoint, files: tuple[FileEntry, ...]) -> Checkpoint | None:
        """The record that makes a published checkpoint a remote one, once its conditions hold.

        Args:
            local: of this incarnation, or the base that it was restored from.
            files: with their locations.
        """
        record = made_remote(local, self.core, self.checkpoint_number + 1, files)
        if record is not None:
            self.checkpoint_number += 1
        return record

    def close(self) -> None:
        """Give up the state; outputs on their way are somebody else's business."""
        self.sent.close()
        self.state.close()
        self.program.close()
