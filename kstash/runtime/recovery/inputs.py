"""Whether the inputs still hold what a replay needs, and which record says that it needs it."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kstash.core.ids import OutPartition, TaskId
from kstash.core.plan import TaskPlan
from kstash.core.records import Start
from kstash.core.skips import events_of, lowest_end
from kstash.errors import (
    ForeignRecordError,
    KafkaUnavailableError,
    LocatedError,
    OffsetOutOfRangeError,
)
from kstash.ports.kafka import Admin, Partition
from kstash.ports.process import Clock
from kstash.runtime.layout import Layout
from kstash.topology.model import Stage

DOUBT_S = 30.0
"""How long a history that goes beyond its inputs is checked again and again, in seconds."""


@dataclass(frozen=True, slots=True)
class InputCheck:
    """Refuses a replay whose inputs are gone in part, or never were there.

    Attributes:
        admin: is asked for the ends of inputs.
        clock: time.
        layout: where the tasks are.
        doubts: by task group, since when its history has gone beyond its inputs, in monotonic
            seconds; over the attempts to recover it.
        group: number of the task group.
    """

    admin: Admin
    clock: Clock
    layout: Layout
    doubts: MutableMapping[int, float]
    group: int

    def check(
        self,
        plans: Mapping[TaskId, TaskPlan],
        start: Start,
        fence_offsets: Mapping[Partition, int],
    ) -> None:
        """Check what the plans need of their inputs (H13, H21, H52).

        `fence_offsets` are those of the own FENCEs: a listed end may lag (H24).

        Raises:
            OffsetOutOfRangeError: names the partition, the offset needed and what is left.
            ForeignRecordError: names the record that claims a history beyond the inputs.
            KafkaUnavailableError: as that, for as long as an end that is listed may lag (H24).
        """
        if start.parent is None:
            return  # there is no history
        needed: dict[Partition, _Need] = {}
        replayed: list[_Replayed] = []
        for stage in self.layout.stages_of(self.group):
            plan = plans[TaskId(stage.index, self.group)]
            initial = start.tasks[stage.index].initial_offsets
            inputs = self.layout.inputs_of(stage, self.group)
            for index, partition in inputs.items():
                offset = plan.input_offsets.get(index, initial.get(index, 0))
                need = _Need(offset, f"{stage.name}_{self.group}", plan.base is not None)
                needed[partition] = min(need, needed.get(partition, need))
                is_implicit = len(inputs) == 1
                events = events_of(plan, index, implicit=is_implicit)
                if events:
                    end = lowest_end(plan, index, offset, implicit=is_implicit)
                    replayed.append(
                        _Replayed(stage, plan, partition, offset=offset, events=events, end=end)
                    )
        if not needed:
            return
        self._check_ends(replayed, fence_offsets)
        first = self.admin.start_offsets(list(needed))
        for partition, need in needed.items():
            if first[partition] > need.offset:
                raise need.error(first[partition]).at(*partition, need.offset)

    def _check_ends(
        self, replayed: Sequence[_Replayed], fence_offsets: Mapping[Partition, int]
    ) -> None:
        """Refuse a history that takes more events of an input than it has offsets (H52)."""
        ends = {partition: offset + 1 for partition, offset in fence_offsets.items()}
        external = [need.partition for need in replayed if need.partition not in ends]
        if external:
            ends.update(self.admin.end_offsets(external))
        for need in replayed:
            if need.end <= ends[need.partition]:
                continue
            error = need.error(self.group, ends[need.partition])
            locate_error(error, self.layout, need.stage.index, need.plan.said_by)
            now = self.clock.monotonic()
            # After a change of leaders an end may be listed that lies too low.
            if now < self.doubts.setdefault(self.group, now) + DOUBT_S:
                raise KafkaUnavailableError(f"{error}; perhaps its end is not known yet")
            raise error
        self.doubts.pop(self.group, None)


class _Need(NamedTuple):
    """What a task reads of an input partition: from an offset on, after a checkpoint or afresh."""

    offset: int
    task: str
    has_base: bool

    def error(self, first: int) -> OffsetOutOfRangeError:
        """What says that `first` is the first offset that is left."""
        why = "goes on from its checkpoint"
        if not self.has_base:
            why = (
                "has no checkpoint that can be restored, neither on this disk nor in the "
                "checkpoint store, so it must process its inputs again from their start"
            )
        return OffsetOutOfRangeError(
            f"task {self.task} {why}; the earliest offset that it needs is {self.offset}, but the "
            f"first that is left is {first}: retention or a deletion was faster. Restore a "
            "checkpoint (state_dir, checkpoint_store), or start afresh under another "
            "application_id; keep inputs (retention.ms) for longer than a worker may ever be down"
        )


class _Replayed(NamedTuple):
    """How many events of an input partition a task's history takes, from one offset to another.

    It takes what lies before `end` at least: where offsets hold no event, it reaches further.
    """

    stage: Stage
    plan: TaskPlan
    partition: Partition
    offset: int
    events: int
    end: int

    def error(self, group: int, end: int) -> ForeignRecordError:
        """What says that the partition ends before."""
        topic, number = self.partition
        return ForeignRecordError(
            f"the history of task {self.stage.name}_{group} takes {self.events} events of topic "
            f"{topic!r}, partition {number}, from offset {self.offset} on, but that ends at {end}: "
            "a record that says so is damaged, or somebody else wrote it"
        )


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
