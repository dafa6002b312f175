"""Turns what the tasks count into metrics and lines, once a second: nothing on the hot path."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kstash.ports import Partition, TaskStatus, WorkerStatus
from kstash.runtime.context import Context
from kstash.runtime.group import Phase, TaskGroup
from kstash.runtime.progress import Progress
from kstash.runtime.task import Task

REPORT_INTERVAL_S = 1.0
LAG_INTERVAL_S = 10.0
"""The ends of the inputs are asked for this often: it costs a round trip."""

STATES = ("starting", "recovering", "live", "stopping")

_TASK_STATES = {Phase.RECOVERING: "recovering", Phase.LIVE: "live"}


class Reporter:
    """Publishes counters, gauges and the state of the application."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._due = self._lag_due = 0.0
        self._progress = Progress()
        # Keyed by the task object: a new incarnation counts from zero again.
        self._seen: dict[int, tuple[Task, tuple[int, ...], tuple[int, Phase]]] = {}
        self._ends: dict[Partition, int] = {}
        self._answer: Callable[[], dict[Partition, int] | None] | None = None

    def tick(self, now: float, groups: Mapping[int, TaskGroup], *, is_stopping: bool) -> None:
        """Report when due."""
        if now < self._due:
            return
        self._due = now + REPORT_INTERVAL_S
        self._progress.look(now, groups)
        metrics = self._context.metrics
        state = _state(groups, is_stopping=is_stopping)
        for name in STATES:
            metrics.gauge("app_state", float(name == state), state=name)
        for group in groups.values():
            for task in group.tasks.values():
                self._report_task(task, group)
        metrics.gauge(
            "lineage_unacked_entries", sum(g.lineage.unacked_entries for g in groups.values())
        )
        metrics.gauge(
            "lineage_unacked_bytes", sum(g.lineage.unacked_bytes for g in groups.values())
        )
        if self._answer is not None:
            self._report_lag(groups)
        elif now >= self._lag_due and any(group.tasks for group in groups.values()):
            self._lag_due = now + LAG_INTERVAL_S
            self._ask_ends(groups)

    def status(self, groups: Mapping[int, TaskGroup], *, is_stopping: bool) -> WorkerStatus:
        """What the worker does now; lag as of the last look at the ends of the inputs."""
        config = self._context.config
        return WorkerStatus(
            application_id=config.application_id,
            guarantee=config.guarantee,
            state=_state(groups, is_stopping=is_stopping),
            tasks=tuple(
                self._task_status(task, group)
                for _, group in sorted(groups.items())
                for task in group.tasks.values()
            ),
        )

    def _task_status(self, task: Task, group: TaskGroup) -> TaskStatus:
        partitions = {source.partition: source.next_offset for source in task.inputs.values()}
        lag = None
        if all(partition in self._ends for partition in partitions):
            lag = sum(max(0, self._ends[p] - offset) for p, offset in partitions.items())
        return TaskStatus(
            name=task.name,
            state=_TASK_STATES.get(group.phase, "stopping"),
            position=task.core.position,
            replay_end=task.core.adopted,
            checkpointed_position=task.checkpointed_position,
            lag=lag,
            inputs=tuple(f"{topic}/{partition}" for topic, partition in sorted(partitions)),
        )

    def _report_task(self, task: Task, group: TaskGroup) -> None:
        metrics = self._context.metrics
        counts = (
            task.records_in,
            task.records_out,
            task.replayed,
            task.suppressed,
            task.emitter.header_bytes,
        )
        known = self._seen.get(id(task))
        before = known[1] if known is not None and known[0] is task else (0,) * len(counts)
        state = (task.core.position, group.phase)
        if known is not None and known == (task, counts, state):
            return  # most tasks of many have nothing new to say
        self._seen[id(task)] = (task, counts, state)
        names = (
            "records_in",
            "records_out",
            "replayed_records",
            "suppressed_outputs",
            "header_bytes",
        )
        for name, count, old in zip(names, counts, before, strict=True):
            if count != old:
                metrics.count(name, count - old, stage=task.stage.name)
        metrics.gauge(
            "task_position",
            task.core.position,
            task=task.name,
        )
        metrics.gauge("task_live", float(group.phase is Phase.LIVE), task=task.name)

    def _ask_ends(self, groups: Mapping[int, TaskGroup]) -> None:
        alive = {id(task) for group in groups.values() for task in group.tasks.values()}
        self._seen = {key: value for key, value in self._seen.items() if key in alive}
        positions = _positions(groups)
        if positions:
            # Not waited for: a broker that is away must not hold up the loop.
            self._answer = self._context.admin.ask_end_offsets(list(positions))

    def _report_lag(self, groups: Mapping[int, TaskGroup]) -> None:
        assert self._answer is not None
        ends = self._answer()
        if ends is None:
            return
        self._answer = None
        self._ends |= ends
        for (topic, partition), position in _positions(groups).items():
            if (topic, partition) in ends:
                lag = max(0, ends[topic, partition] - position)
                self._context.metrics.gauge(
                    "input_lag_records", lag, topic=topic, partition=str(partition)
                )


def _positions(groups: Mapping[int, TaskGroup]) -> dict[Partition, int]:
    return {
        source.partition: source.next_offset
        for group in groups.values()
        for task in group.tasks.values()
        for source in task.inputs.values()
    }


def _state(groups: Mapping[int, TaskGroup], *, is_stopping: bool) -> str:
    if is_stopping:
        return "stopping"
    if not groups:
        return "starting"
    if all(group.phase is not Phase.RECOVERING for group in groups.values()):
        return "live"
    return "recovering"
