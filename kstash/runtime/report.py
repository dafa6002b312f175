"""Turns what the tasks count into metrics and status, once a second: nothing on the hot path."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kstash.ports import TaskStatus, WorkerStatus
from kstash.runtime.context import Context
from kstash.runtime.group import Phase, TaskGroup
from kstash.runtime.lags import Lags
from kstash.runtime.progress import Progress
from kstash.runtime.rates import Rates
from kstash.runtime.stalls import Stalls, state_of
from kstash.runtime.task import Task

REPORT_INTERVAL_S = 1.0
STATES = ("starting", "recovering", "live", "stopping")


class Reporter:
    """Publishes counters, gauges and the state of the application."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._due = 0.0
        self._progress = Progress()
        self._lags = Lags(context)
        self._stalls = Stalls()
        self._rates = Rates(context.layout.topology)
        # Keyed by the task object: a new incarnation counts from zero again.
        self._seen: dict[int, tuple[Task, tuple[int, ...], tuple[int, Phase]]] = {}

    def tick(
        self,
        now: float,
        groups: Mapping[int, TaskGroup],
        owned: Collection[int],
        *,
        is_stopping: bool,
    ) -> None:
        """Report when due; `owned`: what the membership gave, and did not ask back."""
        if now < self._due:
            return
        self._due = now + REPORT_INTERVAL_S
        tasks = [task for group in groups.values() for task in group.tasks.values()]
        self._progress.look(now, groups)
        self._lags.look(now, groups)
        self._stalls.look(now, groups, owned, self._lags)
        self._rates.look(now, tasks)
        for group in groups.values():
            group.checkpoints.look(now)
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
        alive = {id(task) for task in tasks}
        self._seen = {key: value for key, value in self._seen.items() if key in alive}
        for (topic, partition), lag in self._lags.by_partition.items():
            metrics.gauge("input_lag_records", lag.records, topic=topic, partition=str(partition))

    def status(self, groups: Mapping[int, TaskGroup], *, is_stopping: bool) -> WorkerStatus:
        """What the worker does now; lags, rates and what stands still as of the last report."""
        context = self._context
        now, silent_since = context.clock.monotonic(), self._lags.silent_since
        return WorkerStatus(
            application_id=context.config.application_id,
            guarantee=context.config.guarantee,
            state=_state(groups, is_stopping=is_stopping),
            tasks=tuple(
                self._task_status(now, task, group)
                for _, group in sorted(groups.items())
                for task in group.tasks.values()
            ),
            groups=self._stalls.groups,
            topics=self._rates.status(self._lags),
            recoveries=tuple(context.recoveries),
            silent_seconds=now - silent_since if silent_since is not None else 0.0,
        )

    def _task_status(self, now: float, task: Task, group: TaskGroup) -> TaskStatus:
        lag = self._lags.of_task(task)
        partitions = sorted(source.partition for source in task.inputs.values())
        has_recovery = self._context.has_recovery
        remote = group.checkpoints.newest_remote(task)
        return TaskStatus(
            name=task.name,
            state=state_of(group),
            position=task.core.position,
            replay_end=task.core.adopted,
            checkpointed_position=task.checkpointed_position,
            lag=lag.records if lag is not None else None,
            inputs=tuple(f"{topic}/{partition}" for topic, partition in partitions),
            stage=task.stage.name,
            partition=group.number,
            lag_seconds=lag.seconds if lag is not None else None,
            stalled_seconds=self._stalls.of_task(task),
            stream_time=task.stream_time_ms / 1000 if task.stream_time_ms else None,
            checkpoint_age_seconds=group.checkpoints.age_s(task, now) if has_recovery else None,
            remote_position=remote.position if remote is not None else None,
            remote_age_seconds=(
                group.checkpoints.remote_age_s(task, now) if has_recovery else None
            ),
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


def _state(groups: Mapping[int, TaskGroup], *, is_stopping: bool) -> str:
    if is_stopping:
        return "stopping"
    if not groups:
        return "starting"
    if all(group.phase is not Phase.RECOVERING for group in groups.values()):
        return "live"
    return "recovering"
