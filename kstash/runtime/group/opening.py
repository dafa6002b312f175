"""Makes the tasks of a group, from what its recovery planned."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import assert_never

import structlog

from kstash.core.ids import Incarnation
from kstash.core.kinds import InputKind, OutputKind
from kstash.core.reader import ReaderTable
from kstash.core.recovery import TaskPlan
from kstash.core.skips import InputSkips
from kstash.core.task import TaskCore
from kstash.errors import LocatedError
from kstash.operators.program import Location
from kstash.ports.state import TaskState
from kstash.runtime.context import Context
from kstash.runtime.group.sinks import SinkRoute, Sinks
from kstash.runtime.recovery.attempt import RecoveryAttempt
from kstash.runtime.task.inputs import TaskInput
from kstash.runtime.task.outputs import (
    DirectRoute,
    FrameOutput,
    ImmediateOutput,
    Route,
    Signature,
    TaskOutput,
    TransactionalOutput,
    limit_of,
)
from kstash.runtime.task.refusals import Sent
from kstash.runtime.task.stateless import NoState
from kstash.runtime.task.task import Task
from kstash.topology.model import Stage

log = structlog.get_logger("kstash.group")


def open_task(
    context: Context,
    stage: Stage,
    plan: TaskPlan,
    *,
    incarnation: Incarnation,
    writer: Incarnation,
    recovery: RecoveryAttempt | None,
    sinks: Sinks | None,
) -> Task:
    """Make one task of a group, at its base.

    Args:
        context: of the worker.
        stage: the task's.
        plan: where it begins and what it replays.
        incarnation: of the group.
        writer: what its outputs are signed with.
        recovery: of the group, if the guarantee has one.
        sinks: of the group, if the guarantee has transactions.
    """
    number = plan.task.partition
    name = f"{stage.name}_{number}"
    inputs = _inputs(context, stage, plan, recovery)
    core = TaskCore(
        plan.task,
        incarnation,
        implicit=len(inputs) == 1,
        position=plan.position,
        adopted=plan.adopted,
        stable=plan.stable,
        lineage=plan.lineage,
        sequences=plan.sequences,
        kinds=[output.kind for output in stage.outputs],
        header_bytes_max=context.header_bytes_max,
        is_logging=context.has_lineage,
        made=plan.made,
    )
    core.inherit_scan_from(plan.scan_from)
    sent = Sent(context.load)
    signature = Signature(context.application, plan.task, writer)
    task = Task(
        name=name,
        stage=stage,
        plan=plan,
        core=core,
        incarnation=incarnation,
        inputs=inputs,
        state=_state(context, stage, plan) if stage.stores else NoState(),
        places=_places(context, stage, inputs),
        limits=[limit_of(output, context.config, context.layout) for output in stage.outputs],
        outputs=_outputs(context, stage, signature, core, sent, sinks),
        sent=sent,
        stored=recovery.stored.get(plan.task, {}) if recovery is not None else {},
        clock=context.clock.monotonic,
        pulse=context.pulse,
        look=context.paces.look,
        fail=partial(_count_error, context, stage),
    )
    if plan.adopted > plan.position:
        log.info("replaying", task=name, events=plan.adopted - plan.position, base=plan.position)
    return task


def _outputs(
    context: Context,
    stage: Stage,
    signature: Signature,
    core: TaskCore,
    sent: Sent,
    sinks: Sinks | None,
) -> list[TaskOutput]:
    producer = context.producers.data
    route: Route = DirectRoute(producer) if sinks is None else SinkRoute(sinks, stage.index)
    frame_bytes_max = context.config.frame_bytes_max
    outputs: list[TaskOutput] = []
    for declared in stage.outputs:
        common = declared, context.partitioners[declared.topic], signature, core, sent
        match declared.kind:
            case OutputKind.FRAMES:
                outputs.append(
                    FrameOutput(*common, producer=producer, frame_bytes_max=frame_bytes_max)
                )
            case OutputKind.IMMEDIATE:
                outputs.append(ImmediateOutput(*common, route=route))
            case OutputKind.TRANSACTIONAL:
                outputs.append(TransactionalOutput(*common, route=route))
            case _ as never:
                assert_never(never)
    return outputs


def _count_error(context: Context, stage: Stage, error: Exception) -> None:
    # Without the line in the user's file, which the log tells: a label for each operator.
    operator = str(getattr(error, "operator", "")).partition(" at ")[0]
    if not operator and isinstance(error, LocatedError):
        operator = f"to({error.topic})"
    context.metrics.count("operator_errors", stage=stage.name, operator=operator)


def _inputs(
    context: Context, stage: Stage, plan: TaskPlan, recovery: RecoveryAttempt | None
) -> dict[int, TaskInput]:
    layout, number = context.layout, plan.task.partition
    initial = {}
    skips, gaps = layout.skips_of(number, context.config.skipped_records())
    if recovery is not None and recovery.start is not None:
        initial = recovery.start.tasks[stage.index].initial_offsets
        skips, gaps = frozenset(recovery.start.skips), frozenset(recovery.start.gaps)
    inputs = {}
    for index, partition in layout.inputs_of(stage, number).items():
        source = stage.inputs[index]
        table = None
        if source.kind.is_ruled:
            table = plan.readers.get(index) or ReaderTable(is_internal=source.internal)
            table.is_fenced = context.has_lineage
            table.application = context.application if source.internal else None
        offset = plan.input_offsets.get(index, initial.get(index, 0))
        skipped = InputSkips.of(skips, gaps, stage.index, index)
        pace = context.paces.of(stage.index, number, index)
        inputs[index] = TaskInput(partition, source.kind, offset, table, skipped, pace=pace)
    return inputs


def _places(context: Context, stage: Stage, inputs: Mapping[int, TaskInput]) -> dict[int, Location]:
    """Where the records of others are, if state is shared between what they and others wrote."""
    if not stage.needs_copartitioning:
        return {}
    return {
        index: Location(source.partition[1], context.partitioners[source.partition[0]])
        for index, source in inputs.items()
        if source.kind is not InputKind.FRAMES
    }


def _state(context: Context, stage: Stage, plan: TaskPlan) -> TaskState:
    return context.state.open(
        *(stage.name, plan.task.partition, stage.stores),
        base=plan.base_label,
        fresh=plan.fresh_stores,
    )
