"""What no rule mends is refused: a replay that meets it never gets through unseen.

A program that is not deterministic (I9, H44), inputs that were changed (H13), lineage with a hole.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kstash.core.hashes import OutputHashes
from tests.simulation.faults import ChangedInputs, Divergent, Fault, Holes
from tests.simulation.patching import Patch
from tests.simulation.schedule import run_seed
from tests.simulation.shapes import (
    CHANGED,
    CHANGED_MERGED,
    CHANGED_RELEASES,
    DIVERGENT,
    HOLES,
    Shape,
)

SEEDS = 120
FEW_SEEDS = 40


def outcomes(
    fault_of: Callable[[Patch], Fault], shape: Shape, error: str, seeds: int
) -> tuple[dict[str, int], int]:
    """How often each invariant was found broken, and how often the fault was met.

    Args:
        fault_of: what goes wrong in a run.
        shape: of the runs.
        error: the only one that the runs may be refused with.
        seeds: how many runs.
    """
    found: dict[str, int] = {}
    met = 0
    for seed in range(seeds):
        patch = Patch()
        try:
            fault = fault_of(patch)
            result = run_seed(seed, fault, shape=shape)
        finally:
            patch.undo()
        assert result.invariant != "refused" or error in result.text, result.text
        found[result.invariant] = found.get(result.invariant, 0) + 1
        met += fault.met
    return found, met


@pytest.mark.simulation
def test_h44_a_replay_that_diverges_is_refused() -> None:
    """H44: by the hashes of a HINT or CKPT, or by what a scan has found; nothing else breaks."""
    found, met = outcomes(Divergent, DIVERGENT, "ReplayDivergedError", SEEDS)
    assert met > SEEDS / 4
    assert set(found) == {"", "refused"}, found
    assert found["refused"] > SEEDS / 4


@pytest.mark.simulation
def test_h44_without_hashes_divergence_gets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """H44: the rule is needed: scans alone miss what hints skip."""
    monkeypatch.setattr(OutputHashes, "differences", lambda *_: {})
    found, _ = outcomes(Divergent, DIVERGENT, "ReplayDivergedError", SEEDS)
    assert found.get("I9", 0) > 0, found


@pytest.mark.simulation
@pytest.mark.parametrize("shape", [CHANGED, CHANGED_MERGED, CHANGED_RELEASES])
def test_h13_inputs_that_were_changed_are_refused(shape: Shape) -> None:
    """H13: where a record of a run or of a merged batch is gone, and as many came after it."""
    found, met = outcomes(ChangedInputs, shape, "ReplayDivergedError", FEW_SEEDS)
    assert met > FEW_SEEDS / 4
    assert set(found) <= {"", "refused"}, found
    assert found["refused"] > FEW_SEEDS / 4


@pytest.mark.simulation
def test_lineage_with_a_hole_is_refused() -> None:
    """Of several inputs nobody knows which one came next."""
    found, met = outcomes(lambda _: Holes(), HOLES, "LineageGapError", FEW_SEEDS)
    assert met > FEW_SEEDS / 8
    assert set(found) <= {"", "refused"}, found
    assert found["refused"] > FEW_SEEDS / 8
