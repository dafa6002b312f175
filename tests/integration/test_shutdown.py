"""SIGTERM and SIGINT: finish, checkpoint, release, leave, exit 0; no replay at the next start."""

from __future__ import annotations

import re
import signal
import time

import pytest

from tests.integration.scene import Scene, Sent, lines, sentences

pytestmark = pytest.mark.integration

STOP_S_MAX = 20.0


def test_stopped_workers_replay_nothing(scene: Scene) -> None:
    """After SIGTERM and after SIGINT the exit code is 0, and the next start replays nothing."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    worker = scene.worker("words", [source], sink, checkpoint_interval_ms=60_000, instance_id=None)
    texts: list[str] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        worker.start_ready()
        more = sentences(200)
        texts += more
        scene.send(source, lines(*more, partitions=2))
        scene.wait_outputs(sink, len(texts) * 5)
        worker.send(number)
        assert worker.wait(STOP_S_MAX) == 0
    worker.start_ready()
    assert worker.stop() == 0
    log = worker.log()
    assert log.count("task group live") == 6
    assert log.count("replayed=0") == 6
    assert log.count("] stopped ") == 3
    assert "Traceback" not in log
    scene.check_words(sink, texts)


def test_stopping_in_the_middle_of_the_input(scene: Scene) -> None:
    """Stopped while it is busy, a worker finishes what it took and leaves the rest to the next."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    texts = sentences(20_000)
    scene.send(source, lines(*texts, partitions=2))
    worker = scene.worker("words", [source], sink, checkpoint_interval_ms=60_000)
    worker.start_ready()
    scene.wait_outputs(sink, 1)
    assert worker.stop() == 0
    worker.start_ready()
    scene.wait_outputs(sink, len(texts) * 5)
    assert worker.stop() == 0
    assert worker.log().count("replayed=0") == 4
    scene.check_words(sink, texts)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("line", ["starting ", "topics with fewer than 3 replicas"])
def test_stopping_before_anything_is_owned(scene: Scene, line: str, number: signal.Signals) -> None:
    """A worker that is stopped while it starts ends soon, in order, without a traceback."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    scene.send(source, lines("a"))
    worker = scene.worker("words", [source], sink)
    worker.start()
    worker.wait_log(line)  # it has begun to work
    worker.send(number)
    assert worker.wait(STOP_S_MAX) == 0
    assert re.search("stopped", worker.log())
    assert "Traceback" not in worker.log()
    worker.start_ready()
    scene.wait_outputs(sink, 1)
    assert worker.stop() == 0
    scene.check_words(sink, ["a"])


def test_a_reset_right_after_an_orderly_stop(scene: Scene) -> None:
    """The place of a static member is kept for a session: it is waited for, and not refused."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    scene.send(source, lines("a b a"))
    worker = scene.worker("words", [source], sink)
    worker.start_ready()
    scene.wait_outputs(sink, 3)
    assert worker.stop() == 0
    command = ["kstash.cli.main", "reset", scene.application_id, "-b", scene.bootstrap]
    reset = scene.process("reset", [*command, "--state-dir", str(scene.folder / "state-worker")])
    assert reset.run() == 0
    assert re.search("waiting up to 15 s for worker at .* to leave the group", reset.log())
    worker.start_ready()
    scene.wait_outputs(sink, 6)
    assert worker.stop() == 0
    found = [(record.key, record.value) for record in scene.outputs(sink)[0]]
    assert sorted(found) == sorted([(b"a", b"1"), (b"b", b"1"), (b"a", b"2")] * 2)


def test_a_second_signal_ends_at_once(scene: Scene) -> None:
    """A worker that cannot drain goes at the second signal, and nothing is lost."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    worker = scene.worker(
        "merged",
        [source, scene.topic("others")],
        sink,
        # Lineage that is not acknowledged for a second holds up the drain.
        lineage_ack_delay_ms=1000,
    )
    worker.start_ready()
    scene.send(source, [Sent(b"x", b"k") for _ in range(10)])
    scene.wait_outputs(sink, 10)
    scene.send(source, [Sent(b"x", b"k") for _ in range(10)])
    worker.send(signal.SIGTERM)
    worker.wait_log("stopping")
    started = time.monotonic()
    worker.send(signal.SIGTERM)
    assert worker.wait(STOP_S_MAX) == 128 + signal.SIGTERM
    assert time.monotonic() - started < 5
    worker.start_ready()
    scene.wait_outputs(sink, 20)
    assert worker.stop() == 0
