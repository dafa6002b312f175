"""Whether the inputs still hold what a replay needs, and which record says that it needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kstash.core.ids import OutPartition, TaskId
from kstash.core.plan import TaskPlan
from kstash.core.records import Start
from kstash.core.skips import events_of
from kstash.errors import (
    ForeignRecordError,
    KafkaUnavailableError,
    LocatedError,
    OffsetOutOfRangeError,
)
from kstash.ports.kafka import Partition
from kstash.runtime.context import Context
from kstash.runtime.layout import Layout
from kstash.topology.model import Stage

DOUBT_S = 30.0
"""How long a history that goes beyond its inputs is checked again and again, in seconds."""


def check_inputs(
    context: Context,
    group: int,
    plans: Mapping[TaskId, TaskPlan],
    start: Start,
    fence_offsets: Mapping[Partition, int],
) -> None:
    """Refuse a replay whose inputs are gone in part (H13, H21), or never were there (H52).

    `fence_offsets` are those of the own FENCEs: a listed end may lag (H24).

    Raises:
        OffsetOutOfRangeError: names the partition, the offset needed and what is left.
        ForeignRecordError: names the record that claims a history beyond the inputs.
        KafkaUnavailableError: as that, for as long as an end that is listed may lag (H24).
    """
    needed: dict[Partition, tuple[int, str, bool]] = {}
    replayed: list[tuple[Stage, TaskPlan, Partition, int, int]] = []
    for stage in context.layout.stages_of(group):
        plan = plans[TaskId(stage.index, group)]
        if start.parent is None:
            continue
        initial = start.tasks[stage.index].initial_offsets
        for index, partition in context.layout.inputs_of(stage, group).items():
            offset = plan.input_offsets.get(index, initial.get(index, 0))
            need = offset, f"{stage.name}_{group}", plan.base is not None
            needed[partition] = min(need, needed.get(partition, need))
            is_implicit = len(context.layout.inputs_of(stage, group)) == 1
            events = events_of(plan, index, implicit=is_implicit)
            if events:
                replayed.append((stage, plan, partition, offset, events))
    if not needed:
        return
    _check_ends(context, group, replayed, fence_offsets)
    first = context.clients.admin.start_offsets(list(needed))
    for partition, (offset, task, has_base) in needed.items():
        if first[partition] <= offset:
            continue
        why = "goes on from its checkpoint"
        if not has_base:
            why = (
                "has no checkpoint that can be restored, neither on this disk nor in the "
                "checkpoint store, so it must process its inputs again from their start"
            )
        raise OffsetOutOfRangeError(
            f"task {task} {why}; the earliest offset that it needs is {offset}, but the first that "
            f"is left is {first[partition]}: retention or a deletion was faster. Restore a "
            "checkpoint (state_dir, checkpoint_store), or start afresh under another "
            "application_id; keep inputs (retention.ms) for longer than a worker may ever be down"
        ).at(*partition, offset)


def _check_ends(
    context: Context,
    group: int,
    replayed: Sequence[tuple[Stage, TaskPlan, Partition, int, int]],
    fence_offsets: Mapping[Partition, int],
) -> None:
    """Refuse a history that takes more events of an input than it has offsets (H52)."""
    if not replayed:
        context.doubts.pop(group, None)
        return
    ends = {partition: offset + 1 for partition, offset in fence_offsets.items()}
    external = [partition for _, _, partition, _, _ in replayed if partition not in ends]
    if external:
        ends.update(context.clients.admin.end_offsets(external))
    for stage, plan, (topic, number), offset, events in replayed:
        if offset + events <= ends[topic, number]:
            continue
        error = ForeignRecordError(
            f"the history of task {stage.name}_{group} takes {events} events of topic {topic!r}, "
            f"partition {number}, from offset {offset} on, but that ends at {ends[topic, number]}: "
            "a record that says so is damaged, or somebody else wrote it"
        )
        locate_error(error, context.layout, stage.index, plan.said_by)
        now = context.services.clock.monotonic()
        # After a change of leaders an end may be listed that lies too low.
        if now < context.doubts.setdefault(group, now) + DOUBT_S:
            raise KafkaUnavailableError(f"{error}; perhaps its end is not known yet")
        raise error
    context.doubts.pop(group, None)


def locate_error(
    error: LocatedError,
    layout: Layout,
    stage_index: int,
    record: tuple[OutPartition, int] | None,
) -> None:
    """Add the place of a record in an output of a stage; one of a sink can be skipped."""
    if record is None:
        return
    stage = next(stage for stage in layout.topology.stages if stage.index == stage_index)
    (output, _), offset = record
    topic, number = layout.kafka_partition(stage, record[0])
    error.at(topic, number, offset)
    if not stage.outputs[output].internal:
        error.skip = f"{topic}/{number}/{offset}"
