"""Readable scenarios of the core. Source: protocol, sections 4 to 7.

A trace is a text file. Lines that begin at the margin are commands, lines that begin with `#` say
what is to be seen, indented lines are what the core answered; a trace passes when it answers the
same. `pytest tests/traces --update-traces` rewrites the answers: read the difference, and
explain it in the commit.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.traces.stage import Stage

FOLDER = Path(__file__).parent
TRACES = sorted(FOLDER.glob("*.txt"))


def played(text: str) -> str:
    """The trace with the answers that the core gives now."""
    stage = Stage()
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("    "):
            continue
        lines.append(line)
        if line and not line.startswith("#"):
            lines += [f"    {answer}" for answer in stage.perform(line)]
    return "\n".join([*lines, ""])


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_trace(path: Path, request: pytest.FixtureRequest) -> None:
    """The core answers every command of the trace as it is written there."""
    text = path.read_text(encoding="utf-8")
    found = played(text)
    if request.config.getoption("--update-traces", default=False):
        path.write_text(found, encoding="utf-8")
    else:
        assert found.splitlines() == text.splitlines()


def test_there_are_traces() -> None:
    """An empty folder proves nothing."""
    assert len(TRACES) >= 5
