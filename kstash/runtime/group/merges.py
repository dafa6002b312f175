"""The tasks of a live group that merge: what their inputs will have, and when a wait is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from kstash.ports.kafka import Consumer
from kstash.ports.process import Clock
from kstash.runtime.group.batches import Batches
from kstash.runtime.group.run_end import RunEnd
from kstash.runtime.task.awaited import Awaited
from kstash.runtime.task.task import Task


class GroupMerges:
    """Wakes the tasks of a live group that waited for an input, and need not any more.

    Args:
        clock: time.
        batches: of the group.
        tasks: of the group, by stage index.
        idle_ms: `task_idle_ms`.
    """

    def __init__(
        self, clock: Clock, *, batches: Batches, tasks: Mapping[int, Task], idle_ms: int
    ) -> None:
        self._clock = clock
        self._batches = batches
        self._tasks = tasks
        self._idle_ms = idle_ms
        self._merging: list[Task] = []

    def begin(self, consumer: Consumer, run_end: RunEnd | None) -> None:
        """The group is live.

        Args:
            consumer: reads the inputs.
            run_end: of the bounded run that ends here, if one does.
        """
        now = self._clock.monotonic()
        for task in self._tasks.values():
            if not task.merging.is_live:
                continue
            self._merging.append(task)
            run_has_more: Callable[[int], bool] | None = None
            if run_end is not None:
                run_has_more = partial(run_end.has_more, task)
            task.merging.awaited = Awaited(
                idle_ms=self._idle_ms,
                is_at_end=partial(_is_at_end, consumer, task),
                now=now,
                inputs=task.inputs,
                run_has_more=run_has_more,
            )

    @property
    def is_waiting(self) -> bool:
        """Whether a task waits for an input."""
        return any(task.merging.is_waiting for task in self._merging)

    def tick(self, now: float) -> None:
        """Wake the tasks whose wait is over."""
        for task in self._merging:
            if task.merging.may_go_on(now):
                self._batches.wake(task)


def _is_at_end(consumer: Consumer, task: Task, index: int) -> bool:
    return consumer.is_at_end(task.inputs[index].partition)
