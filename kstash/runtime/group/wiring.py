"""Makes the parts of a task group, each with what it uses of the worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kstash.core.ids import NO_INCARNATION, Incarnation, TaskId
from kstash.core.plan import TaskPlan
from kstash.core.records import Segment
from kstash.ports.kafka import Partition, SinkProducer
from kstash.runtime.context import RuntimeContext
from kstash.runtime.group.batches import Batches
from kstash.runtime.group.checkpoints import Checkpoints
from kstash.runtime.group.hints import Hints
from kstash.runtime.group.lineage_writer import LineageWriter
from kstash.runtime.group.merges import GroupMerges
from kstash.runtime.group.opening import TaskOpener
from kstash.runtime.group.run_end import RunEnd
from kstash.runtime.group.sinks import Sinks, committer_of
from kstash.runtime.group.uploads import Uploads
from kstash.runtime.recovery.attempt import RecoveryAttempt
from kstash.runtime.task.task import Task


def lineage_writer_of(
    context: RuntimeContext, group: int, on_segment: Callable[[Segment], None]
) -> LineageWriter:
    """What writes to the group's partition of the lineage topic."""
    return LineageWriter(
        context.layout.lineage_topic,
        group,
        producers=context.clients.producers,
        services=context.services,
        is_logging=context.guarantee.logs_lineage,
        on_segment=on_segment,
    )


def sink_producers_of(context: RuntimeContext, group: int) -> list[SinkProducer]:
    """Two, if the guarantee has transactions and the group writes sinks; else none."""
    if not context.guarantee.logs_lineage or not context.layout.has_sinks(group):
        return []
    return [context.clients.cluster.sink_producer(group, number) for number in (0, 1)]


def sinks_of(
    context: RuntimeContext,
    group: int,
    producers: list[SinkProducer],
    *,
    incarnation: Incarnation,
    plans: Mapping[TaskId, TaskPlan],
    tasks: Mapping[int, Task],
) -> Sinks | None:
    """What commits by these producers; None without any. The tasks are opened later."""
    if not producers:
        return None
    return Sinks(
        context.services,
        commit_interval_s=context.config.sink_commit_interval_ms / 1000,
        producers=producers,
        committer=committer_of(incarnation, group, context.layout.stages_of(group), plans),
        tasks=tasks,
    )


def checkpoints_of(context: RuntimeContext, group: int, lineage: LineageWriter) -> Checkpoints:
    """What checkpoints the tasks, and uploads that."""
    config, services, state = context.config, context.services, context.state
    uploads = Uploads(
        config, services, state=state, store=context.store, lineage=lineage, group=group
    )
    return Checkpoints(config, services, state=state, uploads=uploads, lineage=lineage, group=group)


def merges_of(context: RuntimeContext, batches: Batches, tasks: Mapping[int, Task]) -> GroupMerges:
    """What wakes the tasks of a group that wait for an input."""
    return GroupMerges(
        context.services.clock, batches=batches, tasks=tasks, idle_ms=context.config.task_idle_ms
    )


def hints_of(context: RuntimeContext, lineage: LineageWriter, tasks: Mapping[int, Task]) -> Hints:
    """What hints how far the tasks have come."""
    clock = context.services.clock
    return Hints(
        clock, ends=context.ends, times=context.lineage_times, lineage=lineage, tasks=tasks
    )


def _writer_of(context: RuntimeContext, incarnation: Incarnation) -> Incarnation:
    """What outputs are signed with: readers drop nothing of the guarantees without fences."""
    return incarnation if context.guarantee.logs_lineage else NO_INCARNATION


def opener_of(
    context: RuntimeContext,
    incarnation: Incarnation,
    recovery: RecoveryAttempt | None,
    sinks: Sinks | None,
) -> TaskOpener:
    """What makes the tasks of an incarnation; the arguments are those of `TaskOpener`."""
    writer = _writer_of(context, incarnation)
    return TaskOpener(
        context, incarnation=incarnation, writer=writer, recovery=recovery, sinks=sinks
    )


def run_end_of(
    context: RuntimeContext,
    run: tuple[int, Mapping[Partition, int]],
    incarnation: Incarnation,
    tasks: Mapping[int, Task],
    batches: Batches,
) -> RunEnd:
    """What ends a bounded run of this id, once the inputs are at these ends."""
    number, ends = run
    return RunEnd(
        context.layout,
        context.clients,
        context.services.clock,
        application=context.application,
        run=number,
        ends=ends,
        writer=_writer_of(context, incarnation),
        tasks=tasks,
        batches=batches,
    )
