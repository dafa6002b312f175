"""How a task takes several inputs in the order of their times, live and in a replay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

from kstash.core.determinants import (
    Attachment,
    Determinant,
    EventEntry,
    MergedBatch,
    MergedInput,
)
from kstash.operators.merge_times import merge_times
from kstash.operators.program import StageProgram
from kstash.operators.step import RecordError
from kstash.runtime.pace import Pace
from kstash.runtime.task.awaited import Awaited
from kstash.runtime.task.inputs import TaskInput
from kstash.runtime.task.merged import MergedRecords, Merger
from kstash.runtime.task.sent import Sent
from kstash.runtime.task.under_way import UnderWay, Watch, seconds_since
from kstash.topology.model import Stage


class Merging:
    """What one incarnation of a task needs in order to merge.

    Args:
        stage: of the task.
        inputs: of the task, by index.
        dropped: of the task: counts records that count for nothing, by why.

    Attributes:
        is_live: whether its live batches are merged ones; a history may hold some all the same.
        awaited: which inputs are waited for; made when the task is live.
    """

    def __init__(
        self, stage: Stage, inputs: Mapping[int, TaskInput], dropped: Counter[str]
    ) -> None:
        self.is_live = stage.merges and len(inputs) > 1
        self.awaited: Awaited | None = None
        self._inputs = inputs
        self._merge = Merger(inputs, merge_times(stage), dropped)
        # What is taken at once is of all inputs: one of them has the pace of the task.
        self._pace = inputs[min(inputs)].pace

    def live(self, position: int, watch: Watch) -> MergedUnderWay | None:
        """What comes next live; None: nothing is there, or an input is waited for.

        Raises:
            WireCorruptError, SequenceGapError, TopicSharedError, RecordUnreadableError: naming
                topic, partition and offset.
        """
        awaited = self.awaited
        assert awaited is not None
        empty = self._merge.read()
        if len(empty) == len(self._inputs):
            awaited.since = {}
            return None
        now = watch.clock()
        if awaited.look(empty, now):
            return None
        merged = self._merge.live(position, self._pace.size, awaited.will_have)
        for part in merged.entry.parts:
            awaited.took(part.input, now)
        return MergedUnderWay(merged, self._inputs, self._pace, is_new=True)

    @property
    def is_waiting(self) -> bool:
        """Whether there are records, and an input without one is waited for."""
        return self.awaited is not None and bool(self.awaited.since)

    def waits_s(self, now: float) -> dict[int, float]:
        """Seconds for which an input has been waited for, of those that are."""
        awaited = self.awaited
        return {i: now - since for i, since in awaited.since.items()} if awaited is not None else {}

    def will_bring(self, index: int) -> bool:
        """Whether an input that is waited for is known to have more."""
        return self.awaited is not None and self.awaited.will_bring(index)

    def ahead_ms(self) -> int:
        """How far the newest record that waits is after the last one taken; 0 or more."""
        newest, oldest = self._merge.waiting_ms()
        taken = max(source.timestamp_ms for source in self._inputs.values())
        return max(0, newest - (taken or oldest))

    @property
    def is_patient(self) -> bool:
        """Whether it waits for an input that has nothing which could be fetched."""
        return self.is_waiting and self.awaited is not None and self.awaited.is_patient

    def may_go_on(self, now: float) -> bool:
        """Whether an input that was waited for is not any more, as far as is known."""
        awaited = self.awaited
        return awaited is not None and self.is_waiting and not awaited.look(awaited.since, now)

    def lacking(self, entry: MergedBatch) -> list[int]:
        """Inputs that do not have yet what a batch of the history took of them."""
        return self._merge.lacking(entry)

    def again(self, entry: MergedBatch) -> MergedUnderWay:
        """A batch of the history; no input may be lacking."""
        return MergedUnderWay(self._merge.again(entry), self._inputs, self._pace, is_new=False)

    def forget(self, index: int) -> None:
        """An input is about to be taken as it comes."""
        self._merge.inputs[index].forget()


class MergedUnderWay(UnderWay):
    """A merged batch: logical records of several inputs, each an event.

    They go through the stage together, as columns of each input.

    Args:
        merged: the batch.
        inputs: of the task, by index.
        pace: of the task: what exceeds it goes through in slices.
    """

    def __init__(
        self, merged: MergedRecords, inputs: Mapping[int, TaskInput], pace: Pace, *, is_new: bool
    ) -> None:
        super().__init__(is_new=is_new)
        self.count = merged.entry.count
        self.timestamps = merged.timestamps
        self._merged = merged
        self._inputs = inputs
        self._pace = pace
        # The slice that is being processed, or was last.
        self._start = self._end = 0

    @property
    def parts(self) -> tuple[MergedInput, ...]:
        """What it took of each input."""
        return self._merged.entry.parts

    def entry(self, position: int) -> EventEntry:
        """How many records of each input, and where each goes on."""
        assert self._merged.entry.position == position, "merged at another position"
        return self._merged.entry

    def entries(self, position: int, attached: Sequence[Attachment]) -> tuple[Determinant, ...]:
        """Of a merged batch, which is not cut, what was asked stands after it."""
        return (self.entry(position), *attached)

    def _run(self, program: StageProgram, watch: Watch) -> bool:
        if self._end >= self.count:
            return False
        if self._end:
            watch.pulse()
        start = self._start = self._end
        end = self._end = min(start + self._pace.size, self.count)
        before, made = watch.clock(), program.pending
        origin_of = partial(self._merged.origin_of, start)
        shares = self._merged.shares(start, end)
        program.process_merged(shares, is_new=self.is_new, origin_of=origin_of)
        # What leaves work has had functions called for each result.
        records = max(end - start, program.pending - made) if program.has_work else end - start
        self._pace.took(end - start, seconds_since(before, records, program, watch))
        return True

    def _blame(self, error: RecordError) -> None:
        error.record_index += self._start
        self._merged.add_place(error, error.record_index)

    def _ended(self, seconds: float, now: float) -> None:
        self._pace.lasted(seconds, now)
        self._pace.made(self.count, self._part_bytes_max)

    def note_origin(self, sent: Sent, position: int) -> None:
        """What it took of its last input: the batch is of the others, too."""
        part = self._merged.entry.parts[-1]
        source = self._inputs[part.input]
        end = part.place.offset + (part.place.taken > 0)
        sent.made_of(position, source.partition, source.next_offset, end)

    def settle(self) -> None:
        """The inputs go on after it."""
        for part in self._merged.entry.parts:
            self._inputs[part.input].records += part.count
        for source, head in self._merged.heads.items():
            self._inputs[source].newest_timestamp = head.timestamps[-1]
        self._merged.finish()
