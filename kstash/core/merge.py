"""In which order a task takes what waits of several inputs (protocol, section 3).

Invariants:

- a batch is a snapshot: what waited, after the reader rule, when it began; nothing joins it;
- within an input the order is that of its log: heads are merged, nothing is sorted;
- where more is known to come of an input, the batch ends before anything that might come after it;
- the order is that of the counts: a batch that ended early, merged again from just as many records
  of each input as it took, takes them in the same order. So a replay needs no more than counts.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from heapq import heapify, heappop, heapreplace

MERGED_RECORDS_MAX = 2_000
"""Logical records of a merged batch: bounds memory, and the wait of the first one's outputs."""


class MergeOrder:
    """The order of one merged batch.

    Attributes:
        counts: by input, how many of its records were taken; only rises, to what was given at most.
        times: by input, the time of the last record taken.
    """

    def __init__(
        self,
        waiting: Mapping[int, Sequence[int | None]],
        times: Mapping[int, int],
        awaited: Container[int] = (),
    ) -> None:
        """Begin with what waits.

        Args:
            waiting: by input, the timestamp of each record in Unix ms, in the order of the log;
                None for one that has none: it takes over its predecessor's in that input.
            times: by input, that of the last record taken before; 0 where there is none.
            awaited: inputs that have more than what is given: the batch ends with the last record
                of one of them, because the next one may come before those of the others.
        """
        self._awaited = awaited
        self._waiting = waiting
        self.counts = dict.fromkeys(sorted(waiting), 0)
        self.times = {source: times.get(source, 0) for source in self.counts}
        # The next record of each input that has one: (time, input).
        self._heads = [(self._time(source, 0), source) for source in self.counts if waiting[source]]
        heapify(self._heads)

    def _time(self, source: int, index: int) -> int:
        time = self._waiting[source][index]
        return self.times[source] if time is None else time

    def take(self, most: int) -> list[int]:
        """The inputs of the next records, `most` at most; fewer once the batch is at its end."""
        heads = self._heads
        taken: list[int] = []
        left = min(most, MERGED_RECORDS_MAX - sum(self.counts.values()))
        while heads and len(taken) < left:
            time, source = heads[0]
            self.times[source] = time
            count = self.counts[source] = self.counts[source] + 1
            if count < len(self._waiting[source]):
                heapreplace(heads, (self._time(source, count), source))
            elif source in self._awaited:
                heads.clear()
            else:
                heappop(heads)
            taken.append(source)
        return taken
