"""Some seeds in this very process, for who changes a rule and wants to see at once."""

from __future__ import annotations

import pytest

from tests.simulation.runner import run_range

SEED_COUNT = 100


@pytest.mark.simulation
def test_some_seeds_give_no_violation() -> None:
    """No seed of a very short range breaks an invariant; a failure names it."""
    assert not run_range(0, SEED_COUNT)
