"""Which history of a task nothing can undo any more: what may leave for anybody outside of Kafka.

Stable is not enough: nothing bars a zombie's lineage producer, and what it appends after its
successor's SEAL is acknowledged, and counted by nobody. What is read back in the own partition
before any higher CLAIM is there for every successor: each of them claims after it, and reads it.

Invariants:

- confirmed is never beyond what was read back, and never goes back;
- after a higher CLAIM, or a record of a later generation, nothing more is confirmed.
"""

from __future__ import annotations

from collections.abc import Mapping

from kstash.core.ids import Incarnation, TaskId
from kstash.core.records import Claim, Generation, Gone, LineageRecord, Segment


class Confirmed:
    """What one incarnation of a task group has read back of its own lineage.

    Attributes:
        incarnation: whose; fixed.
        is_over: whether somebody has claimed the group since. Once true, it stays.
        own_offset: of the last own record that was read back, -1 before the first one. What a task
            that logs nothing has said of itself counts once a record is read back that was appended
            after it was read.
    """

    __slots__ = ("_ends", "incarnation", "is_over", "own_offset")

    def __init__(self, incarnation: Incarnation, stable: Mapping[TaskId, int]) -> None:
        """Begin after the SEAL.

        Args:
            incarnation: of the group.
            stable: by task, the end of what the lineage topic held then: it lies before the SEAL.
        """
        self.incarnation = incarnation
        self.is_over = False
        self.own_offset = -1
        # By task, the end of what was read back; only rises.
        self._ends = dict(stable)

    def fold(self, offset: int, record: LineageRecord | Gone) -> None:
        """Take the next record of the group's partition into account, of those after the SEAL."""
        if self.is_over or isinstance(record, Generation | Gone):
            return
        if isinstance(record, Claim):
            self.is_over = offset > self.incarnation.offset
            return
        if record.incarnation.generation > self.incarnation.generation:
            self.is_over = True
        elif self.counts(record.incarnation):
            self._reach_offset(offset)
            if isinstance(record, Segment):
                self._reach(record.task, record.end)

    def fold_own(self, offset: int, task: TaskId, end: int) -> None:
        """Take an own segment into account, as `fold` does, by what its writer knows of it."""
        if not self.is_over:
            self._reach_offset(offset)
            self._reach(task, end)

    def _reach_offset(self, offset: int) -> None:
        assert offset > self.own_offset, "lineage read back out of order"
        self.own_offset = offset

    def _reach(self, task: TaskId, end: int) -> None:
        # Own segments are in order: positions between two of them need no lineage.
        self._ends[task] = max(self._ends[task], end)

    def counts(self, incarnation: Incarnation) -> bool:
        """Whether a record is of this very incarnation, of the same life of the topic."""
        return incarnation == self.incarnation

    def through(self, task: TaskId, acknowledged: int) -> int:
        """Position through which the history of a task is confirmed.

        Args:
            task: one that logs.
            acknowledged: end of the lineage that the producer says is there; it may be void.
        """
        return min(self._ends[task], acknowledged)
