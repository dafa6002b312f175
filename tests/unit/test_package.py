"""The package as users import it."""

from __future__ import annotations

import builtins
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import kstash
from kstash import errors
from kstash.cli.programs import load_app

ROOT = Path(__file__).parents[2]
INSIDE = {"JobCancelledError"}
"""Never leaves a thread of kstash's."""


def test_each_error_can_be_caught_by_its_name() -> None:
    """All of `kstash.errors` are in the package, and are shown as such in a traceback."""
    names = {name for name in dir(errors) if name.endswith("Error")} - INSIDE
    assert names <= set(kstash.__all__)
    assert {getattr(kstash, name).__module__ for name in names} == {"kstash"}
    assert all(getattr(kstash, name) is getattr(errors, name) for name in names)


def test_each_error_that_a_document_names_is_there() -> None:
    """A document that says `SomeError` means one that a program can import."""
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    named = {
        name
        for document in documents
        for name in re.findall(r"`(?:kstash\.)?([A-Z]\w+Error)`", document.read_text())
    }
    known = {*kstash.__all__, *dir(builtins)}
    assert named
    assert not named - known


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


def test_a_folder_that_is_hidden_by_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder `kstash` beside the program is not what Python looks into."""
    (tmp_path / "kstash").mkdir()
    (tmp_path / "kstash" / "mine.py").write_text("app = None")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kstash.ConfigError, match="give the folder another name"):
        load_app("kstash.mine:app")
