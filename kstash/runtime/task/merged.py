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
from itertools import count as numbered

from kstash.core.determinants import MergedBatch, MergedInput
from kstash.core.merge import MERGED_RECORDS_MAX, MergeOrder
from kstash.errors import LocatedError
from kstash.operators.interleaved import Share
from kstash.operators.slices import slice_of
from kstash.runtime.task.ahead import ReadAhead, TimesOf
from kstash.runtime.task.inputs import TaskInput
from kstash.topology.record import RecordOrigin


class MergedRecords:
    """One merged batch, from its first record on until it is over.

    Attributes:
        entry: what the lineage says of it.
        heads: by input, what it takes of it.
        count: records of all inputs.
    """

    def __init__(
        self, inputs: Mapping[int, ReadAhead], *, position: int, order: MergeOrder, taken: list[int]
    ) -> None:
        self._inputs = inputs
        self._taken = taken
        counts = {source: count for source, count in order.counts.items() if count}
        parts = [
            MergedInput(source, count, inputs[source].place_after(count, order.times[source]))
            for source, count in counts.items()
        ]
        self.entry = MergedBatch(position, tuple(parts))
        self.heads = {source: inputs[source].head(count) for source, count in counts.items()}
        self.count = len(taken)
        self._numbers: list[int] | None = None

    @property
    def timestamps(self) -> list[int]:
        """Those of all records, in the order in which they are processed."""
        heads = {source: iter(head.timestamps) for source, head in self.heads.items()}
        return list(map(next, map(heads.__getitem__, self._taken)))

    def shares(self, start: int, end: int) -> list[Share]:
        """Records `[start, end)`, at least one."""
        found = []
        before, taken = self._taken[:start], self._taken[start:end]
        for source, head in self.heads.items():
            if count := taken.count(source):
                first = before.count(source)
                batch = head if count == len(head) else slice_of(head, first, first + count)
                places = None
                if count < len(taken):
                    places = [place for place, other in enumerate(taken) if other == source]
                found.append(Share(source, batch, places))
        return found

    def origin_of(self, start: int, index: int) -> RecordOrigin | None:
        """Where a record was read, which is `index` after another one of the batch."""
        return self._inputs[self._taken[start + index]].origin_of(self._number(start + index))

    def add_place(self, error: LocatedError, record_index: int) -> None:
        """Add to an error the place of a record of the batch."""
        self._inputs[self._taken[record_index]].add_place(error, self._number(record_index))

    def _number(self, record_index: int) -> int:
        """How many records of its input the batch has before a record: few operators ask."""
        if self._numbers is None:
            numbers = {source: numbered() for source in self.heads}
            self._numbers = list(map(next, map(numbers.__getitem__, self._taken)))
        return self._numbers[record_index]

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
        return MergedRecords(self.inputs, position=position, order=order, taken=order.take(most))
