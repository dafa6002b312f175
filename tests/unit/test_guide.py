"""The guide's examples run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"


def examples() -> list[tuple[int, str]]:
    """(line number, code) of each Python block."""
    text = GUIDE.read_text(encoding="utf-8")
    return [
        (text[: match.start(1)].count("\n"), match[1])
        for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def test_every_example_of_the_guide_runs() -> None:
    """In order and in one namespace; a failure points into the guide."""
    found = examples()
    assert len(found) > 8
    namespace: dict[str, Any] = {"__name__": "guide"}
    for line, code in found:
        program = compile("\n" * line + code, str(GUIDE), "exec")
        try:
            exec(program, namespace)
        except Exception as error:
            pytest.fail(f"docs/guide.md, example at line {line + 1}: {error!r}")
