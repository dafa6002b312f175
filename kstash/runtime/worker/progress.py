"""Says how far recoveries are that take long: how much, how much of it is done, how long it takes.

One line for all task groups of the worker, at pauses that grow: a replay of seconds says nothing, a
replay of an hour some seventy times. Restores from the checkpoint store have lines of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import structlog

from kstash.core.group_state import GroupState
from kstash.runtime.group.group import TaskGroup
from kstash.runtime.group.phase import Phase
from kstash.runtime.pauses import Pauses

log = structlog.get_logger("kstash.recovery")


@dataclass(frozen=True, slots=True)
class Work:
    """How much there is to do, and how much of it is done."""

    done: int = 0
    total: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.done + other.done, self.total + other.total)


class RecoveryProgress:
    """Watches the recoveries of one worker."""

    def __init__(self) -> None:
        self._pauses: Pauses | None = None
        # Of the last line: which step, when, and how much was done.
        self._before = ("", 0.0, 0)

    def look(self, now: float, groups: Mapping[int, TaskGroup]) -> None:
        """Say how far they are when that is due; to be called once a second or so."""
        recovering = [group for group in groups.values() if group.phase is Phase.RECOVERING]
        if not recovering:
            self._pauses = None
        elif self._pauses is None:
            self._pauses = Pauses(now)
            self._before = "", now, 0
        elif self._pauses.is_over(now):
            self._tell(now, recovering, live=len(groups) - len(recovering))

    def _tell(self, now: float, recovering: list[TaskGroup], *, live: int) -> None:
        replay, scan = sum(map(_replay, recovering), Work()), sum(map(_scan, recovering), Work())
        if replay.done < replay.total:
            figures = self._figures("events", now, replay)
            log.info("replay goes on", groups=len(recovering), groups_live=live, **figures)
        elif scan.done < scan.total:
            figures = self._figures("records", now, scan)
            log.info(
                "what is in Kafka is read", groups=len(recovering), groups_live=live, **figures
            )

    def _figures(self, what: str, now: float, work: Work) -> dict[str, float | int | None]:
        """How far it is; its speed since the last line, and how long it takes at that."""
        step, since, done = self._before
        if step != what or done > work.done:
            done = 0  # another step, or groups that were done have left
        self._before = what, now, work.done
        rate = (work.done - done) / max(now - since, 1e-9)
        return {
            what: work.done,
            f"of_{what}": work.total,
            "percent": 100 * work.done // work.total,
            f"{what}_per_s": round(rate, 1 if rate < 10 else None),
            "remaining_s": round((work.total - work.done) / rate) if rate else None,
        }


def _replay(group: TaskGroup) -> Work:
    """Events of the group's replay."""
    found = Work()
    for task in group.tasks.values():
        # In a replay no checkpoint is taken: that is where it began.
        base, end = task.checkpoints.position, task.core.adopted
        found += Work(min(task.core.position, end) - base, end - base)
    return found


def _scan(group: TaskGroup) -> Work:
    """Offsets of what the group's recovery reads just now: lineage, or the ends of outputs."""
    if group.recovery is None or group.recovery.state is GroupState.REPLAYING:
        return Work()
    return sum((Work(at - first, end - first) for first, at, end in _ranges(group)), Work())


def _ranges(group: TaskGroup) -> Iterator[tuple[int, int, int]]:
    assert group.recovery is not None
    for job in group.recovery.jobs:
        if job.next_offsets:
            for partition, (first, end) in job.ranges.items():
                yield first, job.next_offsets.get(partition, end), end
