"""The ticks of a group's live tasks: which task is due, and where their inputs had ended."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from kstash.ports.kafka import Admin, OffsetsAnswer, Partition
from kstash.ports.process import Clock
from kstash.runtime.context import Clients
from kstash.runtime.group.batches import Batches
from kstash.runtime.group.idle import GroupIdle
from kstash.runtime.group.quiet import GroupQuiet
from kstash.runtime.group.run_end import RunEnd
from kstash.runtime.input_ends import QUESTION_S_MAX, ask_ends
from kstash.runtime.task.positions import note_positions
from kstash.runtime.task.task import Task
from kstash.runtime.task.ticking import Ticking

ASK_AGAIN_S = 1.0
"""Pause before a question that was not answered for all partitions is asked again."""


class GroupTicks:
    """Wakes the tasks of a live group whose ticks are due.

    Args:
        clock: time.
        batches: of the group.
        tasks: of the group, by stage index.
    """

    def __init__(self, clock: Clock, batches: Batches, tasks: Mapping[int, Task]) -> None:
        self._clock = clock
        self._batches = batches
        self._tasks = tasks
        self._ends: ListedEnds | None = None
        self._idle: GroupIdle | None = None
        self._quiet: GroupQuiet | None = None

    def begin(self, clients: Clients, run_end: RunEnd | None, idle_timeout_ms: int) -> None:
        """The group is live.

        Args:
            clients: know where the inputs end now, and how far they were read.
            run_end: of the bounded run that ends here, if one does.
            idle_timeout_ms: see the setting.
        """
        seeing = [task for task in self._tasks.values() if task.ticks]
        for task in seeing:
            is_at_end = (lambda: False) if run_end is None else partial(run_end.is_at_end, task)
            ticking = Ticking(
                task.ticks,
                task.inputs,
                time_ms=self._clock.time_ms,
                note_positions=partial(note_positions, clients.consumer, task),
                is_at_end=is_at_end,
            )
            task.ticking, task.answers.clock = ticking, ticking.logged_ms
        if waiting := [task for task in seeing if task.ticks.are_wanted]:
            self._ends = ListedEnds(clients.admin, waiting)
            self._batches.look_at_ticks()
            self._idle = GroupIdle(
                self._clock,
                clients=clients,
                batches=self._batches,
                tasks=seeing,
                idle_timeout_ms=idle_timeout_ms,
            )
            self._quiet = GroupQuiet(clients, self._batches, waiting)

    @property
    def is_listing(self) -> bool:
        """Whether it is not known yet of all inputs where they ended."""
        return self._ends is not None

    def tick(self, now: float) -> None:
        """Take answers, and ask again when due."""
        if self._ends is not None:
            self._ends.tick(now)
            if self._ends.is_done:
                self._ends = None
        if self._idle is not None:
            self._idle.tick(now)
        if self._quiet is not None:
            self._quiet.tick(now)


class ListedEnds:
    """Where the inputs of tasks end when their group goes live, asked for without waiting.

    Args:
        admin: is asked.
        tasks: that wait for it; they have a `Ticking`.
    """

    def __init__(self, admin: Admin, tasks: list[Task]) -> None:
        self._admin = admin
        self._waiting: dict[Partition, list[tuple[Task, int]]] = {}
        self._uncommitted: set[Partition] = set()
        for task in tasks:
            for index, source in task.inputs.items():
                self._waiting.setdefault(source.partition, []).append((task, index))
                if source.kind.is_uncommitted:
                    self._uncommitted.add(source.partition)
        self._answers: list[OffsetsAnswer] = []
        self._asked = self._due = 0.0

    @property
    def is_done(self) -> bool:
        """Whether all are known."""
        return not self._waiting

    def tick(self, now: float) -> None:
        """Ask, or take what is there of the answers."""
        if self._answers and now > self._asked + QUESTION_S_MAX:
            self._answers.clear()
        if not self._answers and now >= self._due:
            self._ask(now)
        found = [(answer, answer()) for answer in self._answers]
        self._answers = [answer for answer, ends in found if ends is None]
        for _, ends in found:
            for partition, end in (ends or {}).items():
                for task, index in self._waiting.pop(partition, ()):
                    assert task.ticking is not None
                    task.ticking.rules.list_ends({index: end})

    def _ask(self, now: float) -> None:
        self._asked, self._due = now, now + ASK_AGAIN_S
        self._answers = ask_ends(self._admin, {p: p in self._uncommitted for p in self._waiting})
