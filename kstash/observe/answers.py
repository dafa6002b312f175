"""What a worker answers over HTTP, from the status that its loop left last."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import asdict
from importlib import metadata
from typing import cast

import msgspec

from kstash.config import Config
from kstash.observe import schema
from kstash.observe.history import complaints
from kstash.observe.observer import Observer
from kstash.ports import TaskStatus, WorkerStatus
from kstash.topology import Topology


class WorkerSource:
    """A source of the HTTP server (`kstash.observe.server.Source`).

    Args:
        observer: of the worker.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._name = worker_name(observer.config)
        self._version = metadata.version("kstash")
        self._topology = observer.topology.describe("json").encode()

    async def metrics(self) -> bytes:
        """In Prometheus' text format."""
        return self._observer.metrics.render()

    async def livez(self) -> schema.Verdict:
        """Whether the loop turns."""
        stuck_s, limit_s = self._observer.stuck_s, self._observer.config.poll_interval_s
        if stuck_s > limit_s:
            return schema.Verdict(
                ok=False, reasons=(f"the loop has not turned for {stuck_s:.0f} s",)
            )
        return schema.Verdict(ok=True)

    async def readyz(self) -> schema.Verdict:
        """Whether the worker and each of its tasks is live."""
        alive = await self.livez()
        reasons = [*alive.reasons]
        status = self._observer.status
        if status.state != "live":
            reasons.append(f"the worker is {status.state}")
        reasons += [f"{task.name} is {task.state}" for task in status.tasks if task.state != "live"]
        return schema.Verdict(ok=not reasons, reasons=tuple(reasons))

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
            time=time.time(),
            uptime_seconds=max(0.0, observer.uptime_s),
            tasks=tuple(map(_task, status.tasks)),
            edges=edges(observer.topology),
            history=tuple(schema.Point(**asdict(m)) for m in observer.history.moments),
            checkpoints=_checkpoints(status),
            errors=tuple(schema.LoggedError(**asdict(c)) for c in tuple(complaints)),
        )

    async def workers(self) -> schema.Workers:
        """This worker."""
        config = self._observer.config
        entry = schema.WorkerEntry(
            address=f"{config.http_host}:{self._observer.http_port}",
            is_reachable=True,
            status=await self.status(),
        )
        return schema.Workers(workers=(entry,))

    def topology(self) -> bytes:
        """The application's stages and topics, as JSON."""
        return self._topology

    def settings(self) -> schema.Settings:
        """Each setting and where it comes from."""
        return settings_of(self._observer.config)


def worker_name(config: Config) -> str:
    """What tells a worker from all others of the application."""
    return config.instance_id or f"{socket.gethostname()}-{os.getpid()}"


def settings_of(config: Config) -> schema.Settings:
    """All settings as they may be shown."""
    fields = type(config).model_fields
    return schema.Settings(
        settings=tuple(
            schema.Setting(
                name=name,
                value=msgspec.to_builtins(value),
                source="default" if value == fields[name].get_default() else "set",
            )
            for name, value in config.model_dump().items()
        )
    )


def edges(topology: Topology) -> tuple[schema.Edge, ...]:
    """The topics between stages and at their ends."""
    writers: dict[str, list[str | None]] = {}
    for stage in topology.stages:
        for output in stage.outputs:
            writers.setdefault(output.topic, []).append(stage.name)
    read = [(entry, stage.name) for stage in topology.stages for entry in stage.inputs]
    found = [
        schema.Edge(
            source=source,
            target=target,
            topic=entry.topic,
            kind="wide" if entry.internal else "narrow",
        )
        for entry, target in read
        for source in writers.get(entry.topic, [None])
    ]
    known = {entry.topic for entry, _ in read}
    found += [
        schema.Edge(source=source, target=None, topic=topic, kind="narrow")
        for topic, sources in writers.items()
        if topic not in known
        for source in sources
    ]
    return tuple(found)


def _task(task: TaskStatus) -> schema.Task:
    stage, _, partition = task.name.rpartition("_")
    return schema.Task(
        name=task.name,
        stage=stage,
        partition=int(partition),
        group=int(partition),
        state=task.state,
        position=task.position,
        checkpointed_position=task.checkpointed_position,
        replay_end=task.replay_end,
        lag_records=task.lag,
        inputs=task.inputs,
    )


def _checkpoints(status: WorkerStatus) -> tuple[schema.Checkpoint, ...]:
    return tuple(
        schema.Checkpoint(task=task.name, position=task.checkpointed_position)
        for task in status.tasks
    )
