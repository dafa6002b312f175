"""A worker whose system clock is set back and forth, on a real broker."""

from __future__ import annotations

import time

import pytest

from tests.integration.scene import Scene, lines, sentences

pytestmark = pytest.mark.integration


def test_a_worker_whose_clock_jumps(scene: Scene) -> None:
    """Hours ahead and a day back by turns: it recovers, counts on exactly once, and stops."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    worker = scene.worker(
        "words",
        [source],
        sink,
        options={"clock_jumps": True},
        checkpoint_interval_ms=100,
        lineage_ack_delay_ms=100,
    )
    texts = sentences(120)
    for part in range(3):
        worker.start_ready()
        for start in range(part * 40, part * 40 + 40, 4):
            scene.send(source, lines(*texts[start : start + 4], partitions=2))
            time.sleep(0.05)  # some input under each of the clock's settings
        scene.wait_outputs(sink, (part + 1) * 200)
        if part < 2:
            worker.kill()
    assert worker.stop() == 0
    scene.check_words(sink, texts)
    log = worker.log()
    assert "starts over" not in log
    assert "made anew" not in log


@pytest.mark.parametrize("guarantee", ["exactly_once", "write_first"])
def test_a_sink_with_the_brokers_timestamps(scene: Scene, guarantee: str) -> None:
    """H43: `message.timestamp.type=LogAppendTime` keeps none of ours; a killed worker goes on."""
    source = scene.topic("sentences")
    sink = scene.topic("counts", message_timestamp_type="LogAppendTime")
    worker = scene.worker(
        "words", [source], sink, guarantee=guarantee, checkpoint_interval_ms=60_000
    )
    texts = sentences(30)
    worker.start_ready()
    scene.send(source, lines(*texts[:20]))
    scene.wait_outputs(sink, 100)
    worker.kill()
    scene.send(source, lines(*texts[20:]))
    worker.start_ready()
    scene.wait_outputs(sink, 150)
    assert worker.stop() == 0
    scene.check_words(sink, texts)
