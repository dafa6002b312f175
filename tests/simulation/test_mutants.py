"""Every rule of the protocol is needed: without it some schedule breaks an invariant."""

from __future__ import annotations

import pytest

from tests.simulation.runner import kill_all, table

RUNS_MAX = 4_000


@pytest.mark.simulation
def test_every_mutant_is_killed(capsys: pytest.CaptureFixture[str]) -> None:
    """Each rule removed is found out by at least one run; the table says how often."""
    kills = kill_all(runs_max=RUNS_MAX, enough=3)
    with capsys.disabled():
        print("\n" + table(kills))
    assert not [k.hole for k in kills if not k.found]
