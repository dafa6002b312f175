"""Watches whether the inputs still hold what a replay would need (H13)."""

from __future__ import annotations

from collections.abc import Mapping

from kstash.core.kinds import InputKind
from kstash.ports.kafka import Admin, OffsetsAnswer, Partition
from kstash.runtime.group.group import TaskGroup

MARGIN_INTERVAL_S = 10.0
"""The log starts of the inputs are asked for this often: it costs a round trip."""


class RetentionMargin:
    """Knows how far retention is from the oldest checkpoint that a recovery may fall back to.

    Attributes:
        by_partition: offsets between the log start of an input and that checkpoint, as of the last
            answer, of the inputs that were read here then.
    """

    def __init__(self, admin: Admin) -> None:
        self.by_partition: dict[Partition, int] = {}
        self._admin = admin
        self._due = 0.0
        self._answer: OffsetsAnswer | None = None

    def tick(self, now: float, groups: Mapping[int, TaskGroup]) -> None:
        """Take an answer, and ask when due."""
        if self._answer is not None:
            starts = self._answer()
            if starts is not None:
                self._answer = None
                self.by_partition = {
                    partition: offset - starts[partition]
                    for partition, offset in _needed(groups).items()
                    if partition in starts
                }
        elif now >= self._due:
            self._due = now + MARGIN_INTERVAL_S
            needed = _needed(groups)
            if needed:
                self._answer = self._admin.ask_start_offsets(list(needed))


def _needed(groups: Mapping[int, TaskGroup]) -> dict[Partition, int]:
    """Per input that is no internal topic, the offset of its oldest retained checkpoint."""
    needed: dict[Partition, int] = {}
    for group in groups.values():
        for task in group.tasks.values():
            for index, source in task.inputs.items():
                if group.trimmer is None or source.kind is InputKind.FRAMES:
                    continue
                offset = group.trimmer.oldest_offset(task.core.task, index)
                if offset is not None:
                    needed[source.partition] = min(offset, needed.get(source.partition, offset))
    return needed
