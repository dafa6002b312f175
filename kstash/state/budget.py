"""The memory of a worker's live values, shared by the stores of all its tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class CountedStore(Protocol):
    """What the budget needs of a store.

    Attributes:
        bytes_counted: of its resident entries, as of the last count.
    """

    bytes_counted: int

    def drop_clean(self) -> None:
        """Drop entries that the backing holds as they are."""


class SpillingTask(Protocol):
    """What the budget needs of a task's state."""

    def cached_stores(self) -> Sequence[CountedStore]:
        """Its stores."""

    def spill(self) -> None:
        """Write dirty entries back and drop all entries that are not leased."""


class MemoryBudget:
    """Bounds the resident entries of all tasks of a worker, in estimated bytes.

    Args:
        limit_bytes: 1 or more. One batch is always resident, also when it alone exceeds this.
    """

    def __init__(self, limit_bytes: int) -> None:
        if limit_bytes < 1:
            raise ValueError(f"limit_bytes is {limit_bytes}, must be 1 or more")
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._tasks: list[SpillingTask] = []

    def add(self, task: SpillingTask) -> None:
        """Count a task's stores from now on."""
        self._tasks.append(task)

    def remove(self, task: SpillingTask) -> None:
        """Count a task's stores no more. A task that is not counted is fine."""
        if task in self._tasks:
            self._tasks.remove(task)
            self._recount_all()

    def recount(self, store: CountedStore, size_bytes: int) -> None:
        """Note what a store holds now, and make room when that is too much.

        Raises:
            StateError: writing entries back failed; they stay resident.
        """
        self.used_bytes += size_bytes - store.bytes_counted
        store.bytes_counted = size_bytes
        if self.used_bytes > self.limit_bytes:
            self._make_room()

    def _make_room(self) -> None:
        # Down to half of the limit, so that the cost of a pass is spread over many batches.
        target_bytes = self.limit_bytes // 2
        for task in self._tasks:
            for store in task.cached_stores():
                store.drop_clean()
        by_size = sorted(
            self._tasks,
            key=lambda task: sum(store.bytes_counted for store in task.cached_stores()),
        )
        while by_size and self._recount_all() > target_bytes:
            by_size.pop().spill()
        self._recount_all()

    def _recount_all(self) -> int:
        self.used_bytes = sum(
            store.bytes_counted for task in self._tasks for store in task.cached_stores()
        )
        return self.used_bytes
