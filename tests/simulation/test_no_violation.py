"""The complete rules keep every invariant under every schedule tried."""

from __future__ import annotations

import pytest

from tests.simulation.runner import run_many

SEED_COUNT = 20_000


@pytest.mark.simulation
def test_complete_rules_give_no_violation() -> None:
    """No seed of the range breaks an invariant; a failure names the seed and how to repeat it."""
    failures = [failure for chunk in run_many(0, SEED_COUNT) for failure in chunk]
    assert not failures, "\n".join(str(failure) for failure in failures[:5])
