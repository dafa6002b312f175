"""`make test` and `make prove` together run every test, and none twice."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import FIND_MOST

ROOT = Path(__file__).parents[3]


def collected(*arguments: str) -> Counter[str]:
    """Ids that pytest finds with these arguments."""
    command = [sys.executable, "-m", "pytest", *arguments, "-n", "0", "--collect-only"]
    found = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=300
    )
    return Counter(line for line in found.stdout.splitlines() if "::" in line)


def pytest_commands(*target: str) -> list[list[str]]:
    """The arguments of each pytest that a target of the Makefile runs."""
    # Below a `make prove` its own flags would change what is printed.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    plan = subprocess.run(
        ["make", "--dry-run", *target],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return [
        shlex.split(line.partition(" -m pytest ")[2])
        for line in plan.stdout.splitlines()
        if " -m pytest " in line
    ]


def test_what_finds_most_is_there() -> None:
    """A test that `make test` names exists: renamed, it would move to `make prove` unnoticed."""
    for entry in FIND_MOST:
        file, _, test = entry.partition("::")
        path = ROOT / "tests" / file
        assert path.is_file(), entry
        name = test.split("[")[0]
        assert not name or f"\ndef {name}(" in path.read_text(encoding="utf-8"), entry


@pytest.mark.prove
def test_no_test_is_forgotten() -> None:
    """What the two targets run is all that pytest finds here, each test in one of them only."""
    parts = Counter[str]()
    for target in ("test", "prove"):
        for arguments in pytest_commands(target):
            parts += collected(*arguments)
    assert parts == collected("-q")


@pytest.mark.prove
def test_nothing_is_left_out_after_a_check() -> None:
    """`make test AFTER=check`, as `.ci/run` has it, is what `make check` ran otherwise or not."""
    assert "\nmake check\n" in (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "\nmake test AFTER=check\n" in (ROOT / ".ci/run").read_text(encoding="utf-8")
    [check] = pytest_commands("check")
    after, *brokers = pytest_commands("test", "AFTER=check")
    alone, *same = pytest_commands("test")
    assert brokers == same
    checked, again, tests = collected(*check), collected(*after), collected(*alone)
    assert checked.keys() | again.keys() == tests.keys()
    assert collected(*check, "-m", "not prove and hypothesis").keys() <= again.keys()


def test_mutants_are_shown_the_tests_of_what_is_mutated() -> None:
    """Every file of tests of the core and of the runtime; the drawing needs a folder beside."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        shown = tomllib.load(file)["tool"]["mutmut"]["pytest_add_cli_args_test_selection"]
    unit = ROOT / "tests" / "unit"
    files = {str(p) for name in ("core", "runtime") for p in (unit / name).rglob("test_*.py")}
    assert files - {str(ROOT / path) for path in shown} == {str(unit / "core/test_states.py")}
    assert all((ROOT / path).exists() for path in shown)


def misplaced(tests: Path, package: Path) -> list[str]:
    """Tests in a folder that have the name of a module further down, and of none beside it."""
    found = []
    for path in sorted(tests.rglob("test_*.py")):
        folder = package / path.parent.relative_to(tests)
        name = path.name.removeprefix("test_")
        if not (folder / name).exists():
            found += [f"{path.name}: {home}" for home in folder.glob(f"*/{name}")]
    return found


def test_tests_lie_where_their_modules_do() -> None:
    """What has the name of a module is in the folder of its package, not in one above."""
    unit = ROOT / "tests" / "unit"
    packages = [path for path in unit.iterdir() if (ROOT / "kstash" / path.name).is_dir()]
    assert {"core", "operators", "runtime"} <= {path.name for path in packages}
    assert not [one for path in packages for one in misplaced(path, ROOT / "kstash" / path.name)]
