"""How large the stores of a worker are: asked for every ten seconds, over all its tasks."""

from __future__ import annotations

from kstash.ports.state import StoreSize
from kstash.runtime.task.task import Task

SIZES_INTERVAL_S = 10.0
"""Each store costs some tens of microseconds."""


class StoreSizes:
    """Sums up the sizes of stores over all tasks.

    Attributes:
        sizes: by store, as of the last `refresh` that was due.
    """

    def __init__(self) -> None:
        self.sizes: dict[str, StoreSize] = {}
        self._due = 0.0
        self._tasks: list[Task] = []

    def refresh(self, now: float, tasks: list[Task]) -> None:
        """Ask when due, and at once when other tasks are here than before."""
        if now < self._due and tasks == self._tasks:
            return
        self._due, self._tasks = now + SIZES_INTERVAL_S, tasks
        sizes: dict[str, StoreSize] = {}
        for task in tasks:
            for name, size in task.state.sizes().items():
                before = sizes.get(name, StoreSize(0, 0))
                sizes[name] = StoreSize(
                    before.entries + size.entries, before.size_bytes + size.size_bytes
                )
        self.sizes = sizes
