"""A batch that the client cannot read, on a real Kafka (H54)."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from tests.integration.scene import Scene, lines

pytestmark = pytest.mark.integration

RECORDS = 12
RECORD_BYTES = 10_000_000
"""Together more than `receive.message.max.bytes`, 100 MB, of which zstd makes a few kilobytes."""


def write_bomb(scene: Scene, topic: str) -> None:
    """One batch whose content is larger than the client takes."""
    producer = Producer(
        {
            "bootstrap.servers": scene.bootstrap,
            "compression.type": "zstd",
            "message.max.bytes": 1_000_000_000,
            "batch.size": 1_000_000_000,
            "linger.ms": 2_000,
            "queue.buffering.max.kbytes": 2_000_000,
        }
    )
    for _ in range(RECORDS):
        producer.produce(topic, bytes(RECORD_BYTES), partition=0)
    assert producer.flush(60) == 0


def test_a_batch_that_cannot_be_decompressed(scene: Scene) -> None:
    """The worker ends and names its offsets; passed over, it goes on after it, in replays too."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    scene.send(source, lines("one", "two"))
    write_bomb(scene, source)
    scene.send(source, lines("three"))
    worker = scene.worker("words", [source], sink)
    assert worker.run() == 1
    place = f"{source}/0/2-{RECORDS + 1}"
    log = worker.log()
    assert f"RecordUnreadableError: the batch of offsets 2 to {RECORDS + 1} cannot be read" in log
    assert f"skip_records={place} passes it over" in log
    skipping = scene.worker("words", [source], sink, skip_records=place)
    skipping.start_ready()
    scene.wait_outputs(sink, 3)
    skipping.kill()
    scene.send(source, lines("four"))
    worker.start_ready()
    scene.wait_outputs(sink, 4)
    assert worker.stop() == 0
    scene.check_words(sink, ["one two three four"])
