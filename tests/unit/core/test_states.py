"""The drawing of the group's states. Source: protocol, section 6; protocol-states.md."""

from __future__ import annotations

import runpy
from pathlib import Path

from kstash.core.group_state import GroupState
from kstash.runtime.recovery.watchdog import GIVES_UP

SCRIPT = Path(__file__).parents[3] / "docs" / "make_protocol_states.py"


def test_the_drawing_is_up_to_date() -> None:
    """The page shows every transition; else run docs/make_protocol_states.py."""
    page = runpy.run_path(str(SCRIPT))["page"]()
    assert (SCRIPT.parent / "internals/protocol-states.md").read_text(encoding="utf-8") == page


def test_each_step_that_reads_is_given_up() -> None:
    """A recovery that reads what does not come begins anew, whatever step it is at."""
    reads = {"ReadLineage", "ScanTails", "LocateSkips", "Recover"}
    arrows = runpy.run_path(str(SCRIPT))["arrows"]()
    assert {target for _, _, effects, target in arrows if effects in reads} == GIVES_UP
    assert {effects for _, _, effects, _ in arrows} > reads
    assert GroupState.LOCATING in GIVES_UP
