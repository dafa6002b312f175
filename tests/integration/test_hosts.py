"""`app.run()` in processes that are no main program: it works there, and they outlive it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.scene import Scene, lines, sentences

pytestmark = pytest.mark.integration

UNPINNED = "hash seed not pinned"
TEXTS = sentences(40)
DEADLINE_S = 180

PROGRAM = """
import kstash
app = kstash.App({id!r}, bootstrap_servers={bootstrap!r}, state_dir={folder!r})
words = app.stream({source!r}, value=kstash.text).flat_map(str.split)
keyed = words.key_by(str, key=kstash.text)
keyed.count("words").to({sink!r}, value=kstash.int_text)
"""

THREAD = """
import threading
ready = threading.Event()
thread = threading.Thread(target=app.run, kwargs={"on_ready": ready.set})
thread.start()
assert ready.wait(60)
app.stop()
thread.join(60)
assert not thread.is_alive()
app.run(until="end")
print("after")
"""

BOUNDED_THREAD = """
import threading
thread = threading.Thread(target=app.run, args=["end"])
thread.start()
thread.join(60)
assert not thread.is_alive()
print("after")
"""

LOOP = """
import asyncio
async def main():
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()
    report = lambda: loop.call_soon_threadsafe(ready.set)
    running = asyncio.create_task(asyncio.to_thread(app.run, on_ready=report))
    await asyncio.wait_for(ready.wait(), 60)
    app.stop()
    await asyncio.wait_for(running, 60)
    app.run(until="end")
    print("after")
asyncio.run(main())
"""

TEST = """
def test_it():
    app.run(until="end")
    print("after")
"""


FAILING = """
import sys
def leave(word):
    sys.exit(0)
    return word
app.stream({source!r}).map(leave).to({sink!r}, value=kstash.text)
app.run(until="end")
print("after")
"""


class Host:
    """One test's program and topics."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._folder = scene.folder
        self._sink = scene.topic("counts", 2)
        source = scene.topic("sentences", 2)
        scene.send(source, lines(*TEXTS, partitions=2))
        self.program = PROGRAM.format(
            id=scene.application_id,
            bootstrap=scene.bootstrap,
            folder=str(scene.folder / "state"),
            source=source,
            sink=self._sink,
        )

    def write(self, text: str, name: str = "program.py") -> str:
        """Write a file; returns its name."""
        (self._folder / name).write_text(text)
        return name

    def run(self, *arguments: str, text: str = "", code: int = 0) -> str:
        """What a Python process of another hash seed writes; it ends with that exit code."""
        environment = {
            n: v for n, v in os.environ.items() if not n.startswith(("PYTHON", "PYTEST"))
        }
        done = subprocess.run(
            [sys.executable, *arguments],
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self._folder,
            env=environment,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def check(self, output: str) -> None:
        """The run has counted all words and warned about the seed, and its process went on."""
        assert output.count("after\n") == 1, output
        assert UNPINNED in output
        self._scene.check_words(self._sink, TEXTS)


@pytest.fixture
def host(scene: Scene) -> Host:
    """A program on the session's broker."""
    return Host(scene)


def test_a_prompt(host: Host) -> None:
    """The prompt is there afterwards, with what it held; a second run finds nothing to do."""
    run = "app.run(until='end')\n"
    host.check(host.run("-i", text=f"{host.program}\n{run}{run}print('after')\n"))


def test_a_console_within_a_program(host: Host) -> None:
    """As a debugger's or a server's console."""
    host.write("import code\ncode.interact()")
    host.check(
        host.run("program.py", text=f"{host.program}\napp.run(until='end')\nprint('after')\n")
    )


def test_a_program_from_standard_input(host: Host) -> None:
    """It runs to its end, where it ended with exit code 0 and nothing done."""
    host.check(host.run(text=f"{host.program}\napp.run(until='end')\nprint('after')"))


def test_a_thread(host: Host) -> None:
    """It works without signals, and ends by `App.stop`; the next run has the main thread."""
    output = host.run("-E", host.write(host.program + THREAD))
    host.check(output)
    assert "the program cannot be executed again: run() was called in a thread" not in output


def test_a_thread_of_a_program_with_another_seed(host: Host) -> None:
    """The program is not executed again below its other threads."""
    output = host.run(host.write(host.program + BOUNDED_THREAD))
    host.check(output)
    assert "the program cannot be executed again: run() was called in a thread" in output


def test_an_event_loop(host: Host) -> None:
    """In a thread of it, and within it, where it says that it holds it up."""
    output = host.run(host.write(host.program + LOOP))
    host.check(output)
    assert output.count("run() holds up the event loop until it returns") == 1


def test_pytest_runs_its_tests_once(host: Host) -> None:
    """A test may run an application; the session is not begun anew."""
    host.write(host.program + TEST, "test_program.py")
    output = host.run("-m", "pytest", "-s", "-p", "no:cacheprovider", "test_program.py")
    host.check(output)
    assert output.count("test session starts") == 1
    assert "1 passed" in output


def test_a_main_program_that_fails(host: Host, scene: Scene) -> None:
    """`sys.exit(0)` in a function is its error: exit code 1, the user's frames, none of ours."""
    source, sink = scene.topic("words"), scene.topic("left")
    scene.send(source, lines("one"))
    program = host.write(host.program + FAILING.format(source=source, sink=sink))
    output = host.run(program, code=1)
    assert "after" not in output
    assert UNPINNED not in output
    assert f"(topic {source!r}, partition 0, offset 0)" in output
    assert "in leave\n    sys.exit(0)" in output
    assert "kstash.errors.OperatorError: operator 'map(leave)" in output.splitlines()[-1]
    assert "kstash/operators" not in output
    assert "kstash/runtime" not in output


def test_a_notebook(host: Host) -> None:
    """A cell runs to the end of the input, again, and until it is interrupted; the kernel lives."""
    endless = "app.run(on_ready=lambda: print('INTERRUPT', flush=True))"
    cells = [
        host.program,
        "app.run(until='end')",
        endless,
        "app.run(until='end')",
        "print('after')",
    ]
    host.write(json.dumps(cells), "cells.json")
    notebook = Path(__file__).with_name("notebook.py")
    output = host.run(str(notebook), "cells.json")
    host.check(output)
    assert "stopping" in output
