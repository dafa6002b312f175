"""A broker that is away for a while: workers wait, say so and go on; nothing is lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kstash.broker import DevBroker
from tests.chaos.checkers import check_counts
from tests.chaos.harness import MORTAL
from tests.integration.scene import Process, Scene, Sent, lines, sentences

pytestmark = pytest.mark.integration

PAUSE_S = 17.0
"""Longer than the session and the transactions last."""


@pytest.fixture(scope="module")
def fragile_broker() -> Iterator[DevBroker]:
    """A broker that these tests may hurt."""
    with DevBroker(config=MORTAL) as broker:
        yield broker


@pytest.fixture
def scene_address(fragile_broker: DevBroker) -> str:
    """Topics and workers are on that broker."""
    return fragile_broker.bootstrap_servers


def _busy_worker(scene: Scene, source: str, sink: str, **settings: Any) -> Process:
    worker = scene.worker("words", [source], sink, checkpoint_interval_ms=500, **settings)
    worker.start_ready()
    return worker


def test_a_broker_that_dies_and_comes_back(scene: Scene, fragile_broker: DevBroker) -> None:
    """Killed in the middle of the work: the worker degrades with a log line, then goes on."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    texts = sentences(10_000)
    scene.send(source, lines(*texts, partitions=2))
    worker = _busy_worker(scene, source, sink)
    scene.wait_outputs(sink, 1)
    fragile_broker.kill()
    worker.wait_log("broker unreachable, waiting")
    assert worker.is_running()
    fragile_broker.restart()
    scene.wait_outputs(sink, 50_000)
    worker.wait_log("broker reachable again")
    more = sentences(100)
    scene.send(source, lines(*more, partitions=2))
    scene.wait_outputs(sink, 50_500)
    assert worker.stop() == 0
    scene.check_words(sink, texts + more)


def test_a_pause_beyond_the_transaction_timeout(scene: Scene, fragile_broker: DevBroker) -> None:
    """A broker that answers nothing for longer than all timeouts: groups start over, then go on.

    Both deliveries: the broker has aborted what was open, and what is left of it is in headers.
    """
    source, other, sink = scene.topic("left"), scene.topic("right"), scene.topic("counts")
    plain = scene.topic("plain")
    worker = scene.worker(
        "merged", [source, other], sink, options={"plain": plain}, checkpoint_interval_ms=500
    )
    worker.start_ready()
    records = [Sent(b"v", b"k%d" % (i % 7)) for i in range(5000)]
    scene.send(source, records)
    scene.send(other, records)
    scene.wait_outputs(sink, 1)
    fragile_broker.pause()
    started = time.monotonic()
    try:
        while time.monotonic() - started < PAUSE_S:
            assert worker.is_running(), "the worker did not survive the pause"
            time.sleep(0.5)
    finally:
        fragile_broker.resume()
    for topic in (sink, plain):
        scene.wait_outputs(topic, 10_000)
    assert worker.stop() == 0
    counts = {f"k{i}": 2 * len(range(i, 5000, 7)) for i in range(7)}
    for topic in (sink, plain):
        check_counts(scene.outputs(topic), counts)


def test_a_stop_while_the_broker_is_away(scene: Scene, fragile_broker: DevBroker) -> None:
    """SIGTERM is followed within the deadline, though nothing can be released."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    texts = sentences(200)
    scene.send(source, lines(*texts))
    worker = _busy_worker(scene, source, sink, shutdown_timeout_ms=3000)
    scene.wait_outputs(sink, 1000)
    fragile_broker.kill()
    try:
        worker.wait_log("broker unreachable, waiting")
        worker.send(signal.SIGTERM)
        assert worker.wait(15) == 0
    finally:
        fragile_broker.restart()
    worker.start_ready()
    scene.send(source, lines("one more"))
    scene.wait_outputs(sink, 1002)
    assert worker.stop() == 0
    scene.check_words(sink, [*texts, "one more"])


def test_a_broker_that_dies_while_a_worker_recovers(
    scene: Scene, fragile_broker: DevBroker
) -> None:
    """A recovery that loses its broker begins anew, as often as it takes."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    texts = sentences(2000)
    scene.send(source, lines(*texts, partitions=2))
    worker = _busy_worker(scene, source, sink)
    scene.wait_outputs(sink, 1)
    worker.kill()
    worker.start()
    worker.wait_log("(?s)fit for development.*fit for development")  # its second life has begun
    fragile_broker.kill()
    time.sleep(1)
    fragile_broker.restart()
    worker.wait_ready()
    scene.wait_outputs(sink, 10_000)
    assert worker.stop() == 0
    scene.check_words(sink, texts)
