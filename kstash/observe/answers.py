"""The answers of a worker over HTTP, from the last status that its loop has left."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from importlib import metadata
from typing import cast

from kstash.observe import schema
from kstash.observe.history import complaints, why_unreachable
from kstash.observe.names import own_address, worker_name
from kstash.observe.observer import Observer
from kstash.observe.probes import unready, waiting_for
from kstash.ports.status import (
    HeldBy,
    OperatorStatus,
    RecoveryStatus,
    TaskStatus,
    TopicStatus,
    WorkerStatus,
)
from kstash.settings.config import Config, sources_of
from kstash.topology.model import Topology

LOG_BEFORE_S = 10.0


class WorkerSource:
    """A source of the HTTP server (`kstash.observe.server.Answers`).

    Args:
        observer: of the worker.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._name = worker_name(observer.config)
        self._version = metadata.version("kstash")
        self._topology = observer.topology.describe("json").encode()

    async def metrics(self) -> bytes:
        """In Prometheus' text format; counts of the loop are those of its last turn."""
        self._observer.metrics.gauge("loop_stalled_seconds", self._observer.stuck_s)
        return self._observer.metrics.render()

    async def livez(self) -> schema.Verdict:
        """Whether the worker makes progress, or has nothing to do."""
        return _verdict(self._observer.stalled())

    async def readyz(self) -> schema.Verdict:
        """Whether the worker and each of its tasks is live."""
        status = self._observer.status
        return _verdict((*self._observer.stalled(), *unready(status, _waiting_for(status))))

    async def status(self) -> schema.Status:
        """What the worker does."""
        observer = self._observer
        status = observer.status
        return schema.Status(
            application_id=status.application_id,
            guarantee=status.guarantee,
            kstash=self._version,
            state=cast("schema.State", status.state),
            worker=self._name,
            pid=os.getpid(),
            time=time.time(),
            uptime_seconds=max(0.0, observer.uptime_s),
            waiting_for=_waiting_for(status),
            tasks=tuple(map(_task, status.tasks)),
            operators=tuple(map(_operator, status.operators)),
            edges=edges(observer.topology, status.topics),
            history=observer.history.points,
            recoveries=tuple(map(_recovery, status.recoveries)),
            checkpoints=tuple(map(_checkpoint, status.tasks)),
            errors=errors_of_log(),
        )

    async def own_workers(self) -> tuple[schema.WorkerEntry, ...]:
        """This worker."""
        address = own_address(self._observer.config, self._observer.http_port)
        status = await self.status()
        return (schema.WorkerEntry(address=address, is_reachable=True, status=status),)

    def topology(self) -> bytes:
        """The application's stages and topics, as JSON."""
        return self._topology

    def settings(self) -> schema.Settings:
        """Each setting and where it comes from."""
        return settings_of(self._observer.config)


def _waiting_for(status: WorkerStatus) -> str | None:
    # The log's reason may be a little older than the first request without an answer.
    return waiting_for(status, why_unreachable(status.silent_seconds + LOG_BEFORE_S))


def errors_of_log() -> tuple[schema.LoggedError, ...]:
    """The newest warnings and errors of this process."""
    return tuple(complaints)


def settings_of(config: Config) -> schema.Settings:
    """All settings as they may be shown."""
    return schema.Settings(
        settings=tuple(
            schema.Setting(
                name=found.setting, value=found.value, source=found.origin, place=found.place
            )
            for found in sources_of(config)
        )
    )


def edges(topology: Topology, topics: Iterable[TopicStatus] = ()) -> tuple[schema.Edge, ...]:
    """The topics between stages and at their ends, with their rates and lags where known."""
    known = {found.topic: found for found in topics}
    writers: dict[str, list[str | None]] = {}
    for stage in topology.stages:
        for output in stage.outputs:
            writers.setdefault(output.topic, []).append(stage.name)
    found = []
    for stage in topology.stages:
        is_mixed = len({entry.internal for entry in stage.inputs}) > 1
        for entry in stage.inputs:
            kind = "wide" if entry.internal else "mixed" if is_mixed else "narrow"
            for source in writers.get(entry.topic, [None]):
                found.append(_edge(source, stage.name, entry.topic, kind, known))
    topics_read = {entry.topic for stage in topology.stages for entry in stage.inputs}
    found += [
        _edge(source, None, topic, "narrow", known)
        for topic, sources in writers.items()
        if topic not in topics_read
        for source in sources
    ]
    return tuple(found)


def _edge(
    source: str | None, target: str | None, topic: str, kind: str, known: dict[str, TopicStatus]
) -> schema.Edge:
    found = known.get(topic)
    return schema.Edge(
        source=source,
        target=target,
        topic=topic,
        kind=kind,
        records_per_second=found.records_per_second if found is not None else None,
        lag_records=found.lag_records if found is not None else None,
        lag_seconds=found.lag_seconds if found is not None else None,
    )


def _verdict(reasons: tuple[str, ...]) -> schema.Verdict:
    return schema.Verdict(ok=not reasons, reasons=reasons)


def _task(task: TaskStatus) -> schema.TaskEntry:
    return schema.TaskEntry(
        name=task.name,
        stage=task.stage,
        partition=task.partition,
        group=task.partition,
        state=task.state,
        position=task.position,
        checkpointed_position=task.checkpointed_position,
        replay_end=task.replay_end,
        lag_records=task.lag,
        lag_seconds=task.lag_seconds,
        stalled_seconds=task.stalled_seconds,
        stream_time=task.stream_time,
        inputs=task.inputs,
        waits_for=task.waits_for,
        waits_seconds=task.waits_seconds,
        event_time=task.event_time,
        operator_times=dict(task.operator_times),
        operators_held=dict(task.operators_held),
        held_seconds=task.held_seconds,
        held_by=_held_by(task.held_by),
    )


def _operator(operator: OperatorStatus) -> schema.OperatorEntry:
    return schema.OperatorEntry(
        operator=operator.operator,
        stage=operator.stage,
        stream_time=operator.stream_time,
        newest_time=operator.newest_time,
        windows=operator.windows,
        timers=operator.timers,
        dropped=dict(operator.dropped),
        held_by=_held_by(operator.held_by),
    )


def _held_by(held: HeldBy | None) -> schema.HeldByEntry | None:
    if held is None:
        return None
    return schema.HeldByEntry(
        reason=held.reason,
        text=held.text,
        seconds=held.seconds,
        input=held.input,
        writer=held.writer,
        time=held.time,
    )


def _recovery(recovery: RecoveryStatus) -> schema.RecoveryEntry:
    return schema.RecoveryEntry(
        group=recovery.group,
        ended=recovery.ended,
        seconds=recovery.seconds,
        replayed=recovery.replayed,
        phases=dict(recovery.phases),
    )


def _checkpoint(task: TaskStatus) -> schema.CheckpointEntry:
    return schema.CheckpointEntry(
        task=task.name,
        position=task.checkpointed_position,
        age_seconds=task.checkpoint_age_seconds,
        remote_position=task.remote_position,
        remote_age_seconds=task.remote_age_seconds,
    )
