"""Some seeds in this very process, for who changes a rule and wants to see at once."""

from __future__ import annotations

import pytest

from tests.simulation.runner import run_range
from tests.simulation.schedule import run_seed
from tests.simulation.shapes import TIMED

SEED_COUNT = 100
TIMED_SEED_COUNT = 60
TIMED_FOUND = (3034071,)
"""What the second stage reads beside frames was late in truth: it has no grace."""


@pytest.mark.simulation
def test_some_seeds_give_no_violation() -> None:
    """No seed of a very short range breaks an invariant; a failure names it."""
    assert not run_range(0, SEED_COUNT)


@pytest.mark.simulation
def test_in_watermark_mode_nothing_is_late_and_nothing_waits() -> None:
    """Under all faults results are those of the records in order, and all of them come."""
    for seed in (*range(TIMED_SEED_COUNT), *TIMED_FOUND):
        result = run_seed(seed, shape=TIMED)
        assert not result.invariant, f"seed {seed}: {result.text}"
