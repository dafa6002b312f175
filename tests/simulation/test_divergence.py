"""A program that is not deterministic never gets through a replay unseen (I9, H44).

In replays it makes other records for a sink than before, but only such as are out already, so that
nobody would see them. What went to a transactional sink after the last HINT is compared with
nothing, so there are immediate ones only.
"""

from __future__ import annotations

from typing import Any

import pytest

from kstash.core.hashes import OutputHashes
from tests.simulation.checkers import Checkers
from tests.simulation.knobs import Mutations
from tests.simulation.programs import INTERNAL, Emission
from tests.simulation.schedule import run_seed
from tests.simulation.shapes import Shape
from tests.simulation.sim_task import SimTask
from tests.simulation.truth import ViolationError

SEEDS = 120
SHAPE: Shape = {
    "first_sink": "immediate",
    "second_sink": "immediate",
    "rate_crash": 0.03,
    "rate_hint": 0.5,
    "rate_commit": 0.8,
    "rate_flush": 0.9,
    "rate_checkpoint": 0.02,
}


class Divergent(Mutations):
    """A program that makes other records in some batches of a replay.

    The simulator sees at once when a suppressed record is not the stored one. Production may take
    until the next position whose hashes it knows, so that is asked at the end of the replay.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.changed = 0
        self._incarnations: dict[Any, Any] = {}
        self._unseen: dict[Any, str] = {}
        on_suppressed, check = Checkers.on_suppressed, Checkers.check_start_of_live

        def suppressed(checkers: Checkers, topic: str, p: int, task: Any, *args: Any) -> None:
            try:
                on_suppressed(checkers, topic, p, task, *args)
            except ViolationError as violation:
                self._unseen[task, self._incarnations.get(task)] = str(violation)

        def at_end(checkers: Checkers, task: Any, incarnation: Any) -> None:
            check(checkers, task, incarnation)
            if (task, incarnation) in self._unseen:
                raise ViolationError("I9", self._unseen[task, incarnation])

        monkeypatch.setattr(Checkers, "on_suppressed", suppressed)
        monkeypatch.setattr(Checkers, "check_start_of_live", at_end)

    def made_again(self, task: SimTask, emissions: list[Emission]) -> list[Emission]:
        """Other records for sinks, where they are committed."""
        self._incarnations[task.id] = task.incarnation
        if task.core.position > task.plan.committed or task.core.position % 3:
            return emissions
        outputs = task.stage.outputs
        made = [
            (o, p, (key, value if outputs[o].kind == INTERNAL else value ^ 1))
            for o, p, (key, value) in emissions
        ]
        self.changed += made != emissions
        return made


def outcomes() -> tuple[dict[str, int], int]:
    """How often each invariant was found broken, and how many batches diverged."""
    found: dict[str, int] = {}
    changed = 0
    for seed in range(SEEDS):
        with pytest.MonkeyPatch.context() as monkeypatch:
            program = Divergent(monkeypatch)
            result = run_seed(seed, program, shape=SHAPE)
        assert result.invariant != "refused" or "ReplayDivergedError" in result.text, result.text
        found[result.invariant] = found.get(result.invariant, 0) + 1
        changed += program.changed
    return found, changed


@pytest.mark.simulation
def test_h44_a_replay_that_diverges_is_refused() -> None:
    """H44: by the hashes of a HINT or CKPT, or by what a scan has found; nothing else breaks."""
    found, changed = outcomes()
    assert changed > SEEDS / 4
    assert set(found) == {"", "refused"}, found
    assert found["refused"] > SEEDS / 4


@pytest.mark.simulation
def test_h44_without_hashes_divergence_gets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """H44: the rule is needed: scans alone miss what hints skip."""
    monkeypatch.setattr(OutputHashes, "differences", lambda *_: {})
    found, _ = outcomes()
    assert found.get("I9", 0) > 0, found
