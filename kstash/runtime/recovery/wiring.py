"""Makes the parts of an attempt at a recovery, each with what it uses of the worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kstash.core.events import Event
from kstash.core.group import GroupCore
from kstash.core.tail_scan import TailScan
from kstash.ports.kafka import Partition, SinkProducer
from kstash.runtime.context import RuntimeContext
from kstash.runtime.recovery.appending import Appender
from kstash.runtime.recovery.fencing import Fencing
from kstash.runtime.recovery.inputs import InputCheck
from kstash.runtime.recovery.restore import Restores
from kstash.runtime.recovery.tails import TailReader
from kstash.settings import derived

Post = Callable[[Event | Exception], None]
"""Takes an event of the attempt, or the error that ends it."""


def core_of(context: RuntimeContext, group: int) -> GroupCore:
    """What decides the steps of the attempt."""
    layout, config = context.layout, context.config
    stages = layout.stages_of(group)
    skips, gaps = layout.skips_of(group, derived.skipped_places(config))
    return GroupCore(
        group=group,
        application=context.application,
        specs=[
            layout.spec(stage, group, is_recovering=context.guarantee.logs_lineage)
            for stage in stages
        ],
        external_inputs={stage.index: layout.external_inputs_of(stage, group) for stage in stages},
        settings=context.start_settings,
        skips=skips,
        drop_stores=frozenset(config.drop_stores),
        checkpoints_retained=config.checkpoints_retained,
        gaps=gaps,
    )


def appender_of(context: RuntimeContext, group: int, post: Post) -> Appender:
    """What appends to the group's partition of the lineage topic."""
    return Appender(context.services.clock, (context.layout.lineage_topic, group), post)


def fencing_of(
    context: RuntimeContext, group: int, sinks: Sequence[SinkProducer], post: Post
) -> Fencing:
    """What fences all that the group writes."""
    is_logging = context.guarantee.logs_lineage
    return Fencing(
        context.services.clock,
        producer=context.clients.producers.markers,
        targets=context.layout.internal_targets(group) if is_logging else [],
        sinks=sinks,
        post=post,
    )


def restores_of(context: RuntimeContext, group: int) -> Restores:
    """What finds a base for each task."""
    return Restores(
        context.services,
        state=context.state,
        store=context.store,
        stages=context.layout.stages_of(group),
        group=group,
    )


def tail_reader_of(
    context: RuntimeContext, scans: Sequence[TailScan], fences: Mapping[Partition, int]
) -> TailReader:
    """What reads the tails of outputs, up to the own FENCEs at these offsets."""
    return TailReader(
        context.clients.admin,
        context.layout,
        scans=scans,
        fence_offsets=fences,
        application=context.application,
        skipped=derived.skipped_places(context.config),
    )


def input_check_of(context: RuntimeContext, group: int) -> InputCheck:
    """What checks that the inputs hold what a replay needs."""
    clock = context.services.clock
    return InputCheck(context.clients.admin, clock, context.layout, context.doubts, group)
