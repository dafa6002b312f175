"""Inputs of a group's tasks of which nothing comes: whether they are at their ends, and since when.

Nothing of an input has come for long, and the broker says that it ends where the task stands: then
the task says so, as an event (watermark mode). Whether it may is asked when the event is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from kstash.core.watermark import Quiet
from kstash.ports.kafka import Admin, OffsetsAnswer, Partition
from kstash.ports.process import Clock
from kstash.runtime.context import Clients
from kstash.runtime.group.batches import Batches
from kstash.runtime.input_ends import QUESTION_S_MAX, ask_ends
from kstash.runtime.task.positions import note_positions
from kstash.runtime.task.task import Task


class GroupIdle:
    """Looks after the inputs of a live group that say when they are idle.

    Args:
        clock: time.
        clients: know where inputs end, and how far they were read.
        batches: of the group.
        tasks: of the group.
        idle_timeout_ms: see the setting.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        clients: Clients,
        batches: Batches,
        tasks: Iterable[Task],
        idle_timeout_ms: int,
    ) -> None:
        self._clock = clock
        self._admin: Admin = clients.admin
        self._batches = batches
        self._inputs = [
            _Input(
                task,
                index,
                note_positions=partial(note_positions, clients.consumer, task),
                idle_timeout_ms=idle_timeout_ms,
            )
            for task in tasks
            for index in task.inputs
            if task.stage.inputs[index].says_idle
        ]
        self._answers: list[OffsetsAnswer] = []
        self._asked_at = 0.0

    def tick(self, now: float) -> None:
        """See what came, ask for the ends of what is quiet for long, and take answers."""
        if self._answers and now > self._asked_at + QUESTION_S_MAX:
            self._answers.clear()
        found = [(answer, answer()) for answer in self._answers]
        self._answers = [answer for answer, ends in found if ends is None]
        for _, ends in found:
            for partition, end in (ends or {}).items():
                self._found(partition, end)
        now_ms = self._clock.time_ms()
        quiet = [each for each in self._inputs if each.look(now_ms)]
        if quiet and not self._answers:
            self._ask(now, quiet)

    def _ask(self, now: float, quiet: list[_Input]) -> None:
        self._asked_at = now
        for each in quiet:
            each.note_positions()
            each.asked_at_offset = each.task.inputs[each.index].next_offset
        self._answers = ask_ends(self._admin, {e.partition: e.is_uncommitted for e in quiet})

    def _found(self, partition: Partition, end: int) -> None:
        for each in self._inputs:
            source = each.task.inputs[each.index]
            if each.partition != partition or each.asked_at_offset != source.next_offset:
                continue
            if source.buffer or end > source.next_offset:
                continue
            assert each.task.ticking is not None
            each.task.ticking.idle_due.append(each.index)
            each.quiet.say(0, self._clock.time_ms())
            self._batches.wake(each.task)


class _Input:
    """One input.

    Attributes:
        quiet: since when nothing comes of it.
        asked_at_offset: where the task stood when its end was asked for.
    """

    def __init__(
        self, task: Task, index: int, *, note_positions: partial[None], idle_timeout_ms: int
    ) -> None:
        self.task = task
        self.index = index
        self.note_positions = note_positions
        self.partition = task.inputs[index].partition
        self.is_uncommitted = task.inputs[index].kind.is_uncommitted
        self.quiet = Quiet(idle_timeout_ms)
        self.asked_at_offset = -1
        self._records = -1

    def look(self, now_ms: int) -> bool:
        """Note whether anything came; returns whether nothing has for long."""
        source = self.task.inputs[self.index]
        has_come = bool(source.buffer) or source.records != self._records
        self._records = source.records
        self.quiet.see(0, now_ms, is_at_end=not has_come)
        due_ms = self.quiet.due_ms(0)
        return due_ms is not None and due_ms <= now_ms
