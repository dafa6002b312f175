"""The package as users import it."""

from __future__ import annotations

import builtins
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import kstash
from kstash import errors
from kstash.cli.programs import load_app

ROOT = Path(__file__).parents[3]
BASES = {
    *("KstashError", "ProgramError", "ConfigError", "ClusterError", "ProtocolError", "StateError"),
}
"""Whose fault it is: who catches by that needs `kstash` alone."""


def error_classes() -> set[str]:
    """Those that the modules of `kstash.errors` define."""
    files = (ROOT / "kstash" / "errors").glob("*.py")
    return {name for file in files for name in re.findall(r"^class (\w+)", file.read_text(), re.M)}


def test_each_error_is_public_in_one_place() -> None:
    """All that can be raised are in `kstash.errors`, and nothing else is."""
    assert set(errors.__all__) == error_classes()
    assert all(issubclass(getattr(errors, name), kstash.KstashError) for name in errors.__all__)


def test_each_folder_of_code_is_packed() -> None:
    """A wheel has what the list names, and an import of anything else fails in it alone."""
    packed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    files = [*(ROOT / "kstash").rglob("__init__.py"), *(ROOT / "apps").rglob("__init__.py")]
    names = (".".join(path.parent.relative_to(ROOT).parts) for path in files)
    assert {name if name.startswith("kstash") else f"kstash.{name}" for name in names} == set(
        packed
    )


def test_the_bases_of_errors_are_at_the_top() -> None:
    """Those six and no other: a program catches by fault, or names one of `kstash.errors`."""
    assert {name for name in kstash.__all__ if name.endswith("Error")} == BASES
    assert {name for name in dir(kstash) if name.endswith("Error")} == BASES


def test_errors_are_shown_as_users_import_them() -> None:
    """In the last line of a traceback."""
    for name in errors.__all__:
        place = "kstash" if name in BASES else "kstash.errors"
        assert getattr(errors, name).__module__ == place
        assert getattr(sys.modules[place], name) is getattr(errors, name)


def test_all_packages_are_shipped() -> None:
    """Each folder of modules is in the list that the wheel is made by."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        shipped = tomllib.load(file)["tool"]["setuptools"]["packages"]
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "kstash").rglob("__init__.py")
    }
    found |= {f"kstash.apps.{path.parent.name}" for path in (ROOT / "apps").glob("*/__init__.py")}
    assert found <= set(shipped)


def test_each_error_that_a_document_names_is_there() -> None:
    """A document that says `SomeError` means one that a program can import."""
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    named = {
        (place, name)
        for document in documents
        for place, name in re.findall(
            r"\b(kstash\.|kstash\.errors\.|`)([A-Z]\w+Error)\b", document.read_text()
        )
    }
    known = {*errors.__all__, *dir(builtins)}
    assert named
    assert not {name for _, name in named} - known
    assert {name for place, name in named if place == "kstash."} <= BASES


def test_the_version() -> None:
    """That of the distribution."""
    assert kstash.__version__ == metadata.version("kstash")


def test_python_m_kstash() -> None:
    """The same as the command."""
    done = subprocess.run(
        [sys.executable, "-m", "kstash", "--version"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.strip() == f"kstash {kstash.__version__}"


@pytest.mark.parametrize(
    ("program", "meant"),
    [("prog.py", "prog:app"), ("./a/prog.py:main", "a.prog:main"), ("a/prog", "a.prog:app")],
)
def test_a_file_in_place_of_a_module(program: str, meant: str) -> None:
    """`kstash run` says which module is meant, and executes nothing."""
    with pytest.raises(kstash.ConfigError, match=f"such as {meant}$"):
        load_app(program)


@pytest.mark.parametrize(
    ("file", "program", "words"),
    [
        ("kstash/mine.py", "kstash.mine:app", ("kstash/mine.py", "module 'kstash'")),
        ("kstash/__init__.py", "kstash:app", ("kstash/__init__.py", "module 'kstash'")),
        ("kstash.py", "kstash", ("kstash.py", "module 'kstash'")),
        ("queue.py", "queue:app", ("queue.py", "module 'queue'", "/queue.py")),
        ("time.py", "time:app", ("time.py", "module 'time'", "of Python")),
        ("typer/mine.py", "typer.mine:app", ("typer/mine.py", "module 'typer'")),
    ],
)
def test_a_program_that_is_hidden_by_another_module(
    file: str, program: str, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What kstash and Python have imported before is not looked for again: give it another name."""
    import queue  # noqa: F401 - as somebody always has

    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("app = None")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kstash.ConfigError, match="is hidden by another module") as caught:
        load_app(program)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_program_that_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was imported from here, also by a link, and one that is nowhere."""
    (tmp_path / "elsewhere.py").write_text("other = None")
    name = f"linked_{tmp_path.name}"
    (tmp_path / f"{name}.py").symlink_to(tmp_path / "elsewhere.py")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        with pytest.raises(kstash.ConfigError, match="has no App named 'app'"):
            load_app(f"{name}:app")
    with pytest.raises(kstash.ConfigError, match=r"no module 'kstash\.nowhere' here"):
        load_app("kstash.nowhere:app")


@pytest.mark.parametrize("file", ["kstash/mine.py", "kstash/__init__.py"])
def test_python_m_kstash_beside_a_folder_of_that_name(file: str, tmp_path: Path) -> None:
    """Python takes the folder for the package: the message says which, and what to do."""
    path = tmp_path / file
    path.parent.mkdir()
    path.touch()
    done = subprocess.run(
        [sys.executable, "-m", "kstash", "--version"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {path.parent} hides the package kstash, since it has the same name: give it "
        "another one, or start Python elsewhere\n"
    )
