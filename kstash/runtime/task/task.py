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
from kstash.core.ids import Incarnation, OutPartition
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
from kstash.operators.slices import drop_head, part_of, slice_of
from kstash.ports.kafka import Message
from kstash.ports.state import TaskState
from kstash.runtime.decode import Events
from kstash.runtime.pace import BATCH_S, Pace
from kstash.runtime.task.checkpoint import PendingCheckpoint
from kstash.runtime.task.inputs import TaskInput
from kstash.runtime.task.outputs import TaskOutput
from kstash.runtime.task.refusals import Sent
from kstash.runtime.task.stored import is_same, stored_record
from kstash.topology.model import Stage

REPLAY_SLICE_EVENTS = 500
"""Events replayed at once, at most."""


Made = tuple[int, Batch, int]
"""What events have made for one output: its index, the records, and their size in bytes."""


class Task:
    """One incarnation of one task.

    `clock` gives monotonic seconds. `pulse` is called while a batch goes on for long: it keeps the
    place in the group. `look` takes (operator, records, seconds, now) of a slow one, `fail` what a
    record failed with.

    Attributes:
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
        clock: Callable[[], float],
        pulse: Callable[[], None],
        look: Callable[[str, int, float, float], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self.name, self.stage = name, stage
        self.core = core
        self.incarnation = incarnation
        self.inputs = inputs
        self.state = state
        self.outputs = outputs
        self.program = StageProgram(stage, state, clock, places, limits)
        self.pending: PendingCheckpoint | None = None
        self.publishing: Checkpoint | None = None
        self.checkpoint_number = 0
        self.checkpointed_position = plan.position
        self.records_in = self.records_out = self.suppressed = self.replayed = 0
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
        self._clock, self._pulse, self._look, self._fail = clock, pulse, look, fail
        self._order = deque(sorted(inputs))
        self._partition = core.task.partition

    # -- replay ----------------------------------------------------------------------------------

    @property
    def is_replaying(self) -> bool:
        """Whether the task has not reached its adopted end yet."""
        return self.core.position < self.core.adopted

    @property
    def has_waiting(self) -> bool:
        """Whether consumed records wait to be processed."""
        return any(source.buffer for source in self.inputs.values())

    def offer(self, input_index: int, messages: Sequence[Message]) -> None:
        """Buffer consumed records until their turn."""
        self.inputs[input_index].buffer.extend(messages)

    def replay_slice(self) -> bool:
        """Replay some buffered events; returns whether anything was done."""
        if not self.is_replaying:
            return False
        records = self._next_records()
        source = self.inputs[records.input]
        if not source.buffer:
            return False
        events = self._take(source, records.count)
        if events.count:
            try:
                self.replay.verify(records, events.count, events.end_offset)
            except ReplayDivergedError as error:
                error.at(*source.partition, events.end_offset)
                raise
            before = self.records_in
            self._run_records(records.input, events, ())
            self.replayed += self.records_in - before
        source.next_offset = events.next_offset
        return True

    def wanted_input(self) -> int | None:
        """In replay, the input whose records come next; the others may be paused."""
        return self._next_records().input if self.is_replaying else None

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
        """Process a batch of buffered records live, of the inputs in turn.

        Returns:
            Whether there was anything.
        """
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
        if events.count:
            entries: tuple[Determinant, ...] = ()
            if self._logs_runs:
                entries = (
                    Consumed(self.core.position, input_index, events.count, events.end_offset),
                )
            self._run_records(input_index, events, entries)
        source.next_offset = events.next_offset

    def _run_records(
        self, input_index: int, events: Events, entries: Sequence[Determinant]
    ) -> None:
        source = self.inputs[input_index]
        batch = events.batch
        try:
            self._process_sliced(input_index, source.pace, batch)
        except RECORD_ERRORS as error:
            source.add_place(error, events, error.record_index)
            self._fail(error)
            raise
        made = self.program.take_outputs()
        source.pace.made(len(batch), sum(size_bytes for _, _, size_bytes in made))
        self.records_in += len(batch)
        source.records += len(batch)
        if batch.timestamps:
            newest = self.newest_timestamp = source.newest_timestamp = batch.timestamps[-1]
            # Not the greatest of all: looking at each costs a hundredth of what a word count does.
            self.stream_time_ms = max(self.stream_time_ms, newest)
        position = self.core.position + events.count
        if made:
            self.sent.made_of(position, source.partition, events.offsets[0], events.end_offset)
        self._processed(entries, position, made)

    def _processed(
        self, entries: Sequence[Determinant], position: int, made: Sequence[Made]
    ) -> None:
        """Events up to `position` were processed, of whatever kind: what they made goes out.

        `entries` is their lineage; there is none in a replay, nor of a task that logs nothing.
        """
        self.core.advance(entries, position)
        if made or self.replay.is_checked_at(position):
            self._note(made)
        for output_index, outputs, size_bytes in made:
            self._emit(output_index, outputs, size_bytes)

    def _process_sliced(self, input_index: int, pace: Pace, batch: Batch) -> None:
        # A frame is one event, whatever it holds: what exceeds the pace goes through in slices, and
        # so does what exceeds the memory for states (`state_memory_bytes`).
        began = now = self._clock()
        start, count = 0, len(batch)
        while start < count:
            if start:
                self._pulse()
            end = start + pace.size
            part = batch if not start and count <= end else slice_of(batch, start, end)
            before = self._clock()
            try:
                self.program.process(input_index, part, is_new=not self.is_replaying)
            except RECORD_ERRORS as error:
                error.record_index += start
                raise
            now = self._clock()
            if now - before > BATCH_S:
                seconds, operator = self.program.slowest
                self._look(operator, len(part), seconds, now)
            pace.took(len(part), now - before)
            start = end
        pace.lasted(now - began, now)

    def _note(self, made: Sequence[Made]) -> None:
        """Hash what was made, suppressed or not, before any of it is out (H44)."""
        core, marks = self.core, self.core.marks
        if marks is None:
            return
        for output_index, outputs, _ in made:
            values = outputs.values if self.outputs[output_index].has_values else None
            marks.note(output_index, outputs.keys, values, outputs.timestamps, outputs.headers)
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
                self._compare(out, output, batch, first)
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

    def _compare(self, out: OutPartition, output: TaskOutput, batch: Batch, first: int) -> None:
        made = partial(stored_record, batch, has_values=output.has_values)
        self.replay.compare(out, first, len(batch), made, is_same)

    # -- checkpoints -----------------------------------------------------------------------------

    def freeze(self) -> None:
        """Take a checkpoint of the state at the current position; published later."""
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
