"""Which task of a group has its turn, and for how long."""

from __future__ import annotations

from collections.abc import Mapping

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
    """

    def __init__(
        self,
        services: Services,
        load: Load,
        lineage: LineageWriter,
        inputs: GroupInputs,
        tasks: Mapping[int, Task],
    ) -> None:
        self.ready: dict[int, None] = {}
        self._services = services
        self._load = load
        self._lineage = lineage
        self._inputs = inputs
        self._tasks = tasks

    def wake(self, task: Task) -> None:
        """A task may have something to process."""
        self.ready[task.stage.index] = None

    def clear(self) -> None:
        """Process no more: what waits is for the next owner."""
        self.ready.clear()

    def longest_s(self, now: float) -> float:
        """Seconds that the next batch of any of the tasks may take."""
        tasks = self._tasks.values()
        return max(
            (source.pace.longest_s(now) for task in tasks for source in task.inputs.values()),
            default=0.0,
        )

    def work(self, deadline: float, *, is_live: bool) -> None:
        """Process batches of each ready task, at least one, until `deadline`.

        Before that when so much of what was made waits that no more fits (`Load`).

        Args:
            deadline: monotonic seconds.
            is_live: whether new events are processed; else those of the history are replayed.
        """
        clock, load = self._services.clock, self._load
        for stage in list(self.ready):
            del self.ready[stage]
            task = self._tasks[stage]
            until = min(deadline, clock.monotonic() + BATCH_S)
            # Runs of a merge may be as short as one record: in a replay many of them make a batch.
            while self._live_batch(task) if is_live else task.replay_slice():
                if clock.monotonic() >= until or load.is_full:
                    if task.has_waiting:
                        self.ready[stage] = None
                    break
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
