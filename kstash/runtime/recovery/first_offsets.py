"""Where tasks begin to read inputs of which no checkpoint knows anything."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from kstash.core.ids import TaskId
from kstash.core.plan import TaskPlan
from kstash.ports.kafka import Admin, Partition
from kstash.runtime.layout import Layout
from kstash.settings.config import Config


def first_offsets(
    admin: Admin,
    config: Config,
    layout: Layout,
    group: int,
    missing_inputs: Mapping[int, Sequence[int]],
) -> dict[int, dict[int, int]]:
    """Where inputs that no START knows begin, per stage and input index."""
    wanted: dict[tuple[int, int], Partition] = {}
    for stage in layout.stages_of(group):
        inputs = layout.inputs_of(stage, group)
        for index in missing_inputs.get(stage.index, ()):
            wanted[stage.index, index] = inputs[index]
    if not wanted:
        return {}
    offsets = _look_up(admin, config, set(wanted.values()))
    first: dict[int, dict[int, int]] = {}
    for (stage_index, index), partition in wanted.items():
        first.setdefault(stage_index, {})[index] = offsets[partition]
    return first


def fresh_plans(admin: Admin, config: Config, layout: Layout, group: int) -> dict[TaskId, TaskPlan]:
    """Plans for the guarantee `none`: empty state, inputs from where new ones start."""
    plans = {}
    for stage in layout.stages_of(group):
        task = TaskId(stage.index, group)
        inputs = layout.inputs_of(stage, group)
        known = _look_up(admin, config, list(inputs.values()))
        offsets = {index: known[partition] for index, partition in inputs.items()}
        plans[task] = TaskPlan(
            task=task,
            base=None,
            position=0,
            adopted=0,
            stable=0,
            lineage=(),
            owners=(),
            sequences={},
            last_valid={},
            committed=0,
            input_offsets=offsets,
            readers={},
            scan_from={},
        )
    return plans


def _look_up(
    admin: Admin, config: Config, partitions: Collection[Partition]
) -> Mapping[Partition, int]:
    if config.auto_offset_reset == "earliest":
        return admin.start_offsets(partitions)
    return admin.end_offsets(partitions)
