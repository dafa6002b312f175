"""What kstash needs is declared, bounded where releases have broken it, and pinned for tests."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
NEEDED = [Requirement(text) for text in PROJECT["dependencies"]]
OF_USERS = [*NEEDED, *(Requirement(text) for text in EXTRAS["broker"] + EXTRAS["objects"])]


def pins() -> dict[str, str]:
    """Versions of constraints.txt by name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {plain(name): version for name, version in pairs}


def plain(name: str) -> str:
    """A distribution's name as it is compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(folder: Path) -> set[str]:
    """Top-level modules that the files of a folder import, anywhere in them."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"kstash", "apps", "tests"}


def test_what_is_imported_is_declared() -> None:
    """No module comes by way of another package's dependency, which may drop it."""
    declared = {plain(need.name) for need in OF_USERS} | {"pytest"}  # the plugin's own host
    known = packages_distributions()
    for module in imported(ROOT / "kstash"):
        assert {plain(name) for name in known[module]} & declared, module


@pytest.mark.parametrize("need", OF_USERS, ids=lambda need: need.name)
def test_major_versions_are_bounded(need: Requirement) -> None:
    """Each dependency has a lower bound and, unless its versions are dates, an upper one."""
    operators = {part.operator for part in need.specifier}
    assert ">=" in operators
    assert "<" in operators or need.name == "structlog"


def test_the_tests_run_with_what_is_allowed() -> None:
    """Each pinned version is one that a user may get, and each direct dependency is pinned."""
    pinned = pins()
    of_tests = [Requirement(text) for text in EXTRAS["dev"] + EXTRAS["bench"]]
    for need in [*OF_USERS, *of_tests]:
        if need.name != "kstash":
            assert need.specifier.contains(pinned[plain(need.name)]), need


def test_make_installs_the_pinned_versions() -> None:
    """The set-up that CI and people share uses the list, and is done anew when it changes."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^\$\(STAMP\):.* constraints\.txt", makefile, re.MULTILINE)
    assert "--constraint constraints.txt" in makefile
