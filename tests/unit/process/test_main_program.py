"""Whether a program can be executed again from where `run` is called, in each kind of process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from kstash.process import main_program as mainprogram

ASK = "from kstash.process.main_program import obstacle; print('obstacle:', obstacle(), flush=True)"
PIN = """
import structlog
from kstash.process.main_program import is_pinned, obstacle, pin_hash_seed
print("here", flush=True)
pin_hash_seed(obstacle())
print("pinned:", is_pinned(), flush=True)
"""
TYPED = mainprogram.INTERPRETER


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose `kstash` holds the module alone, so that each process starts at once."""
    (tmp_path / "kstash").mkdir()
    (tmp_path / "kstash" / "__init__.py").touch()
    (tmp_path / "kstash" / "mainprogram.py").symlink_to(mainprogram.__file__)
    return tmp_path


def python(
    *arguments: str, folder: Path, text: str = "", seed: str | None = None, code: int = 0
) -> str:
    """What a Python process writes to both outputs; fails on another exit code."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    if seed is not None:
        environment["PYTHONHASHSEED"] = seed
    done = subprocess.run(
        [sys.executable, *arguments],
        input=text,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def obstacle(output: str) -> str:
    """What `ASK` has printed."""
    [found] = re.findall(r"^(?:>>> |\.\.\. )*obstacle: (.*)$", output, re.MULTILINE)
    return str(found)


def program(folder: Path, text: str) -> str:
    """Write a program; returns its name."""
    (folder / "program.py").write_text(textwrap.dedent(text))
    return "program.py"


FILES = {
    "main": (ASK, "None"),
    "function": (f"def main():\n    {ASK}\nmain()", "None"),
    "command line": (
        f"import typer\napp = typer.Typer()\n@app.command()\ndef main():\n    {ASK}\napp()",
        "None",
    ),
    "thread": (
        f"import threading\ndef run():\n    {ASK}\nthreading.Thread(target=run).start()",
        "run() was called in a thread",
    ),
    "event loop": (
        f"import asyncio\nasync def main():\n    {ASK}\nasyncio.run(main())",
        "run() was called in an event loop",
    ),
    "thread of a loop": (
        f"import asyncio\ndef run():\n    {ASK}\n"
        "async def main():\n    await asyncio.to_thread(run)\nasyncio.run(main())",
        "run() was called in a thread",
    ),
    "copy": (
        f"import os\nif os.fork():\n    os.wait()\nelse:\n    {ASK}",
        "this process is the copy of another one",
    ),
    "pool": (
        "import multiprocessing\n"
        f"def run(_):\n    {ASK}\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        pool.map(run, [1])",
        "this process is the copy of another one",
    ),
    "console": (
        f"import code\ncode.InteractiveConsole().push({ASK!r})",
        "run() was called by code",
    ),
    "unittest": (
        "import unittest\nclass Case(unittest.TestCase):\n    def test(self):\n        "
        f"{ASK}\nunittest.main()",
        "run() was called by unittest",
    ),
    "debugger": (
        f"import sys\nsys.modules['pydevd'] = sys\n{ASK}",
        "a debugger runs it, and would lose it",
    ),
    "pdb": (f"import bdb\nbdb.Bdb().run({ASK!r})", TYPED),
    "another folder": (
        f"import os\nos.chdir('/')\n{ASK}",
        "its file is not where it was when it was started",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_program_in_a_file(kind: str, folder: Path) -> None:
    """It can be executed again where its own code alone has called, and from where it began."""
    text, expected = FILES[kind]
    assert obstacle(python(program(folder, text), folder=folder)) == expected


def test_a_module_and_an_option_can_be_executed_again(folder: Path) -> None:
    """`python -m`, `python -c`, and a file under `python -i` with what is typed after it."""
    program(folder, ASK)
    assert obstacle(python("-m", "program", folder=folder)) == "None"
    assert obstacle(python("-c", ASK, folder=folder)) == "None"
    assert obstacle(python("-i", "program.py", folder=folder)) == "None"


def test_what_was_typed_cannot_be_executed_again(folder: Path) -> None:
    """A program from standard input, a prompt, and one after a program that has ended."""
    assert obstacle(python(folder=folder, text=ASK)) == TYPED
    assert obstacle(python("-", folder=folder, text=ASK)) == TYPED
    assert obstacle(python("-i", folder=folder, text=ASK + "\n")) == TYPED
    program(folder, f"def main():\n    {ASK}\n")
    assert obstacle(python("-i", "program.py", folder=folder, text="main()\n")) == TYPED


def test_a_test_is_no_program() -> None:
    """This test itself: pytest would run all of its tests again."""
    assert mainprogram.obstacle() in (
        "run() was called by pytest",
        "run() was called by pluggy",
        TYPED,  # under xdist there is no main module
        "run() was called by execnet",
    )


def test_a_program_is_executed_again_once(folder: Path) -> None:
    """With the pinned seed in the second life; a program that has it lives once."""
    name = program(folder, PIN)
    assert python(name, folder=folder) == "here\nhere\npinned: True\n"
    assert python(name, folder=folder, seed="7") == "here\nhere\npinned: True\n"
    assert python(name, folder=folder, seed="0") == "here\npinned: True\n"


@pytest.mark.parametrize(
    ("option", "lives", "reason"),
    [
        ("-E", 1, "Python was started with -E or -I"),
        ("-I", 1, "Python was started with -E or -I"),
        ("-R", 2, "Python's -R does that"),
    ],
)
def test_options_that_ignore_the_seed(option: str, lives: int, reason: str, folder: Path) -> None:
    """The program goes on, and says why its seed is not pinned and what follows."""
    output = python(option, program(folder, PIN), folder=folder)
    assert output.count("here\n") == lives
    assert "pinned: False" in output
    assert output.count("hash seed not pinned") == 1
    assert reason in output
    assert "ReplayDivergedError" in output


def test_a_program_from_standard_input_goes_on(folder: Path) -> None:
    """Its lines are gone: executed again it would do nothing, with exit code 0."""
    output = python(folder=folder, text=PIN)
    assert output.count("here\n") == 1
    assert "pinned: False" in output
    assert "the program cannot be executed again" in output


def test_seeds_are_distinguished(folder: Path) -> None:
    """Equal seeds have equal values, others do not, and the pinned one goes without saying."""
    show = "from kstash.process.main_program import hashing; print(hashing())"
    seeds = [python("-c", show, folder=folder, seed=seed).strip() for seed in "0778"]
    assert seeds[0] == ""
    assert seeds[1] == seeds[2] != seeds[3]
    assert all(re.fullmatch("[0-9a-f]{16}", seed) for seed in seeds[1:])
