"""Which task of a group has its turn, and for how long."""

from __future__ import annotations

from collections.abc import Mapping

from kstash.core.live import Admission
from kstash.runtime.context import Services
from kstash.runtime.group.inputs import GroupInputs
from kstash.runtime.group.lineage_writer import LineageWriter
from kstash.runtime.load import Load
from kstash.runtime.pace import BATCH_S
from kstash.runtime.task.task import Task


class Batches:
    """Has the tasks of a group process what waits, in turn.

    Args:
        services: of the process.
        load: of the worker: while it is full, no further batch begins.
        lineage: writes what the batches decided.
        inputs: of the tasks, paused while too much waits.
        tasks: by stage index; more may come.

    Attributes:
        ready: stages of the tasks that may have something to process, those that waited longest
            first.
        due_ms: Unix milliseconds by the clock at which a task may have a tick; None: none may.
    """

    def __init__(
        self,
        services: Services,
        *,
        load: Load,
        lineage: LineageWriter,
        inputs: GroupInputs,
        tasks: Mapping[int, Task],
    ) -> None:
        self.ready: dict[int, None] = {}
        self.due_ms: int | None = None
        self._admission = Admission()
        self._services = services
        self._load = load
        self._lineage = lineage
        self._inputs = inputs
        self._tasks = tasks

    def wake(self, task: Task) -> None:
        """A task may have something to process."""
        self.ready[task.stage.index] = None

    def look_at_ticks(self) -> None:
        """Tasks may want their ticks at other times now."""
        ticking = [task.ticking for task in self._tasks.values() if task.ticking is not None]
        due = [at_ms for found in ticking if (at_ms := found.due_ms) is not None]
        self.due_ms = min(due) if due and not self._admission.is_closed else None

    def wake_due(self, now_ms: int) -> None:
        """Wake the tasks that may have a tick by now."""
        if self.due_ms is None or now_ms < self.due_ms:
            return
        for task in self._tasks.values():
            ticking = task.ticking
            if ticking is not None and (at_ms := ticking.due_ms) is not None and at_ms <= now_ms:
                self.wake(task)

    @property
    def is_under_way(self) -> bool:
        """Whether an event of any task is, of which more outputs will be made."""
        return any(task.is_under_way for task in self._tasks.values())

    def close(self) -> None:
        """Begin no more: what waits is for the next owner. Events under way are finished."""
        self._admission.close()
        self.due_ms = None
        self.ready = {stage: None for stage, task in self._tasks.items() if task.is_under_way}

    def clear(self) -> None:
        """Process no more, whatever is under way."""
        self.ready.clear()

    def longest_s(self, now: float) -> float:
        """Seconds that the next batch of any of the tasks may take, in all of its parts."""
        tasks = self._tasks.values()
        return max(
            (source.pace.longest_s(now) for task in tasks for source in task.inputs.values()),
            default=0.0,
        )

    def work(self, deadline: float, *, is_replay: bool, waits_for_rest: bool) -> None:
        """Process batches of each ready task, at least one, until `deadline`.

        Before that when so much of what was made waits that no more fits (`Load`).

        Args:
            deadline: monotonic seconds.
            is_replay: whether events of the history are processed; else new ones are.
            waits_for_rest: whether a commit or a checkpoint is due and waits until no event is
                under way: then tasks that could have one under way begin no other, as at any time
                there might be one.
        """
        clock, load, admission = self._services.clock, self._load, self._admission
        for stage in list(self.ready):
            task = self._tasks[stage]
            may_begin = admission.may_begin(
                waits_for_rest=waits_for_rest, may_leave_work=task.may_leave_work
            )
            if not may_begin and not task.is_under_way:
                continue
            del self.ready[stage]
            until = min(deadline, clock.monotonic() + BATCH_S)
            # Runs of a merge may be as short as one record: in a replay many of them make a batch.
            while task.replay_slice() if is_replay else self._live_batch(task):
                is_at_rest = not may_begin and not task.is_under_way
                if is_at_rest or clock.monotonic() >= until or load.is_full:
                    if task.has_waiting and not (is_at_rest and admission.is_closed):
                        self.ready[stage] = None
                    break
            if task.ticking is not None:
                self.look_at_ticks()
            self._lineage.flush(task)
            self._inputs.balance(task)
            if clock.monotonic() >= deadline or load.is_full:
                return

    def _live_batch(self, task: Task) -> bool:
        clock, stage = self._services.clock, task.stage.name
        started = clock.monotonic()
        if not task.process():
            return False
        self._lineage.flush(task)
        metrics = self._services.metrics
        metrics.observe("process_seconds", clock.monotonic() - started, stage=stage)
        if task.newest_timestamp:
            age_ms = max(0, clock.time_ms() - task.newest_timestamp)
            metrics.observe("end_to_end_seconds", age_ms / 1000, stage=stage)
        return True
