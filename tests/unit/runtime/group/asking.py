"""Stands in for whom a group asks where inputs end, and for whom it wakes then."""

from __future__ import annotations

from collections.abc import Collection

from kstash.ports.kafka import OffsetsAnswer, Partition
from kstash.runtime.task.task import Task


class Admin:
    """Answers when the test says so.

    Attributes:
        asked: inputs of each question, and whether it was for their last stable offsets.
        ends: of all inputs; None: there is no answer yet.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[bool, list[Partition]]] = []
        self.ends: dict[Partition, int] | None = None

    def ask_stable_ends(self, partitions: Collection[Partition]) -> OffsetsAnswer:
        """Up to open transactions."""
        return self._ask(partitions, is_stable=True)

    def ask_end_offsets(self, partitions: Collection[Partition]) -> OffsetsAnswer:
        """Up to the end."""
        return self._ask(partitions, is_stable=False)

    def _ask(self, partitions: Collection[Partition], *, is_stable: bool) -> OffsetsAnswer:
        self.asked.append((is_stable, list(partitions)))
        return lambda: (
            None if self.ends is None else {p: self.ends[p] for p in partitions if p in self.ends}
        )


class Woken:
    """Remembers who was woken."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def wake(self, task: Task) -> None:
        """A task has something to do."""
        self.tasks.append(task)
