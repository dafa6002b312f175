"""One task: its inputs, its program, its state and its outputs, in replay and live.

Replay and live run the same code on the same bytes; what differs is who decides which input comes
next (the lineage, or what the consumer handed out) and that outputs which are out already are
suppressed. Batches of a replay are cut at the committed position and at the adopted end, because
an output's position is its batch's end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from kstash.core.determinants import UNKNOWN_OFFSET, Attachment, Determinant, Run
from kstash.core.ids import Incarnation, OutPartition
from kstash.core.reader import ReaderTable
from kstash.core.records import Checkpoint, FileEntry
from kstash.core.recovery import TaskPlan
from kstash.core.task import Outgoing, TaskCore
from kstash.errors import LineageGapError, OperatorError, ReplayDivergedError, SerdeError
from kstash.failpoints import around
from kstash.operators.batch import Batch
from kstash.operators.program import StageProgram
from kstash.ports import DeliveredMessage, Message, Partition, TaskState
from kstash.runtime.decode import BATCH_RECORDS, Events, decode_external, decode_ruled, offset_of
from kstash.runtime.emit import (
    Emitter,
    StoredRecord,
    Target,
    drop_head,
    part_of,
    slice_of,
    split,
    stored_record,
)
from kstash.topology import Stage

REPLAY_SLICE_EVENTS = 500
"""Events replayed at once, so that live tasks and callbacks get their turn."""


@dataclass(slots=True)
class TaskInput:
    """One input partition of a task.

    Attributes:
        next_offset: behind the last record that the task has taken.
        table: the reader rule's state; None for plain topics.
        skips: offsets of records that count and do nothing (H17).
        buffer: consumed records that replay does not need yet.
    """

    partition: Partition
    is_internal: bool
    next_offset: int
    table: ReaderTable | None
    skips: frozenset[int] = frozenset()
    buffer: deque[Message] = field(default_factory=deque)


@dataclass(slots=True)
class PendingCheckpoint:
    """A checkpoint on disk that waits for acknowledgements before it is published."""

    number: int
    label: str
    position: int
    files: tuple[FileEntry, ...]
    input_offsets: dict[int, int]
    sequences: dict[OutPartition, int]
    readers: dict[int, ReaderTable]


SendOutput = Callable[["Task", Outgoing], None]


class Task:
    """One incarnation of one task."""

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
        targets: Sequence[Target],
        emitter: Emitter,
        stored: dict[OutPartition, dict[int, StoredRecord]],
        send: SendOutput,
    ) -> None:
        self.name = name
        self.stage = stage
        self.core = core
        self.incarnation = incarnation
        self.inputs = inputs
        self.state = state
        self.targets = targets
        self.emitter = emitter
        self.program = StageProgram(stage, {s.name: state.store(s.name) for s in stage.stores})
        self.pending: PendingCheckpoint | None = None
        self.publishing: Checkpoint | None = None
        self.checkpoint_number = 0
        self.checkpointed_position = plan.position
        self.records_in = self.records_out = self.suppressed = self.replayed = 0
        self.newest_timestamp = 0
        self._implicit = len(inputs) == 1
        self._only_input = next(iter(inputs)) if self._implicit else -1
        self._committed = plan.committed
        self._last_valid = dict(plan.last_valid)
        # Without what was scanned as damaged only.
        self._stored = {out: records for out, records in stored.items() if records}
        self._scanned = {
            out: range(min(records), max(records) + 1) for out, records in self._stored.items()
        }
        self._send = send
        self._partition = core.task.partition
        self._replay: deque[Determinant] = deque(
            entry for entry in plan.lineage if not isinstance(entry, Attachment)
        )

    # -- replay ----------------------------------------------------------------------------------

    @property
    def is_replaying(self) -> bool:
        """Whether the task has not reached its adopted end yet."""
        return self.core.position < self.core.adopted

    def offer(self, input_index: int, messages: Sequence[Message]) -> None:
        """Buffer consumed records while the lineage decides what comes next."""
        self.inputs[input_index].buffer.extend(messages)

    def replay_slice(self) -> bool:
        """Replay some buffered events; returns whether anything was done."""
        input_index, count, end_offset = self._next_replay()
        source = self.inputs[input_index]
        if not source.buffer:
            return False
        count = min(count, REPLAY_SLICE_EVENTS, self._distance_to_cut())
        events = self._take(source, count)
        if events.count:
            self._verify_input(source, events, end_offset)
            before = self.records_in
            self._run(input_index, events, ())
            self.replayed += self.records_in - before
        source.next_offset = events.next_offset
        return True

    def drain_buffer(self) -> bool:
        """Process live what replay left in the buffers; returns whether there was anything."""
        for index, source in sorted(self.inputs.items()):
            if source.buffer:
                messages = list(source.buffer)
                source.buffer.clear()
                self.process(index, messages)
                return True
        return False

    def wanted_input(self) -> int | None:
        """In replay, the input whose records come next; the others may be paused."""
        return self._next_replay()[0] if self.is_replaying else None

    def _next_replay(self) -> tuple[int, int, int]:
        position = self.core.position
        if self._implicit:
            return self._only_input, self.core.adopted - position, UNKNOWN_OFFSET
        while self._replay:
            entry = self._replay[0]
            if not isinstance(entry, Run):
                raise LineageGapError(f"task {self.name}: cannot replay {entry}")
            left = entry.position + entry.count - position
            if left > 0:
                return entry.input, left, entry.end_offset
            self._replay.popleft()
        raise LineageGapError(f"task {self.name}: no lineage for position {position}")

    def _distance_to_cut(self) -> int:
        position = self.core.position
        cut = self._committed if position < self._committed else self.core.adopted
        return min(cut, self.core.adopted) - position

    def _take(self, source: TaskInput, count: int) -> Events:
        """Take buffered records that are at most `count` events, one or more records."""
        if source.table is None:
            taken = [source.buffer.popleft() for _ in range(min(count, len(source.buffer)))]
            return decode_external(taken, source.skips)
        # Dropped records and markers are no events: they do not count.
        events = decode_ruled(
            source.buffer,
            source.table,
            is_frames=source.is_internal,
            skips=source.skips,
            events_max=count,
        )
        for _ in range(events.taken):
            source.buffer.popleft()
        return events

    def _verify_input(self, source: TaskInput, events: Events, end_offset: int) -> None:
        """Verify that the input still is what the lineage says (H13)."""
        if end_offset == UNKNOWN_OFFSET:
            return
        _, left, _ = self._next_replay()
        topic, partition = source.partition
        at_end = events.count == left
        if (at_end and events.end_offset != end_offset) or events.end_offset > end_offset:
            raise ReplayDivergedError(
                f"task {self.name}: {events.count} records end at offset {events.end_offset}, the "
                f"lineage says {end_offset}: the input was changed by compaction or retention"
            ).at(topic, partition, events.end_offset)

    # -- processing ------------------------------------------------------------------------------

    def process(self, input_index: int, messages: Sequence[Message]) -> None:
        """Process consumed records live, in the order given."""
        source = self.inputs[input_index]
        if messages[0].offset() < source.next_offset:
            messages = [m for m in messages if m.offset() >= source.next_offset]
            if not messages:
                return
        if source.table is None:
            self._process_live(input_index, decode_external(messages, source.skips))
            return
        while messages:
            events = decode_ruled(
                messages, source.table, is_frames=source.is_internal, skips=source.skips
            )
            self._process_live(input_index, events)
            messages = messages[events.taken :]

    def _process_live(self, input_index: int, events: Events) -> None:
        if events.count:
            entries: tuple[Determinant, ...] = ()
            if not self._implicit:
                entries = (Run(self.core.position, input_index, events.count, events.end_offset),)
            self._run(input_index, events, entries)
        self.inputs[input_index].next_offset = events.next_offset

    def _run(self, input_index: int, events: Events, entries: Sequence[Determinant]) -> None:
        source = self.inputs[input_index]
        batch = events.batch
        try:
            self._process_sliced(input_index, batch)
        except (OperatorError, SerdeError) as error:
            error.at(*source.partition, offset_of(events, error.record_index))
            raise
        made = self.program.take_outputs()
        if not self.is_replaying:
            for output_index, outputs in made:
                self.targets[output_index].check_sizes(outputs)
        self.core.advance(entries, self.core.position + events.count)
        self.records_in += len(batch)
        if batch.timestamps:
            self.newest_timestamp = batch.timestamps[-1]
        for output_index, outputs in made:
            self._emit(output_index, outputs)

    def _process_sliced(self, input_index: int, batch: Batch) -> None:
        # A frame may hold tens of thousands of records, and the state of what is processed at
        # once must be in memory (`state_memory_bytes`).
        if len(batch) <= BATCH_RECORDS:
            self.program.process(input_index, batch)
            return
        for start in range(0, len(batch), BATCH_RECORDS):
            try:
                part = slice_of(batch, start, start + BATCH_RECORDS)
                self.program.process(input_index, part)
            except (OperatorError, SerdeError) as error:
                error.record_index += start
                raise

    def _emit(self, output_index: int, outputs: Batch) -> None:
        target = self.targets[output_index]
        target.check_keys(outputs)
        for partition, mask in split(outputs.keys, target.partitioner, self._partition):
            out = (output_index, partition)
            count = len(outputs) if mask is None else mask.count(1)
            first = self.core.next_sequence(out)
            suppressed = self._suppressed(out, target, first, count)
            is_stored = self._is_stored(out, first, count)
            if suppressed:
                self.core.skip(out, suppressed)
                self.suppressed += suppressed
                if suppressed == count and not is_stored:
                    continue  # most of a replay: nobody needs the records themselves
            batch = outputs
            if mask is not None:
                batch = part_of(outputs, mask, has_values=target.has_values)
            if is_stored:
                self._compare(out, target, batch, first)
            if suppressed == count:
                continue
            if suppressed:
                batch = drop_head(batch, suppressed)
            self.records_out += len(batch)
            outgoing = self.core.emit(out, len(batch), batch)
            if outgoing is not None:
                self._send(self, outgoing)

    def _suppressed(self, out: OutPartition, target: Target, first: int, count: int) -> int:
        """How many of the next outputs, from sequence `first` on, are out already."""
        if not target.is_internal:
            return count if self.core.position <= self._committed else 0
        last_valid = self._last_valid.get(out, 0)
        if last_valid < first + count:
            self._last_valid.pop(out, None)
        return min(count, max(0, last_valid + 1 - first))

    def _is_stored(self, out: OutPartition, first: int, count: int) -> bool:
        """Whether a scan found outputs among whose sequences these are: then they are compared."""
        if out not in self._stored:
            return False
        scanned = self._scanned[out]
        if first >= scanned.stop:
            del self._stored[out]  # what is left was made before the base
            return False
        return first + count > scanned.start

    def _compare(self, out: OutPartition, target: Target, batch: Batch, first: int) -> None:
        stored = self._stored[out]
        for index in range(len(batch)):
            there = stored.pop(first + index, None)
            if there is None:
                continue
            here = stored_record(batch, index)
            if not target.has_values:
                there = there._replace(value=here.value)
            if here != there:
                raise ReplayDivergedError(
                    f"task {self.name}, sequence {first + index}: replay made {here}, but "
                    f"{there} is stored; is the program deterministic?"
                ).at(target.topic, out[1])

    def on_delivery(self, outgoing: Outgoing) -> Callable[[Any, DeliveredMessage], None]:
        """Callback for the last record of one batch to one partition."""
        return partial(self._delivered, outgoing.partition, outgoing.position)

    def _delivered(
        self, partition: OutPartition, position: int, error: Any, message: DeliveredMessage
    ) -> None:
        # A failed record makes its producer fail as a whole, which its `poll` reports.
        if error is None:
            with around("frame.ack" if self.targets[partition[0]].is_internal else "sink.ack"):
                self.core.on_output_acked(partition, position, message.offset())

    # -- checkpoints -----------------------------------------------------------------------------

    def freeze(self) -> None:
        """Take a checkpoint of the state at the current position; published later."""
        position = self.core.position
        self.checkpoint_number += 1
        label = f"{self.incarnation.generation}-{self.incarnation.offset}-{self.checkpoint_number}"
        files = self.state.checkpoint(label, position)
        self.pending = PendingCheckpoint(
            self.checkpoint_number,
            label,
            position,
            files,
            {index: source.next_offset for index, source in sorted(self.inputs.items())},
            self.core.sequences(),
            {i: s.table.copy() for i, s in sorted(self.inputs.items()) if s.table is not None},
        )
        self.checkpointed_position = position

    def publishable(self) -> Checkpoint | None:
        """The pending checkpoint's record, once its conditions hold."""
        pending = self.pending
        if pending is None or not self.core.may_publish_checkpoint(pending.position):
            return None
        return Checkpoint(
            self.incarnation,
            self.core.task,
            pending.number,
            # Without stores there are no files, so no lost disk can take it.
            is_remote=not self.stage.stores,
            position=pending.position,
            label=pending.label,
            files=pending.files,
            input_offsets=pending.input_offsets,
            sequences=pending.sequences,
            readers=pending.readers,
            scan_from=self.core.scan_from(),
            reached=self.core.stable,
        )

    def remote_record(self, local: Checkpoint, files: tuple[FileEntry, ...]) -> Checkpoint | None:
        """The record that makes a published checkpoint a remote one, once its conditions hold.

        Args:
            local: of this incarnation, or the base that it was restored from.
            files: with their locations.
        """
        # A base lies below what was adopted: the scan starts of this incarnation, which the record
        # takes, skip what only headers held until that is in the lineage topic (H29).
        if not self.core.may_publish_checkpoint(max(local.position, self.core.adopted)):
            return None
        self.checkpoint_number += 1
        return replace(
            local,
            incarnation=self.incarnation,
            number=self.checkpoint_number,
            is_remote=True,
            files=files,
            scan_from=self.core.scan_from(),
            reached=self.core.stable,
        )

    def close(self) -> None:
        """Give up the state; outputs on their way are somebody else's business."""
        self.state.close()
