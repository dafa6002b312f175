"""Event time as the smallest over the upstream tasks: no seed breaks it; each rule is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from kstash.core.ids import TaskId
from kstash.core.reader import ReaderState
from kstash.core.watermark import AFTER_ALL_MS, InputTime, TaskTime
from kstash.core.wire import Identity
from tests.simulation.patching import Patch
from tests.simulation.sim_watermark import run
from tests.simulation.watermark_writers import FoundOutError, Weakened

SEEDS = 60
RUNS_MAX = 1_000

Apply = Callable[[Patch], None]


def _disobeys(patch: Patch) -> None:
    """The world itself does."""


def _one_time_before(patch: Patch) -> None:
    def hear(self: InputTime, task: TaskId, times_ms: Sequence[int]) -> list[int]:
        return list(before(self, task, [times_ms[-1]] * len(times_ms)))

    before = patch.set(InputTime, "hear", hear)


def _one_time_after(patch: Patch) -> None:
    def hear(self: InputTime, task: TaskId, times_ms: Sequence[int]) -> list[int]:
        known = min(self.said(writer) for writer in self._writers)
        before(self, task, times_ms)
        return [known] * len(times_ms)

    before = patch.set(InputTime, "hear", hear)


def _unheard_left_out(patch: Patch) -> None:
    def said(self: InputTime, writer: tuple[int, TaskId]) -> int:
        return self._reader.times.get(writer, AFTER_ALL_MS)

    patch.set(InputTime, "said", said)


def _largest(patch: Patch) -> None:
    def take(self: TaskTime, source: int, times_ms: list[int]) -> list[int]:
        latest = max(self.times[source], *times_ms)
        return list(before(self, source, [latest] * len(times_ms)))

    before = patch.set(TaskTime, "take", take)


def _dropped_ones_count(patch: Patch) -> None:
    def accept(self: ReaderState, identity: Identity) -> int:
        skip = before(self, identity)
        if skip == identity.count and identity.position == 99:
            # What a zombie of the simulation says.
            self.hear((identity.application, identity.task), 10**6)
        return int(skip)

    before = patch.set(ReaderState, "accept", accept)


def _times_not_in_the_table(patch: Patch) -> None:
    def to_json(self: ReaderState) -> dict[str, object]:
        return {name: rows for name, rows in before(self).items() if name != "time"}

    before = patch.set(ReaderState, "to_json", to_json)


@dataclass(frozen=True)
class Weakening:
    """One rule removed."""

    name: str
    apply: Apply
    weakened: Weakened


WEAKENINGS = (
    Weakening("idleness is said once, and then left out", _disobeys, Weakened(idle_said_once=True)),
    Weakening(
        "all idle: time stays",
        _disobeys,
        Weakened(idle_said_once=True, all_idle_stays=True),
    ),
    Weakening("idleness is decided by readers", _disobeys, Weakened(idle_by_readers=True)),
    Weakening("no control records", _disobeys, Weakened(no_controls=True)),
    Weakening("what is held back is not subtracted", _disobeys, Weakened(nothing_held=True)),
    Weakening("time of a jump is not stepped", _disobeys, Weakened(not_stepped=True)),
    Weakening("one time a frame, before its records", _one_time_before, Weakened()),
    Weakening("one time a frame, after its records", _one_time_after, Weakened()),
    Weakening("one time a batch", _largest, Weakened()),
    Weakening("writers never heard of are left out", _unheard_left_out, Weakened()),
    Weakening("times of dropped records count", _dropped_ones_count, Weakened()),
    Weakening("times by writer are not in checkpoints", _times_not_in_the_table, Weakened()),
    Weakening("times by input are not in checkpoints", _disobeys, Weakened(times_not_kept=True)),
    Weakening("times said are not in checkpoints", _disobeys, Weakened(said_not_kept=True)),
)


@pytest.mark.simulation
def test_no_seed_breaks_a_rule() -> None:
    """No record is late, all windows close, and frames, crashes and cuts change nothing."""
    for seed in range(SEEDS):
        try:
            run(seed)
        except FoundOutError as error:
            pytest.fail(f"seed {seed}: {error}")


@pytest.mark.simulation
@pytest.mark.parametrize("weakening", WEAKENINGS, ids=lambda weakening: weakening.name)
def test_each_rule_is_needed(weakening: Weakening) -> None:
    """Without it some seed breaks."""
    patch = Patch()
    try:
        weakening.apply(patch)
        for seed in range(RUNS_MAX):
            try:
                run(seed, weakening.weakened)
            except FoundOutError:
                return
    finally:
        patch.undo()
    pytest.fail(f"{RUNS_MAX} runs did not find it")
