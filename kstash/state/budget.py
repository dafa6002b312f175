"""The memory of a worker's live values, shared by the stores of all its tasks.

Room is made in parts (`kstash.state.parts`), beside the batches that need it: before the bound is
reached, and twice as much with each step as has come since the last one. So no batch waits for more
than what it brings, and what is resident never exceeds the bound for longer than a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from kstash.state.parts import PART_BYTES

_NEAR_SHARE = 8
"""So large a part of the bound is still free when making room begins: keys are sorted then."""


class CountedStore(Protocol):
    """What the budget needs of a store.

    Attributes:
        bytes_counted: of its resident entries, as of the last count.
    """

    bytes_counted: int

    def dropping_clean(self) -> Iterator[None]:
        """Drop entries that the backing holds as they are, a part with each step."""


class SpillingTask(Protocol):
    """What the budget needs of a task's state."""

    def cached_stores(self) -> Sequence[CountedStore]:
        """Its stores."""

    def spilling(self) -> Iterator[None]:
        """Write entries back and drop all that are not leased, a part with each step."""


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
        # What is resident then lets a step be done.
        self._near_bytes = self._wait_bytes = limit_bytes - limit_bytes // _NEAR_SHARE
        self._steps: Iterator[None] | None = None
        self._tasks: list[SpillingTask] = []

    def add(self, task: SpillingTask) -> None:
        """Count a task's stores from now on."""
        self._tasks.append(task)

    def remove(self, task: SpillingTask) -> None:
        """Count a task's stores no more. A task that is not counted is fine."""
        if task in self._tasks:
            self._tasks.remove(task)
            # What is under way may be about this task, whose database nothing may refer to then.
            self._end()

    def recount(self, store: CountedStore, size_bytes: int) -> None:
        """Note what a store holds now, and make room when that is too much.

        Raises:
            StateError: writing entries back failed; they stay resident.
        """
        self.used_bytes += size_bytes - store.bytes_counted
        store.bytes_counted = size_bytes
        if self.used_bytes > self._wait_bytes:
            self._make_room()

    def _make_room(self) -> None:
        """Go on with making room, or begin with it."""
        has_begun = self._steps is not None
        while True:
            if self._steps is None:
                self._steps = self._rooms()
            try:
                next(self._steps)
            except StopIteration:
                self._end()
                if not has_begun or self.used_bytes <= self.limit_bytes:
                    return
                # What came since it began is too much by itself.
                has_begun = False
                continue
            except BaseException:
                self._end()
                raise
            if self._recount_all() <= self.limit_bytes:
                break
        self._wait_bytes = min(self.limit_bytes, self.used_bytes + PART_BYTES // 2)

    def _end(self) -> None:
        """Nothing is left to do, or it was given up: wait for the bound to come near again."""
        self._steps = None
        self._recount_all()
        self._wait_bytes = self._near_bytes
        if self.used_bytes > self._near_bytes:
            # What is left belongs to batches: another look at it would find the same.
            self._wait_bytes = self.limit_bytes

    def _rooms(self) -> Iterator[None]:
        # Down to half of the limit, so that the cost of a pass is spread over many batches.
        target_bytes = self.limit_bytes // 2
        for task in self._tasks:
            for store in task.cached_stores():
                yield from store.dropping_clean()
        by_size = sorted(
            self._tasks,
            key=lambda task: sum(store.bytes_counted for store in task.cached_stores()),
        )
        while by_size and self._recount_all() > target_bytes:
            yield from by_size.pop().spilling()

    def _recount_all(self) -> int:
        self.used_bytes = sum(
            store.bytes_counted for task in self._tasks for store in task.cached_stores()
        )
        return self.used_bytes
