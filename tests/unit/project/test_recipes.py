"""The recipes run as they stand, and each goes through a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.project.test_guide import DOCS, examples

FOLDER = DOCS / "recipes"
RECIPES = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")


@pytest.mark.parametrize("page", RECIPES, ids=lambda page: page.stem)
def test_each_recipe_runs(page: Path) -> None:
    """One program, with its test, that can be read in a minute."""
    text = page.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    ((line, code),) = examples(page)
    assert "driver.crash()" in code
    assert "assert " in code
    namespace: dict[str, Any] = {"__name__": page.stem}
    exec(compile("\n" * line + code, str(page), "exec"), namespace)


def test_the_list_has_them_all() -> None:
    """Each page is listed, under what one wants."""
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert len(RECIPES) >= 8
    assert [page.name for page in RECIPES if f"({page.name})" not in listed] == []
