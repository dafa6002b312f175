"""The drawing of the group's states. Source: protocol, section 6; docs/protocol-states.md."""

from __future__ import annotations

import runpy
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "docs" / "make_protocol_states.py"


def test_the_drawing_is_up_to_date() -> None:
    """docs/protocol-states.md shows every transition; else run docs/make_protocol_states.py."""
    page = runpy.run_path(str(SCRIPT))["page"]()
    assert SCRIPT.with_name("protocol-states.md").read_text(encoding="utf-8") == page
