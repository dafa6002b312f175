"""Merged batches of a task: what waits of its inputs, in the order of its times.

Invariants (protocol, section 3):

- a batch is made of what was read ahead when it began, and ends before anything that might come
  after what an input will still have;
- a batch of the history takes of each input as many records as the lineage says, all at once; the
  inputs go on at its places when it is over, and not before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from kstash.core.determinants import MergedBatch, MergedInput
from kstash.core.merge import MERGED_RECORDS_MAX, MergeOrder
from kstash.errors import LocatedError
from kstash.operators.batch import Batch
from kstash.operators.slices import drop_head, slice_of
from kstash.runtime.task.ahead import ReadAhead, TimesOf
from kstash.runtime.task.inputs import TaskInput
from kstash.topology.record import RecordOrigin


class Run(NamedTuple):
    """Records of one input as they follow each other in a batch.

    Attributes:
        input: its index.
        first: how many records of it the batch has before these.
        batch: the records.
    """

    input: int
    first: int
    batch: Batch

    def split(self, count: int) -> tuple[Run, Run]:
        """The first `count` records, and the others."""
        rest = self._replace(first=self.first + count, batch=drop_head(self.batch, count))
        return self._replace(batch=slice_of(self.batch, 0, count)), rest


class MergedRecords:
    """One merged batch, from its first record on until it is over.

    Attributes:
        entry: what the lineage says of it.
        runs: in the order in which they are processed.
    """

    def __init__(
        self, inputs: Mapping[int, ReadAhead], position: int, order: MergeOrder, taken: list[int]
    ) -> None:
        self._inputs = inputs
        self._taken = taken
        counts = {source: count for source, count in order.counts.items() if count}
        parts = [
            MergedInput(source, count, inputs[source].place_after(count, order.times[source]))
            for source, count in counts.items()
        ]
        self.entry = MergedBatch(position, tuple(parts))
        heads = {source: inputs[source].head(count) for source, count in counts.items()}
        self.runs = _runs(taken, heads)

    def origin_of(self, run: Run, index: int) -> RecordOrigin | None:
        """Where a record of a run was read."""
        return self._inputs[run.input].origin_of(run.first + index)

    def add_place(self, error: LocatedError, record_index: int) -> None:
        """Add to an error the place of a record of the batch."""
        source = self._taken[record_index]
        self._inputs[source].add_place(error, self._taken[:record_index].count(source))

    def finish(self) -> None:
        """All of it is processed: the inputs go on after it."""
        for part in self.entry.parts:
            self._inputs[part.input].take(part.count, part.place)


class Merger:
    """Makes the merged batches of one task.

    Args:
        sources: the inputs of the task.
        times: gives the times of the records of each, by the index of the input.
        dropped: counts records that count for nothing, by why.
    """

    def __init__(
        self,
        sources: Mapping[int, TaskInput],
        times: Sequence[TimesOf],
        dropped: Counter[str],
    ) -> None:
        self.inputs = {
            index: ReadAhead(source, times[index], dropped)
            for index, source in sorted(sources.items())
        }

    def read(self) -> list[int]:
        """Read ahead what a live batch may be made of; returns the inputs that have nothing.

        Raises:
            WireCorruptError, SequenceGapError, TopicSharedError, RecordUnreadableError: naming
                topic, partition and offset.
        """
        for ahead in self.inputs.values():
            ahead.read(MERGED_RECORDS_MAX, within_bytes=True)
        return [index for index, ahead in self.inputs.items() if not ahead.count]

    def waiting_ms(self) -> tuple[int, int]:
        """The greatest and the least time of what was read and not taken; zeros: it has none."""
        found = [time for ahead in self.inputs.values() for time in ahead.times(ahead.count)]
        known = [time for time in found if time is not None]
        return max(known, default=0), min(known, default=0)

    def live(self, position: int, most: int, will_have: Callable[[int], bool]) -> MergedRecords:
        """A batch of what was read, of which there must be something.

        Args:
            position: of the task.
            most: records, 1 or more.
            will_have: whether an input is waited for once it has nothing more.
        """
        awaited = {i for i, ahead in self.inputs.items() if ahead.has_more or will_have(i)}
        return self._merged(position, most, None, awaited)

    def lacking(self, entry: MergedBatch) -> list[int]:
        """Inputs that do not have yet what a batch of the history took of them."""
        for part in entry.parts:
            self.inputs[part.input].read(part.count)
        return [part.input for part in entry.parts if self.inputs[part.input].count < part.count]

    def again(self, entry: MergedBatch) -> MergedRecords:
        """The batch of the history that the lineage tells of; no input may be lacking."""
        counts = {part.input: part.count for part in entry.parts}
        return self._merged(entry.position, entry.count, counts, ())

    def _merged(
        self,
        position: int,
        most: int,
        counts: Mapping[int, int] | None,
        awaited: Collection[int],
    ) -> MergedRecords:
        times: dict[int, list[int | None]] = {}
        before = {index: ahead.source.timestamp_ms for index, ahead in self.inputs.items()}
        for index, ahead in self.inputs.items():
            if counts is None or index in counts:
                # More than the batch may hold can change nothing of it.
                times[index] = ahead.times(most if counts is None else counts[index])
        order = MergeOrder(times, before, awaited)
        return MergedRecords(self.inputs, position, order, order.take(most))


def _runs(taken: Sequence[int], heads: Mapping[int, Batch]) -> list[Run]:
    """Records of each input as they follow each other without one of another between them."""
    ends = dict.fromkeys(heads, 0)
    runs = []
    for source, group in groupby(taken):
        first = ends[source]
        end = ends[source] = first + sum(1 for _ in group)
        runs.append(Run(source, first, slice_of(heads[source], first, end)))
    return runs
