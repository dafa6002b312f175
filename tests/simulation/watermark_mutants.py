"""Mutants of the rules of watermark mode, in the worlds of whole applications."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kstash.core.ids import TaskId
from kstash.core.reader import ReaderState
from kstash.core.watermark import (
    AFTER_ALL_MS,
    BEFORE_ALL_MS,
    EventTimes,
    InputTime,
    Quiet,
    SaidTimes,
    TaskEventTime,
    TaskTime,
)
from kstash.core.wire import Identity
from tests.simulation import timed
from tests.simulation.knobs import Mutations
from tests.simulation.mutant import Mutant
from tests.simulation.patching import Patch
from tests.simulation.shapes import TIMED
from tests.simulation.timed import Timed


def _writers_not_kept(patch: Patch) -> Mutations:
    def copy(table: ReaderState) -> ReaderState:
        made: ReaderState = before(table)
        made.times = {}
        return made

    before = patch.set(ReaderState, "copy", copy)
    return Mutations()


class _NoInputs(Mutations):
    def frozen_times(self, times: EventTimes) -> EventTimes:
        return replace(times, inputs={})


class _NothingSaid(Mutations):
    def frozen_times(self, times: EventTimes) -> EventTimes:
        return replace(times, said={})


class _NothingPassed(Mutations):
    def frozen_times(self, times: EventTimes) -> EventTimes:
        return replace(times, passed_ms=BEFORE_ALL_MS)


class _NothingLogged(Mutations):
    def frozen_times(self, times: EventTimes) -> EventTimes:
        return replace(times, ticked_ms=0)


def _no_controls(patch: Patch) -> Mutations:
    patch.set(SaidTimes, "is_news", lambda *_: False)
    return Mutations()


def _no_ticks(patch: Patch) -> Mutations:
    patch.set(TaskEventTime, "next_ms", lambda _: None)
    return Mutations()


def _never_idle(patch: Patch) -> Mutations:
    patch.set(Quiet, "due_ms", lambda *_: None)
    return Mutations()


def _idle_at_once(patch: Patch) -> Mutations:
    patch.set(Quiet, "due_ms", lambda quiet, source: quiet._since.get(source))
    patch.set(TaskTime, "idle", lambda time, source, now_ms, _: time.take(source, [now_ms])[0])
    return Mutations()


def _said_once(patch: Patch) -> Mutations:
    def due_ms(quiet: Quiet, source: int) -> int | None:
        due: int | None = before(quiet, source)
        return None if source in quiet._said else due

    before = patch.set(Quiet, "due_ms", due_ms)
    return Mutations()


def _nothing_held(patch: Patch) -> Mutations:
    patch.put(timed.__dict__, "HELD", 0)
    return Mutations()


def _not_stepped(patch: Patch) -> Mutations:
    def move(windows: Timed, time: int) -> Any:
        made = before(windows, time)
        return [(o, p, (*value[:3], time - timed.HELD)) for o, p, value in made]

    before = patch.set(Timed, "_move", move)
    return Mutations()


def _unheard_left_out(patch: Patch) -> Mutations:
    def said(inputs: InputTime, writer: tuple[int, TaskId]) -> int:
        return inputs._reader.times.get(writer, AFTER_ALL_MS)

    patch.set(InputTime, "said", said)
    return Mutations()


def _greatest_of_writers(patch: Patch) -> Mutations:
    def hear(inputs: InputTime, task: TaskId, times_ms: Sequence[int]) -> list[int]:
        before(inputs, task, times_ms)
        return [max(inputs._reader.times.values())] * len(times_ms)

    before = patch.set(InputTime, "hear", hear)
    return Mutations()


def _one_time_of_a_frame(patch: Patch) -> Mutations:
    def hear(inputs: InputTime, task: TaskId, times_ms: Sequence[int]) -> list[int]:
        return list(before(inputs, task, [times_ms[-1]] * len(times_ms)))

    before = patch.set(InputTime, "hear", hear)
    return Mutations()


def _greatest_of_inputs(patch: Patch) -> Mutations:
    def take(time: TaskTime, source: int, times_ms: list[int]) -> list[int]:
        made = before(time, source, times_ms)
        time.now_ms = max(time.times.values())
        return [time.now_ms] * len(made)

    before = patch.set(TaskTime, "take", take)
    return Mutations()


def _dropped_ones_count(patch: Patch) -> Mutations:
    def accept(table: ReaderState, identity: Identity) -> int:
        skip: int = before(table, identity)
        if skip == identity.count:
            writer = identity.application, identity.task
            table.hear(writer, table.times.get(writer, 0) + 1)
        return skip

    before = patch.set(ReaderState, "accept", accept)
    return Mutations()


WATERMARK_MUTANTS = (
    Mutant("W20", "times by writer in checkpoints", _writers_not_kept, TIMED),
    Mutant("W21", "times by input in checkpoints", lambda _: _NoInputs(), TIMED),
    Mutant("W22", "times said in checkpoints", lambda _: _NothingSaid(), TIMED),
    Mutant("W23", "times passed in checkpoints", lambda _: _NothingPassed(), TIMED),
    Mutant("W24", "times logged in checkpoints", lambda _: _NothingLogged(), TIMED),
    Mutant("W25", "control records", _no_controls, TIMED),
    Mutant("W26", "ticks pass time on", _no_ticks, TIMED),
    Mutant("W27", "idle sources are said", _never_idle, TIMED),
    Mutant("W28", "idle is less the timeout", _idle_at_once, TIMED),
    Mutant("W29", "idle is said again", _said_once, TIMED),
    Mutant("W30", "what windows hold is taken off", _nothing_held, TIMED),
    Mutant("W31", "a jump is stepped", _not_stepped, TIMED),
    Mutant("W32", "who was never heard of counts", _unheard_left_out, TIMED),
    Mutant("W33", "the smallest over the writers", _greatest_of_writers, TIMED),
    Mutant("W34", "a time for each record", _one_time_of_a_frame, TIMED),
    Mutant("W35", "the smallest over the inputs", _greatest_of_inputs, TIMED),
    Mutant("W36", "dropped frames say nothing", _dropped_ones_count, TIMED),
)
