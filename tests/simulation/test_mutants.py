"""Every rule of the protocol is needed: without it some schedule breaks an invariant."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation.conftest import TABLE
from tests.simulation.flush_mutants import FLUSH_MUTANTS
from tests.simulation.mutant import Mutant
from tests.simulation.mutants import MUTANTS
from tests.simulation.replay_mutants import REPLAY_MUTANTS
from tests.simulation.runner import CRASHED, kill, kill_all, run_guarded, table
from tests.simulation.watermark_mutants import WATERMARK_MUTANTS

RUNS_MAX = 4_000
FEW_RUNS = 400
ENOUGH = 3
"""Violations after which a mutant is run no more."""


@pytest.mark.simulation
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.hole)
def test_no_patch_crashes(mutant: Mutant) -> None:
    """A patch fits the code that it patches: a run is found out or not, but does not break."""
    for seed in range(3):
        invariant, text = run_guarded(seed, mutant)
        assert invariant != CRASHED, text


@pytest.mark.simulation
@pytest.mark.parametrize(
    "mutant",
    [*REPLAY_MUTANTS, *FLUSH_MUTANTS, *WATERMARK_MUTANTS],
    ids=lambda mutant: mutant.hole,
)
def test_rules_of_replays_flushes_and_event_time_are_needed(mutant: Mutant) -> None:
    """Of these few runs are enough."""
    kills = kill(MUTANTS.index(mutant), runs_max=FEW_RUNS, enough=1)
    assert kills.found, kills


@pytest.mark.prove
@pytest.mark.simulation
def test_every_mutant_is_killed(record_property: Callable[[str, object], None]) -> None:
    """Each rule removed is found out by at least one run; the summary says how often."""
    kills = kill_all(runs_max=RUNS_MAX, enough=ENOUGH)
    record_property(TABLE, table(kills))
    assert not [k.hole for k in kills if not k.found]
