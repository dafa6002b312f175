"""The examples of the pages for who writes programs run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[3] / "docs"


def examples(page: Path) -> list[tuple[int, str]]:
    """(line number, code) of each Python block."""
    text = page.read_text(encoding="utf-8")
    return [
        (text[: match.start(1)].count("\n"), match[1])
        for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


@pytest.mark.parametrize(("name", "least"), [("guide", 9), ("start", 2), ("testing", 1)])
def test_every_example_runs(name: str, least: int) -> None:
    """In order and in one namespace; a failure points into the page."""
    page = DOCS / f"{name}.md"
    found = examples(page)
    assert len(found) >= least
    namespace: dict[str, Any] = {"__name__": "guide"}
    for line, code in found:
        program = compile("\n" * line + code, str(page), "exec")
        try:
            exec(program, namespace)
        except Exception as error:
            pytest.fail(f"docs/{name}.md, example at line {line + 1}: {error!r}")
