"""HINTs of one group: where a recovery may start to scan the outputs (protocol, section 4).

A task hints when something of its own was acknowledged or committed. What others write meanwhile
moves its scan starts too (H40); that is said with its own hints when it is much, and every ten
seconds at the latest, idle or not: in the newest checkpoint, said again, which the purge follows,
or in a hint where there is none to be said.
"""

from __future__ import annotations

from collections.abc import Mapping

from kstash.ports.process import Clock
from kstash.runtime.context import LineageTimes
from kstash.runtime.ends import IdleEnds
from kstash.runtime.group.lineage_writer import LineageWriter
from kstash.runtime.group.trim import Trimmer
from kstash.runtime.task.task import Task

HINT_INTERVAL_S = 1.0
"""A HINT at most once a second (protocol, section 4), if not for the outputs."""

HINT_RECORDS = 5_000
"""Outputs since the last hint that make the next one due at once: a successor scans as many, and
those since the last commit. Five microseconds each, the dearest part of a scan."""

SAY_AGAIN_S = 10.0
"""How often a group asks how far others have written. All ask at the same time: they share one
question."""


class Hints:
    """Appends the hints of one group, and has its checkpoints said again.

    Args:
        clock: time.
        ends: of the outputs of all groups.
        times: settings of the lineage topic.
        lineage: writes to the group's partition of it.
        tasks: of the group, by stage index.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        ends: IdleEnds,
        times: LineageTimes,
        lineage: LineageWriter,
        tasks: Mapping[int, Task],
    ) -> None:
        self._times = times
        self._ends = ends
        self._lineage = lineage
        self._tasks = tasks
        now = clock.monotonic()
        self._due = now
        self._again_due = _next_round(now)
        self._hinted_at = 0
        self._total = 0
        # Number of the first answer of which all topics are surely those that the lineage is of.
        self._first_version = ends.coming
        # Number of the answer that is waited for.
        self._version: int | None = None

    def tick(self, now: float, trimmer: Trimmer | None) -> None:
        """Hint when due; `trimmer` may say checkpoints again, None: none may be published now."""
        if now >= self._again_due:
            self._again_due = _next_round(now)
            self._version = self._ends.want()
        if self._version is not None and self._ends.version >= self._version:
            self._version = None
            self._say_again(trimmer)
        records = sum(task.emission.records_out for task in self._tasks.values())
        if now < self._due and records < self._hinted_at + HINT_RECORDS:
            return
        self._due = now + HINT_INTERVAL_S
        self._hinted_at = records
        # Kafka rolls and compacts a segment only when something is written: once per `segment.ms`
        # of the lineage topic an idle group repeats its hints (H23).
        is_silent = now - self._lineage.appended_s >= self._times.segment_s
        moved = [task for task in self._tasks.values() if task.core.scans.has_moved]
        if moved:
            self._ends.want()
            self._take_ends(moved)
        for task in self._tasks.values() if is_silent else moved:
            self._hint(task, is_repeated=is_silent)

    def next_s(self, now: float) -> float:
        """When `tick` is needed, if nothing comes before."""
        if self._version is not None:
            return now  # the answer comes in a moment
        if any(task.core.scans.has_moved for task in self._tasks.values()):
            return min(self._due, self._again_due)
        return self._again_due

    def _take_ends(self, tasks: list[Task]) -> None:
        is_known = self._ends.version >= self._first_version
        if is_known and self._ends.total >= self._total + HINT_RECORDS:
            self._total = self._ends.total
            for task in tasks:
                self._ends.give(task.core, task.stage)

    def _say_again(self, trimmer: Trimmer | None) -> None:
        self._total = self._ends.total
        for task in self._tasks.values():
            self._ends.give(task.core, task.stage)
            if trimmer is None or not trimmer.say_again(task):
                self._hint(task)

    def _hint(self, task: Task, *, is_repeated: bool = False) -> None:
        hint = task.core.take_hint(is_repeated=is_repeated)
        if hint is not None:
            self._lineage.append(hint, _nothing)


def _next_round(now: float) -> float:
    return (now // SAY_AGAIN_S + 1) * SAY_AGAIN_S


def _nothing() -> None:
    """A hint's acknowledgement changes nothing."""
