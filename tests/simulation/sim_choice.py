"""What comes next of a live task of the simulated worker: an event, or records of an input."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from kstash.core.determinants import (
    Completed,
    Flush,
    Idle,
    Tick,
)
from kstash.core.ids import UNBOUNDED
from kstash.core.live import MayCome, may_flush_at_end
from tests.simulation.sim_calls import OPEN_MAX

if TYPE_CHECKING:
    from tests.simulation.sim_task import SimTask


def choose(
    task: SimTask, rng: Random, position: int
) -> Tick | Flush | Idle | Completed | int | None:
    """What comes next of a live task: an event, or records of an input, or nothing."""
    state, stage, world, rules = task.state, task.stage, task.world, task.go_live()
    if not task.group.admission.may_begin(waits_for_rest=False, may_leave_work=False):
        return None
    for source, offset in enumerate(task.offsets):
        rules.read(source, offset)
    # Markers of others may put the ends of its inputs off after its END.
    is_at_end = task.ends_sent or world.is_at_end(task)
    may_come = rules.may_come(is_at_end=is_at_end)
    if not task.state.work and (rng.random() < 0.4 if task.caller.ready else False):
        completed = task.caller.choose(rng, position)
        if completed is not None:
            return completed
    sources = [i for i in range(len(stage.inputs)) if task.has_input(i)]
    if len(state.open) >= OPEN_MAX:
        sources = []
    if state.kept and world.knobs.flushes_at_end:
        has_read_all, has_said_end = world.is_at_end(task), task.ends_sent
        if may_flush_at_end(has_read_all=has_read_all, has_said_end=has_said_end):
            return Flush(position, state.kept % 3)
    if may_come is MayCome.RECORDS:
        if world.mutations.flushes_at_once and state.kept and rng.random() < 0.2:
            return Flush(position, 0)
        return sources[int(rng.random() * len(sources))] if sources else None
    if task.waits is not None and (timed := _choose_timed(task, sources, position)) is not None:
        return timed
    if state.timers and (state.is_due or not sources or rng.random() < 0.2):
        clock = world.read_clock()
        if world.is_settling and not sources:
            clock = max(clock, min(state.timers.values()))
        elif not state.is_due and not sources and rng.random() < 0.5:
            return None
        return Tick(position, rules.time_ms(clock))
    if state.kept and not world.is_settling and rng.random() < 0.2:
        return Flush(position, int(rng.random() * 3))
    if stage.has_idle and not world.is_settling:
        idle = [i for i in range(len(stage.inputs)) if i not in sources]
        if idle and rng.random() < 0.1:
            source = idle[int(rng.random() * len(idle))]
            return Idle(position, source, rules.time_ms(world.read_clock()))
    return sources[int(rng.random() * len(sources))] if sources else None


def _choose_timed(task: SimTask, sources: list[int], position: int) -> Tick | Idle | None:
    """What the clock decides in watermark mode."""
    world, rules, waits = task.world, task.go_live(), task.waits
    assert waits is not None
    now = world.read_clock()
    waits.look(now, sources)
    if world.is_settling and waits.is_over(world.settled_ms):
        return None
    if waits.is_tick_due(now, rules):
        return Tick(position, rules.time_ms(now))
    until = world.settled_ms if world.is_settling else UNBOUNDED
    idle = None if world.mutations.never_idle else waits.idle(now, until)
    return None if idle is None else Idle(position, idle, rules.time_ms(now))
