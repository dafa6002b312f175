"""The complete rules keep every invariant under every schedule tried."""

from __future__ import annotations

import pytest

from tests.simulation.runner import run_many

SEED_COUNT = 20_000
SHORT_SEED_COUNT = 2_000


def failures_of(start: int, count: int) -> str:
    """The first failures of a range of seeds; each names its seed and how to repeat it."""
    failures = [failure for chunk in run_many(start, count) for failure in chunk]
    return "\n".join(str(failure) for failure in failures[:5])


@pytest.mark.simulation
def test_the_first_seeds_give_no_violation() -> None:
    """No seed of a short range breaks an invariant."""
    assert not failures_of(0, SHORT_SEED_COUNT)


@pytest.mark.prove
@pytest.mark.simulation
def test_complete_rules_give_no_violation() -> None:
    """Nor does any other of twenty thousand."""
    assert not failures_of(SHORT_SEED_COUNT, SEED_COUNT - SHORT_SEED_COUNT)
