"""Where a recovery may begin to scan a task's output partitions, and the HINTs that say so."""

from __future__ import annotations

from collections.abc import Mapping

from kstash.core.hashes import OutputHashes
from kstash.core.ids import Incarnation, OutPartition, TaskId
from kstash.core.outputs import Output
from kstash.core.records import Hint


class ScanStarts:
    """Scan starts of one incarnation of one task.

    Args:
        task: the task.
        incarnation: of its group.

    Attributes:
        has_moved: whether a HINT could say something that the last one did not.
    """

    def __init__(self, task: TaskId, incarnation: Incarnation) -> None:
        self._task = task
        self._incarnation = incarnation
        # Offset from which a recovery must scan: every record of this task before it has stable
        # lineage (sinks: is committed). Only of partitions that carry lineage; only rises.
        self._offsets: dict[OutPartition, int] = {}
        # Of the last HINT; with the incarnation it makes keys unique (H8).
        self._number = 0
        # What that HINT said: one that says the same is not needed.
        self._last: tuple[Mapping[OutPartition, int], OutputHashes | None] = ({}, None)
        self.has_moved = False

    def inherit(self, offsets: Mapping[OutPartition, int]) -> None:
        """Take over what recovery found valid (the base's or a hint's)."""
        self._offsets.update(offsets)
        self.has_moved = True

    def pass_acked(self, partition: OutPartition, output: Output, limit: int) -> None:
        """Pass acknowledged batches up to a position: no scan needs to see them."""
        acked = output.acked
        while acked and acked[0][0] <= limit:
            _, offset = acked.popleft()
            if output.has_lineage and offset is not None:
                self._offsets[partition] = offset

    def move(self, partition: OutPartition, offset: int) -> None:
        """Everything before an offset needs no scan; a lower one than is known says nothing."""
        if offset > self._offsets.get(partition, -1):
            self._offsets[partition] = offset

    def offsets(self) -> dict[OutPartition, int]:
        """All of them, in order."""
        return dict(sorted(self._offsets.items()))

    def is_news(self, offsets: Mapping[OutPartition, int], checked: OutputHashes | None) -> bool:
        """Whether the last HINT said something else; a HINT says this then."""
        said = offsets, checked
        is_news = said != self._last
        self._last = said
        return is_news

    def hint(
        self, offsets: dict[OutPartition, int], reached: int, checked: OutputHashes | None
    ) -> Hint:
        """The next HINT."""
        self._number += 1
        return Hint(
            incarnation=self._incarnation,
            task=self._task,
            number=self._number,
            offsets=offsets,
            reached=reached,
            checked=checked,
        )
