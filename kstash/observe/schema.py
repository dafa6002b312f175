"""The JSON answers over HTTP: one source of `/status`, the other routes, and their schema.

Times are Unix time in seconds; what is not known (yet) is null.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

State = Literal["starting", "recovering", "live", "stopping"]
"""Of a worker, as in the metric `app_state`."""

Seconds = Annotated[float, Meta(ge=0)]
Natural = Annotated[int, Meta(ge=0)]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a probe succeeds, and why not.

    Attributes:
        reasons: what is wrong; empty when nothing is.
    """

    ok: bool
    reasons: tuple[str, ...] = ()


class HeldByEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What holds the time of a task back.

    Attributes:
        reason: `recovering`, `unread`, `awaited`, `silent`, `quiet`, `idle`, `hold`, `input`,
            `writer` or `unheard`.
        text: what that means, in words.
        seconds: for how long it has been so.
        input: as `topic/partition`; null: all of the task.
        writer: the task that writes there, where it is known which one.
        time: how far it has come itself.
    """

    reason: str
    text: str
    seconds: Seconds
    input: str | None = None
    writer: str | None = None
    time: float | None = None


class TaskEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A task of a worker.

    Attributes:
        name: `<stage>_<partition>`.
        group: number of its task group, which is that of its partition.
        state: `recovering`, `live` or `stopping`.
        position: events processed.
        checkpointed_position: position of the last checkpoint taken.
        replay_end: position at which its replay ends, or ended.
        lag_records: records between its position and the ends of its inputs.
        lag_seconds: how long the oldest unprocessed record has waited; 0 without one.
        stalled_seconds: how long it has had work and made no progress.
        stream_time: greatest timestamp of what it has processed.
        inputs: its input partitions, as `topic/partition`.
        waits_for: those that it waits for while others have records.
        waits_seconds: for how long it has waited for one of them, at most.
        event_time: how far time has come: in watermark mode by all that feeds it, else as
            `stream_time`.
        operator_times: how far it has come for operators that go by time, by label.
        operators_held: which operators before these hold time back, and for how long, in words.
        held_seconds: how far time is behind the newest that the task was given.
        held_by: what holds time back; null: nothing does.
    """

    name: str
    stage: str
    partition: Natural
    group: Natural
    state: str
    position: Natural
    checkpointed_position: Natural
    replay_end: Natural
    lag_records: Natural | None = None
    lag_seconds: Seconds | None = None
    stalled_seconds: Seconds = 0.0
    stream_time: float | None = None
    inputs: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()
    waits_seconds: Seconds = 0.0
    event_time: float | None = None
    operator_times: dict[str, float] = {}
    operators_held: dict[str, str] = {}
    held_seconds: Seconds = 0.0
    held_by: HeldByEntry | None = None


class OperatorEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An operator that goes by time, or that drops records, over the tasks of a worker.

    Attributes:
        stream_time: of the task where it is least; null before the first record, and where the
            operator has none.
        newest_time: of the task where it is greatest.
        windows: that are open, estimated; null where it has none.
        timers: that are set, estimated; null where it has none.
        dropped: records that it left out since the worker started, by why.
        held_by: what holds time back in the task where it is least; null: nothing does.
    """

    operator: str
    stage: str
    stream_time: float | None = None
    newest_time: float | None = None
    windows: Natural | None = None
    timers: Natural | None = None
    dropped: dict[str, Natural] = {}
    held_by: HeldByEntry | None = None


class Edge(msgspec.Struct, frozen=True, kw_only=True, rename={"source": "from", "target": "to"}):
    """A topic between two stages, or between a stage and the outside.

    Attributes:
        source: stage that writes it; null: somebody else.
        target: stage that reads it; null: somebody else.
        kind: `narrow` (a topic of the user's, partition by partition), `wide` (an internal topic,
            as of a `key_by`) or `mixed` (an input whose stage has wide ones too).
        records_per_second: read from the topic, or written where the application does not read it.
        lag_records: that are not read yet.
        lag_seconds: how long the oldest of them waits.
    """

    source: str | None
    target: str | None
    topic: str
    kind: str
    records_per_second: Annotated[float, Meta(ge=0)] | None = None
    lag_records: Natural | None = None
    lag_seconds: Seconds | None = None


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker did in two seconds.

    Attributes:
        time: their end.
        latency_seconds: age of outputs when they were handed over, the mean; null without any.
        lineage_unacked_bytes: lineage that its topic has not acknowledged.
        state_bytes: live state in memory.
    """

    time: float
    records_in_per_second: Annotated[float, Meta(ge=0)]
    records_out_per_second: Annotated[float, Meta(ge=0)]
    latency_seconds: Seconds | None
    lineage_unacked_bytes: Natural
    state_bytes: Natural


class RecoveryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A recovery of a task group that ended in its being live.

    Attributes:
        ended: when.
        seconds: how long it took in all.
        replayed: events made again.
        phases: seconds by phase: detect, claim, fence, scan, restore, start, replay.
    """

    group: Natural
    ended: float
    seconds: Seconds
    replayed: Natural
    phases: dict[str, float]


class CheckpointEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The newest checkpoints of a task.

    Attributes:
        position: of the newest on this disk.
        age_seconds: how much time of the task's work is in no checkpoint.
        remote_position: of the newest in the checkpoint store.
        remote_age_seconds: how much time of its work is in none there.
    """

    task: str
    position: Natural
    age_seconds: Seconds | None = None
    remote_position: Natural | None = None
    remote_age_seconds: Seconds | None = None


class LoggedError(msgspec.Struct, frozen=True, kw_only=True):
    """A warning or error of the log, or the line that Kafka can be reached again.

    Attributes:
        event: text of the line.
        error: the reason that it gives.
        place: operator and record, or task group, that it names.
    """

    time: float
    logger: str
    event: str
    error: str | None = None
    place: str | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker does.

    Attributes:
        kstash: version.
        worker: its name: `instance_id`, or host and process.
        pid: of its process, or of the supervisor that answers for it.
        time: of this answer.
        uptime_seconds: since the worker started.
        waiting_for: what it cannot work without, such as a Kafka that does not answer; or null.
        history: a point every two seconds, the last 150.
        recoveries: the newest 50.
        errors: the newest 20 warnings and errors of the log, and when Kafka was reachable again.
    """

    application_id: str
    guarantee: str
    kstash: str
    state: State
    worker: str
    time: float
    uptime_seconds: Seconds
    pid: Natural | None = None
    waiting_for: str | None = None
    tasks: tuple[TaskEntry, ...] = ()
    operators: tuple[OperatorEntry, ...] = ()
    edges: tuple[Edge, ...] = ()
    history: tuple[Point, ...] = ()
    recoveries: tuple[RecoveryEntry, ...] = ()
    checkpoints: tuple[CheckpointEntry, ...] = ()
    errors: tuple[LoggedError, ...] = ()


class WorkerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A worker of the application.

    Attributes:
        address: where it was asked.
        error: why it could not be reached.
    """

    address: str
    is_reachable: bool
    status: Status | None = None
    error: str | None = None


class Workers(msgspec.Struct, frozen=True, kw_only=True):
    """All workers of the application that this one knows."""

    workers: tuple[WorkerEntry, ...]


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A setting.

    Attributes:
        name: of a setting of the Kafka client `kafka.<name>`.
        value: secrets are masked.
        source: `supervisor`, `command line`, `environment`, `file`, `code` or `default`.
        place: the variable or the file that gave it; empty for the others.
    """

    name: str
    value: str | int | float | bool | None
    source: str
    place: str = ""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings."""

    settings: tuple[Setting, ...]


class TargetGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses to scrape, as Prometheus' HTTP service discovery takes them."""

    targets: tuple[str, ...]
    labels: dict[str, str]
