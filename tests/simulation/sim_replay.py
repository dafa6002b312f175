"""The adopted history of a task of the simulated worker, run again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kstash.core.determinants import (
    Completed,
    Flush,
    Idle,
    MergedBatch,
    Tick,
)
from kstash.core.replay import NextEvent, RecordsNext
from tests.simulation.programs import (
    Emission,
)
from tests.simulation.sim_kafka import Record
from tests.simulation.sim_merge import merge_again
from tests.simulation.truth import (
    ViolationError,
)

if TYPE_CHECKING:
    from tests.simulation.sim_task import SimTask


def replay_batch(task: SimTask, size: int) -> None:
    """Run up to `size` events of the adopted history again, or the next part of one."""
    if task.core.is_under_way:
        task.go_on()
        return
    position = task.core.position
    end = min(position + size, task.replay.cut_after(position))
    emissions: list[Emission] = []
    while position < end:
        event = task.replay.next_event(position, end - position)
        position = _replay_event(task, position, event, emissions)
    task.core.advance((), position, is_over=not task.state.work)
    task.emit_all(task.world.mutations.made_again(task, emissions))


def _replay_event(task: SimTask, position: int, event: NextEvent, emissions: list[Emission]) -> int:
    """Run what comes next again; returns the position after it."""
    if isinstance(event, RecordsNext):
        return _replay_records(task, position, event, emissions)
    if isinstance(event, MergedBatch):
        return merge_again(task, event, emissions)
    assert isinstance(event, Tick | Flush | Idle | Completed)
    if isinstance(event, Tick) and task.world.mutations.ticks_anew:
        event = Tick(position, task.world.read_clock())
    task.run_event(event, emissions)
    return position + 1


def _replay_records(
    task: SimTask, position: int, step: RecordsNext, emissions: list[Emission]
) -> int:
    """Run records again; returns the position after them."""
    offset = -1
    for event in range(position, position + step.count):
        found = task.next_event(step.input)
        if found is None:
            raise ViolationError("I1", f"{task.id} {task.incarnation}: input of {event} is missing")
        record, cut, _ = found
        _replay_record(task, event, step.input, record, cut, emissions)
        offset = record.offset
    task.replay.verify(step, step.count, offset + 1)
    return position + step.count


def _replay_record(
    task: SimTask, position: int, source: int, record: Record, cut: int, emissions: list[Emission]
) -> None:
    values = task.values(source, record, cut)
    if task.state.timed is not None:
        task.take_timed(source, record, cut, values, emissions)
        return
    task.replay_values(position, source, record.offset, cut, values, emissions)
