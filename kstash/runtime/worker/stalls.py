"""What has stood still for how long: tasks that have work, and task groups that are not live.

Alerts and liveness go by these figures, so they count from the last time that all was well, and
only what was seen: a check that comes late, after a long batch, sees the progress of that batch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kstash.core.group_state import GroupState
from kstash.ports.status import GroupStatus
from kstash.runtime.group.group import TaskGroup
from kstash.runtime.group.phase import Phase
from kstash.runtime.task.task import Task
from kstash.runtime.worker.lags import Lags
from kstash.runtime.worker.stillness import Stillness

_STATES = {Phase.RECOVERING: "recovering", Phase.LIVE: "live"}


def state_of(group: TaskGroup) -> str:
    """`recovering`, `live` or `stopping`."""
    return _STATES.get(group.phase, "stopping")


class Stalls:
    """Checks once a second what has moved.

    Attributes:
        groups: those that the worker has or should have, by number.
    """

    def __init__(self) -> None:
        self.groups: tuple[GroupStatus, ...] = ()
        # Of tasks, by the object: a new incarnation begins anew; and of groups, by their number.
        self._still = Stillness()
        self._waiting: dict[int, float] = {}
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
        self._still.begin_look(now)
        for group in groups.values():
            for task in group.tasks.values():
                self._still.look_at(task, _place(task), should_move=_has_work(task, lags))
        self.groups = tuple(
            self._group(number, groups.get(number), is_owned=number in owned)
            for number in sorted({*groups, *owned})
        )
        for number in self._waiting.keys() - owned:
            del self._waiting[number]

    def of_task(self, task: Task) -> float:
        """Seconds for which a task has had work and made no progress, as of the last check."""
        return self._still.seconds(task)

    def _group(self, number: int, group: TaskGroup | None, *, is_owned: bool) -> GroupStatus:
        state = "restarting" if group is None else state_of(group)
        if state in ("live", "stopping"):  # one that moves away finishes, or is released
            self._waiting.pop(number, None)
            return GroupStatus(number, state, 0.0, 0.0)
        # A group that restarts again and again has been waiting since it was live last.
        first = self._now if group is None else min(group.started, self._now)
        since_s = self._waiting.setdefault(number, first)
        at = None if group is None else _progress(group)
        idle_s = self._still.look_at(number, at, should_move=is_owned)
        return GroupStatus(number, state, self._now - since_s, idle_s)


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
