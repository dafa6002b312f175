"""Turns what the tasks count into metrics and status, once a second: nothing on the hot path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from kstash.ports.status import RecoveryStatus, TaskStatus, WorkerStatus
from kstash.runtime.context import Clients, Services
from kstash.runtime.decode import DROPPED
from kstash.runtime.group.group import TaskGroup
from kstash.runtime.group.phase import Phase
from kstash.runtime.layout import Layout
from kstash.runtime.load import Load
from kstash.runtime.task.task import Task
from kstash.runtime.worker.board import Board
from kstash.runtime.worker.lags import Lags
from kstash.runtime.worker.operator_report import OperatorReport
from kstash.runtime.worker.progress import RecoveryProgress
from kstash.runtime.worker.rates import Rates
from kstash.runtime.worker.retention_margin import RetentionMargin
from kstash.runtime.worker.stalls import Stalls, state_of
from kstash.runtime.worker.store_sizes import StoreSizes
from kstash.runtime.worker.time_report import TimeReport
from kstash.settings import derived
from kstash.settings.config import Config

REPORT_INTERVAL_S = 1.0

STATES = ("starting", "recovering", "live", "stopping")

STAGE_COUNTERS = (
    "records_in",
    "records_out",
    "replayed_records",
    "suppressed_outputs",
    "header_bytes",
)

CONNECTION_STATES = ("up", "connecting", "down", "idle")


class Reporter:
    """Publishes counters, gauges and the state of the application.

    Args:
        config: settings.
        layout: where tasks are.
        clients: of Kafka: what they know of brokers, ends and their queues.
        services: of the process.
        load: what was made and is still in memory.
        recoveries: the newest that ended in a live group.
        margin: what is known of retention.
    """

    def __init__(
        self,
        config: Config,
        layout: Layout,
        *,
        clients: Clients,
        services: Services,
        load: Load,
        recoveries: Collection[RecoveryStatus],
        margin: RetentionMargin,
    ) -> None:
        self._config = config
        self._layout = layout
        self._clients = clients
        self._services = services
        self._load = load
        self._recoveries = recoveries
        self._margin = margin
        # Monotonic time of the next report.
        self._due = 0.0
        self._board = Board(services.metrics)
        self._progress = RecoveryProgress()
        self._lags = Lags(clients.admin, layout, services.clock)
        self._stalls = Stalls()
        self._rates = Rates(layout.topology)
        self._stores = StoreSizes()
        self._operators = OperatorReport(layout.topology, services.metrics)
        self._times = TimeReport(layout, config.idle_timeout_ms)
        # By the task object: a new incarnation counts from zero again.
        self._seen: dict[Task, tuple[tuple[int, ...], dict[str, int]]] = {}
        self._begin()

    def tick(
        self,
        now: float,
        groups: Mapping[int, TaskGroup],
        owned: Collection[int],
        *,
        is_stopping: bool,
        is_spare: bool = False,
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
        self._times.look(now, groups, self._lags)
        self._stores.refresh(now, tasks)
        state = _state(groups, is_stopping=is_stopping, is_spare=is_spare)
        for name in STATES:
            self._board.gauge("app_state", float(name == state), state=name)
        self._count(tasks)
        for group in groups.values():
            group.checkpoints.look(now)
            for task in group.tasks.values():
                self._show_task(now, task, group)
        self._show_groups(now, groups)
        self._show_inputs()
        self._show_brokers()
        now_ms = self._services.clock.time_ms()
        sizes, times = self._stores.sizes, self._times.by_task
        self._operators.look(now_ms, tasks, sizes, times, self._board)
        for store, size in sizes.items():
            self._board.gauge("state_entries", size.entries, store=store)
            self._board.gauge("state_bytes", size.size_bytes, store=store)
        self._board.publish()
        self._show_queues(now, groups)

    def count_last(self, tasks: Collection[Task]) -> None:
        """Add to the counters what tasks have counted that are about to be closed.

        The next report does not see them any more: what they did after the last one, up to a
        second's work, would be missing for good.
        """
        for task in tasks:
            self._seen[task] = self._count_task(task)
        self._operators.count_last(tasks)

    # -- status ----------------------------------------------------------------------------------

    def status(
        self, groups: Mapping[int, TaskGroup], *, is_stopping: bool, is_spare: bool = False
    ) -> WorkerStatus:
        """What the worker does now; lags, rates and what stands still as of the last report."""
        config, now = self._config, self._services.clock.monotonic()
        silent_since = self._lags.silent_since
        return WorkerStatus(
            application_id=config.application_id,
            guarantee=config.guarantee,
            state=_state(groups, is_stopping=is_stopping, is_spare=is_spare),
            tasks=tuple(
                self._task_status(now, task, group)
                for _, group in sorted(groups.items())
                for task in group.tasks.values()
            ),
            groups=self._stalls.groups,
            topics=self._rates.status(self._lags),
            recoveries=tuple(self._recoveries),
            operators=self._operators.operators,
            silent_seconds=now - silent_since if silent_since is not None else 0.0,
        )

    def _task_status(self, now: float, task: Task, group: TaskGroup) -> TaskStatus:
        lag = self._lags.of_task(task)
        partitions = sorted(source.partition for source in task.inputs.values())
        age_s, remote_age_s = self._ages_s(now, task, group)
        remote = group.checkpoints.newest_remote(task)
        waits = task.merging.waits_s(now)
        times = self._times.of_task(task)
        return TaskStatus(
            name=task.name,
            state=state_of(group),
            position=task.core.position,
            replay_end=task.core.adopted,
            checkpointed_position=task.checkpoints.position,
            lag=lag.records if lag is not None else None,
            inputs=tuple(f"{topic}/{partition}" for topic, partition in partitions),
            stage=task.stage.name,
            partition=group.number,
            lag_seconds=lag.seconds if lag is not None else None,
            stalled_seconds=self._stalls.of_task(task),
            stream_time=task.stream_time_ms / 1000 if task.stream_time_ms else None,
            checkpoint_age_seconds=age_s,
            remote_position=remote.position if remote is not None else None,
            remote_age_seconds=remote_age_s,
            waits_for=tuple("{}/{}".format(*task.inputs[i].partition) for i in waits),
            waits_seconds=max(waits.values(), default=0.0),
            event_time=times.event_time,
            operator_times=self._operators.times.get(task.name, {}),
            operators_held=self._operators.held.get(task.stage.name, {}),
            held_seconds=times.held_seconds,
            held_by=times.held_by,
        )

    def _ages_s(
        self, now: float, task: Task, group: TaskGroup
    ) -> tuple[float | None, float | None]:
        if not derived.guarantee(self._config).recovers:
            return None, None
        return group.checkpoints.age_s(task, now), group.checkpoints.remote_age_s(task, now)

    # -- metrics ---------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Show what may be counted as 0: a rise from nothing at all would be none to Prometheus."""
        metrics, layout = self._services.metrics, self._layout
        for number in range(layout.group_count):
            metrics.count("group_restarts", 0, group=str(number))
        for stage in layout.topology.stages:
            for name in STAGE_COUNTERS:
                metrics.count(name, 0, stage=stage.name)
            for reason in DROPPED:
                metrics.count("records_dropped", 0, stage=stage.name, reason=reason)
            operators = [f"input {source.topic}" for source in stage.inputs]
            for operator in (*operators, *(node.label() for node in stage.nodes)):
                metrics.count("operator_errors", 0, stage=stage.name, operator=operator)

    def _count(self, tasks: Sequence[Task]) -> None:
        """Add to the counters what the tasks have counted since the last report."""
        self._seen = {task: self._count_task(task) for task in tasks}

    def _count_task(self, task: Task) -> tuple[tuple[int, ...], dict[str, int]]:
        metrics, counts, stage = self._services.metrics, _counts(task), task.stage.name
        seen, dropped = self._seen.get(task, ((0,) * len(STAGE_COUNTERS), {}))
        if counts != seen:
            for name, count, old in zip(STAGE_COUNTERS, counts, seen, strict=True):
                if count != old:
                    metrics.count(name, count - old, stage=stage)
        if task.dropped != dropped:
            for reason, count in task.dropped.items():
                more = count - dropped.get(reason, 0)
                metrics.count("records_dropped", more, stage=stage, reason=reason)
            dropped = dict(task.dropped)
        return counts, dropped

    def _show_task(self, now: float, task: Task, group: TaskGroup) -> None:
        board, name = self._board, task.name
        board.gauge("task_position", task.core.position, task=name)
        board.gauge("task_live", float(group.phase is Phase.LIVE), task=name)
        board.gauge("task_stalled_seconds", self._stalls.of_task(task), task=name)
        if task.stream_time_ms:
            delay_ms = max(0, self._services.clock.time_ms() - task.stream_time_ms)
            board.gauge("stream_time_seconds", task.stream_time_ms / 1000, task=name)
            board.gauge("stream_time_delay_seconds", delay_ms / 1000, task=name)
        if task.merging.is_live:
            waits = task.merging.waits_s(now)
            for index, source in task.inputs.items():
                seconds, (topic, number) = waits.get(index, 0.0), source.partition
                board.gauge("input_awaited_seconds", seconds, topic=topic, partition=str(number))
        age_s, remote_age_s = self._ages_s(now, task, group)
        if age_s is not None:
            board.gauge("checkpoint_age_seconds", age_s, task=name)
        if remote_age_s is not None:
            board.gauge("checkpoint_remote_age_seconds", remote_age_s, task=name)

    def _show_groups(self, now: float, groups: Mapping[int, TaskGroup]) -> None:
        board = self._board
        for status in self._stalls.groups:
            name = str(status.number)
            board.gauge("group_waiting_seconds", status.waiting_seconds, group=name)
            board.gauge("group_idle_seconds", status.idle_seconds, group=name)
        board.gauge("task_groups", self._layout.group_count)
        for number, group in groups.items():
            if group.recovery is not None:
                restores, name = group.recovery.restores, str(number)
                board.gauge("restore_remaining_bytes", restores.remaining_bytes, group=name)
                board.gauge("restore_eta_seconds", restores.eta_s(now) or 0.0, group=name)

    def _show_inputs(self) -> None:
        board = self._board
        for (topic, number), lag in self._lags.by_partition.items():
            partition = str(number)
            board.gauge("input_lag_records", lag.records, topic=topic, partition=partition)
            board.gauge("input_lag_seconds", lag.seconds, topic=topic, partition=partition)
        for (topic, number), margin in self._margin.by_partition.items():
            board.gauge("input_margin_records", margin, topic=topic, partition=str(number))

    def _show_brokers(self) -> None:
        brokers = self._clients.cluster.brokers()
        states = Counter(broker.state for broker in brokers)
        for state in CONNECTION_STATES:
            self._board.gauge("broker_connections", states[state], state=state)
        slowest: dict[tuple[str, str], float] = {}
        for broker in brokers:
            for quantile, seconds in broker.round_trips.items():
                key = broker.broker, quantile
                slowest[key] = max(seconds, slowest.get(key, 0.0))
        for (name, quantile), seconds in slowest.items():
            self._board.gauge("broker_round_trip_seconds", seconds, broker=name, quantile=quantile)

    def _show_queues(self, now: float, groups: Mapping[int, TaskGroup]) -> None:
        metrics, lineages = self._services.metrics, [g.lineage for g in groups.values()]
        unacked_bytes = sum(lineage.unacked_bytes for lineage in lineages)
        metrics.gauge("lineage_unacked_entries", sum(line.unacked_entries for line in lineages))
        metrics.gauge("lineage_unacked_bytes", unacked_bytes)
        oldest_s = max((lineage.oldest_age_s(now) for lineage in lineages), default=0.0)
        metrics.gauge("lineage_oldest_unacked_seconds", oldest_s)
        records = len(self._clients.producers) + sum(g.sink_backlog for g in groups.values())
        metrics.gauge("producer_queue_records", records)
        metrics.gauge("producer_queue_bytes", self._load.unacked_bytes + unacked_bytes)


def _counts(task: Task) -> tuple[int, ...]:
    """What a task has counted, as `STAGE_COUNTERS` are ordered."""
    return (
        task.records_in,
        task.emission.records_out,
        task.replayed,
        task.emission.suppressed,
        sum(output.header_bytes for output in task.outputs),
    )


def _state(groups: Mapping[int, TaskGroup], *, is_stopping: bool, is_spare: bool) -> str:
    if is_stopping:
        return "stopping"
    if not groups:
        # Others have all groups: it is as ready as can be, and takes over when one goes.
        return "live" if is_spare else "starting"
    if all(group.phase is not Phase.RECOVERING for group in groups.values()):
        return "live"
    return "recovering"
