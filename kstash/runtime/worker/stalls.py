"""What has stood still for how long: tasks that have work, and task groups that are not live.

Alerts and liveness go by these figures, so they count from the last time that all was well, and
only what was seen: a check that comes late, after a long batch, sees the progress of that batch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from kstash.core.group_state import GroupState
from kstash.ports.status import GroupStatus
from kstash.runtime.group.group import TaskGroup
from kstash.runtime.group.phase import Phase
from kstash.runtime.task.task import Task
from kstash.runtime.worker.lags import Lags

_STATES = {Phase.RECOVERING: "recovering", Phase.LIVE: "live"}


def state_of(group: TaskGroup) -> str:
    """`recovering`, `live` or `stopping`."""
    return _STATES.get(group.phase, "stopping")


@dataclass(slots=True)
class _Still:
    """Where something was when it moved last, and when that was, in monotonic seconds."""

    at: object
    since_s: float


class Stalls:
    """Checks once a second what has moved.

    Attributes:
        groups: those that the worker has or should have, by number.
    """

    def __init__(self) -> None:
        self.groups: tuple[GroupStatus, ...] = ()
        # By the task object: a new incarnation begins anew.
        self._tasks: dict[Task, _Still] = {}
        self._waiting: dict[int, float] = {}
        self._idle: dict[int, _Still] = {}
        self._now = 0.0

    def look(
        self, now: float, groups: Mapping[int, TaskGroup], owned: Collection[int], lags: Lags
    ) -> None:
        """See what has moved since the last check.

        Args:
            now: monotonic seconds.
            groups: that are open.
            owned: numbers of those that the membership gave and did not ask back.
            lags: of the inputs, as of now.
        """
        self._now = now
        tasks = [task for group in groups.values() for task in group.tasks.values()]
        before, self._tasks = self._tasks, {}
        for task in tasks:
            still = before.get(task)
            self._tasks[task] = self._seen(still, _place(task), is_waiting=_has_work(task, lags))
        self.groups = tuple(
            self._group(number, groups.get(number)) for number in sorted({*groups, *owned})
        )
        for kept in (self._waiting, self._idle):
            for number in kept.keys() - owned:
                del kept[number]

    def of_task(self, task: Task) -> float:
        """Seconds for which a task has had work and made no progress, as of the last check."""
        still = self._tasks.get(task)
        return self._now - still.since_s if still is not None else 0.0

    def _seen(self, still: _Still | None, at: object, *, is_waiting: bool) -> _Still:
        if still is None or still.at != at or not is_waiting:
            return _Still(at, self._now)
        return still

    def _group(self, number: int, group: TaskGroup | None) -> GroupStatus:
        state = "restarting" if group is None else state_of(group)
        if state in ("live", "stopping"):  # one that moves away finishes, or is released
            self._waiting.pop(number, None)
            self._idle.pop(number, None)
            return GroupStatus(number, state, 0.0, 0.0)
        # A group that restarts again and again has been waiting since it was live last.
        first = self._now if group is None else min(group.started, self._now)
        since_s = self._waiting.setdefault(number, first)
        at = None if group is None else _progress(group)
        idle = self._idle[number] = self._seen(self._idle.get(number), at, is_waiting=True)
        return GroupStatus(number, state, self._now - since_s, self._now - idle.since_s)


def _place(task: Task) -> object:
    return task.core.position, task.parts, *(source.next_offset for source in task.inputs.values())


def _has_work(task: Task, lags: Lags) -> bool:
    if task.merging.is_patient:
        return False
    lag = lags.of_task(task)
    return task.is_replaying or task.has_waiting or (lag is not None and lag.records > 0)


def _progress(group: TaskGroup) -> object:
    """Changes while a recovery moves: a step, a record read or replayed.

    While checkpoints are checked and fetched it always does: a disk or a store that takes long
    reports that in lines of its own, and does not get faster when the process starts again.
    """
    recovery = group.recovery
    if recovery is None:
        return None
    if recovery.state is GroupState.VERIFYING:
        return object()
    tasks = group.tasks.values()
    replayed = [t.parts + s.next_offset for t in tasks for s in t.inputs.values()]
    return recovery.started, recovery.state, recovery.scanned, replayed
