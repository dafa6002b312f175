"""What a worker says of itself, for people and probes; its loop makes it, everybody may read it.

`kstash.ports.kafka` offers these names too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HeldBy:
    """What holds the time of a task back.

    Attributes:
        reason: `recovering`; `unread`: it has records that are not processed yet; `awaited` at its
            end by a task that merges; `silent`: nothing comes, and records alone move time; `quiet`
            until it is `idle`, from when on the clock moves it; `hold`: nothing comes, and time is
            to wait; `input` or `writer`: that has come least far; `unheard`: a writer that has said
            nothing yet.
        text: the same in words, with their names.
        seconds: for how long it has been so, as far as was seen.
        input: the input partition, as `topic/partition`; None: all of the task.
        writer: name of the task that writes there, where it is known which one.
        time: Unix seconds, how far it has come itself; None where that is not known.
    """

    reason: str
    text: str
    seconds: float
    input: str | None = None
    writer: str | None = None
    time: float | None = None


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """What a task of a worker does.

    Attributes:
        name: `<stage>_<partition>`.
        state: `recovering`, `live` or `stopping`.
        position: events processed.
        replay_end: position at which its replay ends, or ended.
        checkpointed_position: position of the last checkpoint taken.
        lag: records behind the stable ends of its inputs, or None when not known yet. Offsets that
            hold no record count until they are passed, so it is 0 when everything is read.
        inputs: its input partitions, as `topic/partition`.
        stage: name of its stage.
        partition: its partition number, which is also the number of its task group.
        lag_seconds: for how long the oldest record that it has not processed has been waiting, at
            most; 0 when none waits, None when not known yet.
        stalled_seconds: how long it has had work and made no progress; 0 while it makes some, and
            when it has nothing to do.
        stream_time: Unix seconds, the greatest timestamp of the last record of a batch that it has
            processed; None before the first one.
        checkpoint_age_seconds: how much time of its work is in no published checkpoint; None where
            the guarantee has none.
        remote_position: position of the newest checkpoint that outlives this machine, or None.
        remote_age_seconds: the same age for those; None where there is no store for them.
        waits_for: inputs that it waits for while others have records, as `topic/partition`; of a
            task that merges.
        waits_seconds: for how long it has waited for one of them, at most.
        event_time: Unix seconds, how far time has come: in watermark mode by all that feeds it, and
            None while one of them was not heard; else its `stream_time`.
        operator_times: Unix seconds by label, how far it has come for operators that go by time.
        operators_held: of those of them that stand after others which hold time back: which these
            are, and for how long, in words, by label.
        held_seconds: how far its time is behind the newest that it was given; 0 when it is not.
        held_by: what holds time back; None: nothing does.
    """

    name: str
    state: str
    position: int
    replay_end: int
    checkpointed_position: int
    lag: int | None
    inputs: tuple[str, ...]
    stage: str = ""
    partition: int = 0
    lag_seconds: float | None = None
    stalled_seconds: float = 0.0
    stream_time: float | None = None
    checkpoint_age_seconds: float | None = None
    remote_position: int | None = None
    remote_age_seconds: float | None = None
    waits_for: tuple[str, ...] = ()
    waits_seconds: float = 0.0
    event_time: float | None = None
    operator_times: Mapping[str, float] = field(default_factory=dict)
    operators_held: Mapping[str, str] = field(default_factory=dict)
    held_seconds: float = 0.0
    held_by: HeldBy | None = None


@dataclass(frozen=True, slots=True)
class OperatorStatus:
    """What is known of an operator that goes by time, or that drops records, at one worker.

    Attributes:
        operator: its label.
        stage: name of its stage.
        stream_time: Unix seconds, of the task where it is least; None before the first record, and
            where the operator has none.
        newest_time: of the task where it is greatest.
        windows: that are open, estimated; None where it has none.
        timers: that are pending, estimated; None where it has none.
        dropped: records that it left out since the worker started, by why.
        held_by: what holds time back in the task where it is least; None: nothing does.
    """

    operator: str
    stage: str
    stream_time: float | None
    newest_time: float | None
    windows: int | None
    timers: int | None
    dropped: Mapping[str, int]
    held_by: HeldBy | None = None


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """A task group that a worker has, or should have: the membership gave it.

    Attributes:
        number: of the group.
        state: `recovering`, `live` or `stopping`; `restarting` between two attempts.
        waiting_seconds: how long it has not been live; 0 when it is, or moves to another worker. A
            long restore or replay is part of it.
        idle_seconds: for how long of that nothing has moved: no record read or replayed, no step
            taken, nothing checked or fetched of a checkpoint. What a probe should judge by, as
            long ones may go on.
    """

    number: int
    state: str
    waiting_seconds: float
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class TopicStatus:
    """What goes through a topic at this worker, over the last seconds.

    Attributes:
        topic: its name.
        records_per_second: logical records read from it here, or written where the application
            does not read it.
        lag_records: of all its partitions that are read here; None: not known, or not read.
        lag_seconds: the greatest of them.
    """

    topic: str
    records_per_second: float
    lag_records: int | None
    lag_seconds: float | None


@dataclass(frozen=True, slots=True)
class RecoveryStatus:
    """A recovery of a task group that ended in its being live.

    Attributes:
        group: its number.
        ended: Unix seconds.
        seconds: how long it took in all.
        replayed: records processed again.
        phases: seconds by phase: detect, claim, fence, scan, restore, start, replay; empty where
            the guarantee has no recovery.
    """

    group: int
    ended: float
    seconds: float
    replayed: int
    phases: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """What one client says of its connection to one broker.

    Attributes:
        broker: its node id.
        state: `up`, `connecting`, `down`, or `idle`: there was no need of it yet.
        round_trips: seconds that an answer took over the last interval, by quantile (`0.5`); empty
            when there was none, or when the broker waits on purpose, as for records to come.
    """

    broker: str
    state: str
    round_trips: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What a worker does.

    Attributes:
        application_id: of the application.
        guarantee: of the application.
        state: `starting`, `recovering`, `live` or `stopping`, as in the metric `app_state`.
        tasks: of the groups that are open, by group.
        groups: all that the worker has or should have.
        topics: that it reads or writes.
        operators: those that go by time or drop records.
        recoveries: the newest 50, the oldest first.
        silent_seconds: how long the cluster has left unanswered where the inputs end. Above a few
            seconds it is away, and no task can be expected to make progress.
    """

    application_id: str
    guarantee: str
    state: str
    tasks: tuple[TaskStatus, ...]
    groups: tuple[GroupStatus, ...] = ()
    topics: tuple[TopicStatus, ...] = ()
    recoveries: tuple[RecoveryStatus, ...] = ()
    silent_seconds: float = 0.0
    operators: tuple[OperatorStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class SupervisedWorker:
    """A worker, as others may know of it.

    Attributes:
        name: `worker-<index>`.
        socket: name of the socket that it answers HTTP on.
        restarts: how often its process was started again.
        is_over: whether it is not started any more.
    """

    name: str
    socket: str
    restarts: int
    is_over: bool
