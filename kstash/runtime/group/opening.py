"""Makes the tasks of a group, from what its recovery planned."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import assert_never

import structlog

from kstash.core.ids import Incarnation
from kstash.core.kinds import InputKind, OutputKind
from kstash.core.plan import TaskPlan
from kstash.core.reader import ReaderState
from kstash.core.skips import InputSkips
from kstash.core.task import TaskCore
from kstash.core.watermark import InputTime
from kstash.errors import LocatedError
from kstash.operators.homes import Home
from kstash.ports.process import Metrics
from kstash.ports.state import TaskState
from kstash.runtime.context import RuntimeContext
from kstash.runtime.group.sinks import SinkRoute, Sinks
from kstash.runtime.recovery.attempt import RecoveryAttempt
from kstash.runtime.task.frame_outputs import FrameOutput
from kstash.runtime.task.inputs import TaskInput
from kstash.runtime.task.outputs import OutputParts, Signature, TaskOutput, limit_of
from kstash.runtime.task.sent import Sent
from kstash.runtime.task.sink_outputs import (
    DirectRoute,
    ImmediateOutput,
    Route,
    TransactionalOutput,
)
from kstash.runtime.task.stateless import NoState
from kstash.runtime.task.task import Task
from kstash.runtime.task.under_way import Watch
from kstash.runtime.task.watermark import Watermark
from kstash.settings import derived
from kstash.topology.model import Stage

log = structlog.get_logger("kstash.group")


class TaskOpener:
    """Makes the tasks of one incarnation of a group.

    Args:
        context: of the worker.
        incarnation: of the group.
        writer: what the outputs are signed with.
        recovery: of the group, if the guarantee has one.
        sinks: of the group, if the guarantee has transactions.
    """

    def __init__(
        self,
        context: RuntimeContext,
        *,
        incarnation: Incarnation,
        writer: Incarnation,
        recovery: RecoveryAttempt | None,
        sinks: Sinks | None,
    ) -> None:
        self._context = context
        self._incarnation = incarnation
        self._writer = writer
        self._recovery = recovery
        self._sinks = sinks

    def open(self, stage: Stage, plan: TaskPlan) -> Task:
        """Make the task of a stage, at its base.

        Args:
            stage: the task's.
            plan: where it begins and what it replays.
        """
        context, recovery = self._context, self._recovery
        config, layout = context.config, context.layout
        inputs = self._inputs(stage, plan)
        core = self._core(stage, plan, is_implicit=not plan.logs_runs(len(inputs)))
        sent = Sent(context.load)
        task = Task(
            name=f"{stage.name}_{plan.task.partition}",
            stage=stage,
            plan=plan,
            core=core,
            incarnation=self._incarnation,
            inputs=inputs,
            state=self._state(stage, plan) if stage.stores else NoState(),
            homes=self._homes(stage, inputs),
            limits=[limit_of(output, config, layout) for output in stage.outputs],
            outputs=self._outputs(stage, core, sent),
            sent=sent,
            stored=recovery.stored.get(plan.task, {}) if recovery is not None else {},
            watch=Watch(context.services.clock.monotonic, context.pulse, context.paces.look),
            fail=partial(_count_error, context.services.metrics, stage),
            watermark=self._watermark(stage, plan, inputs),
            nonce=context.services.nonce,
        )
        if plan.adopted > plan.position:
            events = plan.adopted - plan.position
            log.info("replaying", task=task.name, events=events, base=plan.position)
        return task

    def _core(self, stage: Stage, plan: TaskPlan, *, is_implicit: bool) -> TaskCore:
        config, guarantee = self._context.config, self._context.guarantee
        core = TaskCore(
            plan.task,
            self._incarnation,
            implicit=is_implicit,
            position=plan.position,
            adopted=plan.adopted,
            stable=plan.stable,
            lineage=plan.lineage,
            sequences=plan.sequences,
            kinds=[output.kind for output in stage.outputs],
            header_bytes_max=config.lineage_header_bytes_max if guarantee.sends_lineage else 0,
            is_logging=guarantee.logs_lineage,
            made=plan.made,
        )
        core.scans.inherit(plan.scan_from)
        return core

    def _outputs(self, stage: Stage, core: TaskCore, sent: Sent) -> list[TaskOutput]:
        context, producer = self._context, self._context.clients.producers.data
        route: Route = DirectRoute(producer)
        if self._sinks is not None:
            route = SinkRoute(self._sinks, stage.index)
        frame_bytes_max = context.config.frame_bytes_max
        signature = Signature(context.application, core.task, self._writer)
        outputs: list[TaskOutput] = []
        for declared in stage.outputs:
            parts = OutputParts(
                declared=declared,
                partitioner=context.partitioners[declared.topic],
                signature=signature,
                core=core,
                sent=sent,
            )
            match declared.kind:
                case OutputKind.FRAMES:
                    outputs.append(
                        FrameOutput(parts, producer=producer, frame_bytes_max=frame_bytes_max)
                    )
                case OutputKind.IMMEDIATE:
                    outputs.append(ImmediateOutput(parts, route=route))
                case OutputKind.TRANSACTIONAL:
                    outputs.append(TransactionalOutput(parts, route=route))
                case _ as never:
                    assert_never(never)
        return outputs

    def _inputs(self, stage: Stage, plan: TaskPlan) -> dict[int, TaskInput]:
        context, number = self._context, plan.task.partition
        initial: Mapping[int, int] = {}
        skips, gaps = context.layout.skips_of(number, derived.skipped_places(context.config))
        if self._recovery is not None and self._recovery.start is not None:
            start = self._recovery.start
            initial = start.tasks[stage.index].initial_offsets
            skips, gaps = frozenset(start.skips), frozenset(start.gaps)
        inputs = {}
        for index, partition in context.layout.inputs_of(stage, number).items():
            source = stage.inputs[index]
            reader = None
            if source.kind.is_ruled:
                reader = plan.readers.get(index) or ReaderState(is_internal=source.internal)
                reader.is_fenced = context.guarantee.logs_lineage
                reader.application = context.application if source.internal else None
            offset = plan.input_offsets.get(index, initial.get(index, 0))
            skipped = InputSkips.of(skips, gaps, stage.index, index)
            pace = context.paces.of(stage.index, number, index)
            made = TaskInput(partition, source.kind, offset, reader, skipped, pace=pace)
            if (place := plan.places.get(index)) is not None:
                made.taken, made.timestamp_ms = place.taken, place.timestamp_ms
            inputs[index] = made
        return inputs

    def _watermark(
        self, stage: Stage, plan: TaskPlan, inputs: Mapping[int, TaskInput]
    ) -> Watermark | None:
        """Event time, where it is the smallest over all that feeds the task."""
        if not stage.is_watermark:
            return None
        context = self._context
        for source in inputs.values():
            if source.kind is InputKind.FRAMES:
                assert source.reader is not None
                writers = context.layout.writers_of(source.partition[0])
                source.time = InputTime(source.reader, context.application, writers)
        return Watermark(
            inputs,
            None if plan.base is None else plan.base.event_time,
            interval_ms=context.config.watermark_interval_ms,
            idle_timeout_ms=context.config.idle_timeout_ms,
        )

    def _homes(self, stage: Stage, inputs: Mapping[int, TaskInput]) -> dict[int, Home]:
        """Where the records of others are, if state is shared between what they and we wrote."""
        if not stage.needs_copartitioning:
            return {}
        return {
            index: Home(source.partition[1], self._context.partitioners[source.partition[0]])
            for index, source in inputs.items()
            if source.kind is not InputKind.FRAMES
        }

    def _state(self, stage: Stage, plan: TaskPlan) -> TaskState:
        folder = self._context.state.task(stage.name, plan.task.partition)
        return folder.open(stage.stores, base=plan.base_label, fresh=plan.fresh_stores)


def _count_error(metrics: Metrics, stage: Stage, error: Exception) -> None:
    # Without the line in the user's file, which the log has: a label for each operator.
    operator = str(getattr(error, "operator", "")).partition(" at ")[0]
    if not operator and isinstance(error, LocatedError):
        operator = f"to({error.topic})"
    metrics.count("operator_errors", stage=stage.name, operator=operator)
