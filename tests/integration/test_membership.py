"""Who is in the group: static members, scale-down, failover, other programs, added partitions."""

from __future__ import annotations

import re
import signal
from typing import Any

import pytest
from confluent_kafka.cimpl import NewPartitions

from kstash.failpoints import EXIT_FAILED, VARIABLE
from tests.chaos.harness import wait_until
from tests.integration.scene import Process, Scene, lines, sentences

pytestmark = pytest.mark.integration

LONG_SESSION_MS = 120_000
"""Longer than any wait of these tests: what happens within them did not wait for it."""
MOVE_S_MAX = 60.0


def _live(worker: Process) -> list[int]:
    """Groups that went live in a worker, in order."""
    return [int(g) for g in re.findall(r"task group live .* group=(\d+) ", worker.log())]


def _pair(scene: Scene, **settings: Any) -> tuple[str, str, Process, Process]:
    """Topics of two partitions, and two workers that have a task group each."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    first, second = (
        scene.worker("words", [source], sink, name=name, checkpoint_interval_ms=500, **settings)
        for name in ("first", "second")
    )
    first.start_ready()
    second.start_ready()
    wait_until(lambda: len(_live(second)) == 1, MOVE_S_MAX, "the move")
    return source, sink, first, second


def test_a_static_member_keeps_its_place_over_an_orderly_stop(scene: Scene) -> None:
    """Rolling update: it comes back to its own group, and the other worker notices nothing."""
    source, sink, first, second = _pair(scene, session_timeout_ms=LONG_SESSION_MS)
    texts = sentences(400)
    scene.send(source, lines(*texts[:200], partitions=2))
    scene.wait_outputs(sink, 1_000)
    lives = _live(first)
    assert second.stop() == 0
    scene.send(source, lines(*texts[200:], partitions=2))
    second.start_ready()
    scene.wait_outputs(sink, 2_000)
    assert _live(second)[0] == _live(second)[1]
    assert _live(first) == lives
    assert "replayed=0" in second.log().splitlines()[-1] or second.log().count("replayed=0") >= 1
    assert [first.stop(), second.stop()] == [0, 0]
    scene.check_words(sink, texts)


def test_scale_down_hands_over_at_once(scene: Scene) -> None:
    """With `leave_on_stop` the other worker has everything long before the session ends."""
    source, sink, first, second = _pair(
        scene, session_timeout_ms=LONG_SESSION_MS, leave_on_stop=True
    )
    assert second.stop() == 0
    wait_until(lambda: len(_live(first)) == 3, MOVE_S_MAX, "the group that was left")
    texts = sentences(200)
    scene.send(source, lines(*texts, partitions=2))
    scene.wait_outputs(sink, 1_000)
    assert first.stop() == 0
    scene.check_words(sink, texts)


def test_h60_a_worker_that_dies_while_it_gives_a_group_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H60: it is back under its name without a rebalance, and the group is nobody's for a while.

    Its session is far from its end, so nothing but the check of the owners can mend that.
    """
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    texts = sentences(200)
    scene.send(source, lines(*texts[:100], partitions=2))

    def worker(name: str) -> Process:
        return scene.worker("words", [source], sink, name=name, session_timeout_ms=LONG_SESSION_MS)

    monkeypatch.setenv(VARIABLE, "lineage.release.append.before")
    first = worker("first")
    monkeypatch.delenv(VARIABLE)
    again, second = worker("first"), worker("second")
    first.start_ready()
    second.start()
    assert first.wait(MOVE_S_MAX) == EXIT_FAILED
    again.start_ready()
    second.wait_log("task group live", MOVE_S_MAX)
    assert "task groups without an owner, they are shared out anew" in again.log() + second.log()
    scene.send(source, lines(*texts[100:], partitions=2))
    scene.wait_outputs(sink, 1_000)
    assert [again.stop(), second.stop()] == [0, 0]
    scene.check_words(sink, texts)


def test_failover_without_a_restart(scene: Scene) -> None:
    """A worker that is gone for good is replaced when its session has timed out."""
    source, sink, first, second = _pair(scene, session_timeout_ms=6_000)
    texts = sentences(400)
    scene.send(source, lines(*texts[:200], partitions=2))
    scene.wait_outputs(sink, 1_000)
    second.send(signal.SIGKILL)
    scene.send(source, lines(*texts[200:], partitions=2))
    scene.wait_outputs(sink, 2_000)
    assert len(_live(first)) == 3
    assert first.stop() == 0
    scene.check_words(sink, texts)


@pytest.mark.parametrize(
    ("running", "program", "guarantee", "error"),
    [
        ("exactly_once", "copy", "exactly_once", "ProgramChangedError"),
        ("exactly_once", "words", "at_least_once", "ProgramChangedError"),
        ("exactly_once", "words", "none", "ProgramChangedError"),
        # Without recovery there is no lineage that could show it: the group does.
        ("none", "copy", "none", "ApplicationIdTakenError"),
    ],
)
def test_another_program_under_a_running_id_is_refused(
    scene: Scene, running: str, program: str, guarantee: str, error: str
) -> None:
    """Another program, or another guarantee, does not start, and what runs is not disturbed."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    first = scene.worker("words", [source], sink, name="first", guarantee=running)
    first.start_ready()
    other = scene.worker(program, [source], sink, name="other", guarantee=guarantee)
    assert other.run() == 1
    assert f"{error}: " in other.log()
    texts = sentences(100)
    scene.send(source, lines(*texts, partitions=2))
    scene.wait_outputs(sink, 500)
    assert first.stop() == 0
    assert "move to another worker" not in first.log()
    scene.check_words(sink, texts)


def test_places_that_another_program_left_are_not_inherited(scene: Scene) -> None:
    """The broker keeps the client id of a place taken over: the next one would be refused."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    settings: dict[str, Any] = {"guarantee": "none", "session_timeout_ms": 6_000}
    before = scene.worker("words", [source], sink, name="first", **settings)
    before.start_ready()
    assert before.stop() == 0  # its membership stays, for a session
    first = scene.worker("copy", [source], sink, name="first", **settings)
    second = scene.worker("copy", [source], sink, name="second", **settings)
    first.start_ready()
    second.start_ready()
    assert [first.stop(), second.stop()] == [0, 0]


def test_a_partition_that_is_added_while_running(scene: Scene) -> None:
    """The count is pinned: what runs goes on with what it has, and the next start is refused."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    worker = scene.worker("words", [source], sink)
    worker.start_ready()
    texts = sentences(200)
    scene.send(source, lines(*texts[:100], partitions=2))
    scene.wait_outputs(sink, 500)
    for future in scene.admin.create_partitions([NewPartitions(source, 3)]).values():
        future.result(timeout=30)
    scene.send(source, lines(*texts[100:], partitions=2))
    scene.wait_outputs(sink, 1_000)
    assert worker.stop() == 0
    scene.check_words(sink, texts)
    assert worker.run() == 1
    error = worker.log().splitlines()[-1]
    assert "TopicMismatchError" in error or "ProgramChangedError" in error
    assert source in error or "partition" in error
