"""Supervised workers on a real Kafka: killed, stopped, orphaned, run to the end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.chaos.harness import wait_until
from tests.integration.scene import Process, Scene, lines, sentences

pytestmark = pytest.mark.integration

STOP_S_MAX = 45.0
"""Beyond this the supervisor itself would have killed its workers."""


def _children(process: Process) -> list[int]:
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(number) for number in found.split()]


def _are_gone(processes: list[int]) -> bool:
    return not any(Path(f"/proc/{process}").exists() for process in processes)


def test_supervised_workers_survive_a_kill_and_stop_in_order(scene: Scene) -> None:
    """One of three is killed and comes back under its name, the others notice nothing.

    The process that stood by takes its place, and another one stands by then.
    """
    source, sink = scene.topic("sentences", 3), scene.topic("counts", 3)
    texts = sentences(3_000)
    scene.send(source, lines(*texts[:1_000], partitions=3))
    app = scene.worker("words", [source], sink, workers=3, checkpoint_interval_ms=500)
    app.start_ready()
    scene.wait_outputs(sink, 1_000)
    wait_until(lambda: len(_children(app)) == 4, STOP_S_MAX, "a process that stands by")
    before = _children(app)
    live = app.log().count("task group live")
    os.kill(before[1], signal.SIGKILL)
    scene.send(source, lines(*texts[1_000:], partitions=3))
    scene.wait_outputs(sink, 15_000)
    wait_until(lambda: len(_children(app)) == 4, STOP_S_MAX, "another process that stands by")
    after = _children(app)
    assert set(before) - set(after) == {before[1]}
    assert app.stop() == 0
    assert app.output == ["READY", "DONE"]
    assert _are_gone(after)
    log = app.log()
    assert log.count("worker ended, it is started again") == 1
    # Each has one group: only that of the one that came back was live again.
    assert log.count("task group live") == live + 1
    assert "task groups lost" not in log
    folders = sorted(path.name for path in (scene.folder / "state-worker").iterdir())
    assert folders == ["worker-0", "worker-1", "worker-2"]
    scene.check_words(sink, texts)


def test_killed_supervisor_takes_its_workers_with_it(scene: Scene) -> None:
    """None is left, and a new supervisor has their memberships at once; nothing is lost."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    texts = sentences(2_000)
    scene.send(source, lines(*texts[:1_000], partitions=2))
    app = scene.worker("words", [source], sink, workers=2, checkpoint_interval_ms=500)
    app.start_ready()
    workers = _children(app)
    scene.wait_outputs(sink, 1)
    app.kill()
    wait_until(lambda: _are_gone(workers), STOP_S_MAX, "the end of the workers")
    app.start_ready()
    scene.send(source, lines(*texts[1_000:], partitions=2))
    scene.wait_outputs(sink, 10_000)
    assert app.stop() == 0
    scene.check_words(sink, texts)


def test_supervised_run_to_the_end(scene: Scene) -> None:
    """All workers end, the supervisor returns, and what follows `run` happens once."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    texts = sentences(1_000)
    scene.send(source, lines(*texts, partitions=2))
    app = scene.worker("words", [source], sink, workers=2, until="end")
    assert app.run() == 0
    assert app.output[-1] == "DONE"
    assert app.output.count("DONE") == 1
    assert "Traceback" not in app.log()
    scene.check_words(sink, texts)


def test_program_that_fails_is_given_up(scene: Scene) -> None:
    """A poison record ends worker after worker: the error shows what the user has to know."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    scene.send(source, lines("good", "bad"))
    options = {"poison": "bad"}
    app = scene.worker("words", [source], sink, workers=1, options=options)
    assert app.run(120.0) == 1
    log = app.log()
    assert "WorkerFailedError: worker-0 ended 5 times within 10 s of its start" in log
    assert "cannot take bad" in log.split("its last lines:")[1]
    assert log.count("user code failed") >= 5
