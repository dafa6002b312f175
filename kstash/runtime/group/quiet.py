"""Operators that no record reaches for long, and that are to be flushed then.

How long that is goes by the worker's clock since it went live. That no record has come may also be
because inputs are paused, or others are slow, while records wait: so when the time is over, the
broker is asked where all inputs of the task end. Where one was not read to there, the time begins
anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from kstash.operators.flushes import Flushed
from kstash.ports.kafka import Admin, OffsetsAnswer, Partition
from kstash.runtime.context import Clients
from kstash.runtime.group.batches import Batches
from kstash.runtime.input_ends import QUESTION_S_MAX, ask_ends
from kstash.runtime.task.positions import note_positions
from kstash.runtime.task.task import Task


class GroupQuiet:
    """Looks after the operators of a live group that are flushed when no record comes.

    Args:
        clients: know where inputs end, and how far they were read.
        batches: of the group.
        tasks: of the group.
    """

    def __init__(self, clients: Clients, batches: Batches, tasks: Iterable[Task]) -> None:
        self._batches = batches
        self._quiet = [
            _Quiet(task, number, flushed=flushed, clients=clients)
            for task in tasks
            for number, flushed in enumerate(task.ticks.flushes.all)
            if flushed.why == "idle"
        ]

    def tick(self, now: float) -> None:
        """See what came, ask about what is quiet for long, and take answers."""
        for each in self._quiet:
            if each.tick(now):
                self._batches.wake(each.task)


class _Quiet:
    """One operator of a task.

    Args:
        task: the task.
        number: of the operator among those that are flushed.
        flushed: when it is.
        clients: know where inputs end, and how far they were read.
    """

    def __init__(self, task: Task, number: int, *, flushed: Flushed, clients: Clients) -> None:
        self.task = task
        self._number = number
        self._flushed = flushed
        self._note_positions = partial(note_positions, clients.consumer, task)
        self._admin: Admin = clients.admin
        self._since: float | None = None
        self._arrived = -1
        self._answers: list[OffsetsAnswer] = []
        self._read_to: dict[Partition, int] = {}

    def tick(self, now: float) -> bool:
        """Do what is due; returns whether the task may be flushed now."""
        task, arrived = self.task, self._flushed.step.arrived
        is_waiting = task.has_waiting or not task.ticks.flushes.wants(self._number)
        if is_waiting or arrived != self._arrived or self._since is None:
            self._arrived, self._since = arrived, now
            self._answers.clear()
            return False
        quiet_s = now - self._since - self._flushed.after_ms / 1000
        if quiet_s < 0:
            return False
        if not self._answers or quiet_s > QUESTION_S_MAX:
            self._since = now - self._flushed.after_ms / 1000
            self._ask()
            return False
        found = [answer() for answer in self._answers]
        if None in found:
            return False
        self._answers.clear()
        self._since = now
        ends = {partition: end for each in found for partition, end in (each or {}).items()}
        if any(ends.get(partition, at + 1) > at for partition, at in self._read_to.items()):
            return False
        assert task.ticking is not None
        task.ticking.flush_due.append((self._number, arrived))
        return True

    def _ask(self) -> None:
        self._note_positions()
        inputs = self.task.inputs.values()
        self._read_to = {source.partition: source.next_offset for source in inputs}
        self._answers = ask_ends(self._admin, {s.partition: s.kind.is_uncommitted for s in inputs})
