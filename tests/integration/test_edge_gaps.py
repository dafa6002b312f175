"""Inputs whose offsets have gaps: markers of transactions, aborted records, compacted ones."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # exported without __all__
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from kstash.failpoints import EXIT_FAILED, VARIABLE
from tests.chaos.harness import wait_until
from tests.integration.scene import Scene, Sent

pytestmark = pytest.mark.integration

COMPACTION_S_MAX = 60.0
"""The cleaner checks for work every second here, and once more after a segment is rolled."""


def crash_and_recover(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, inputs: list[str], sink: str, count: int
) -> list[bytes]:
    """Crash when outputs are out and their lineage is not, recover; returns all outputs."""
    settings: dict[str, Any] = {"lineage_ack_delay_ms": 500, "checkpoint_interval_ms": 60_000}
    monkeypatch.setenv(VARIABLE, "sink.ack.after:1")
    assert scene.worker("merged", inputs, sink, **settings).run() == EXIT_FAILED
    monkeypatch.delenv(VARIABLE)
    worker = scene.worker("merged", inputs, sink, **settings)
    worker.start_ready()
    assert "replaying" in worker.log()
    scene.wait_outputs(sink, count)
    assert worker.stop() == 0
    return [o.value or b"" for part in scene.outputs(sink).values() for o in part]


def test_inputs_written_in_transactions(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Committed records count once, aborted ones never, also in a replay over their gaps."""
    inputs, sink = [scene.topic("left"), scene.topic("right")], scene.topic("counts")
    producer = Producer(
        {"bootstrap.servers": scene.bootstrap, "transactional.id": f"input-{scene.mark}"}
    )
    producer.init_transactions(30)
    committed = 0
    for number in range(20):
        producer.begin_transaction()
        for index in range(number % 4 + 1):
            producer.produce(inputs[(number + index) % 2], b"v", b"k", 0)
        if number % 3 == 1:
            assert producer.flush(30) == 0  # the aborted records are in the log
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
            committed += number % 4 + 1
    values = crash_and_recover(scene, monkeypatch, inputs, sink, committed)
    assert values == [b"%d" % (number + 1) for number in range(committed)]


def test_an_input_that_was_compacted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What compaction left before the first start counts once, also in a replay over its gaps."""
    source, other, sink = scene.topic("left"), scene.topic("right"), scene.topic("counts")
    cleaner = ConfigResource(ConfigResource.Type.BROKER, "0")
    alter(scene, cleaner, **{"log.cleaner.backoff.ms": "1000"})
    topic = ConfigResource(ConfigResource.Type.TOPIC, source)
    alter(
        scene,
        topic,
        **{
            "cleanup.policy": "compact",
            "segment.bytes": "1048576",
            "segment.ms": "500",
            "min.cleanable.dirty.ratio": "0.01",
        },
    )
    for number in range(100):
        scene.send(source, [Sent(b"%d" % number, b"k%d" % (number % 7))])

    def is_compacted() -> bool:
        scene.send(source, [Sent(b"more", b"roll")])  # a write rolls the segment
        return count(scene, source) < 60

    wait_until(is_compacted, COMPACTION_S_MAX, "compaction")
    alter(scene, topic, **{"cleanup.policy": "delete", "segment.ms": "600000"})
    scene.send(other, [Sent(b"v", b"k1") for _ in range(20)])
    left = count(scene, source)
    values = crash_and_recover(scene, monkeypatch, [source, other], sink, left + 20)
    assert len(values) == left + 20
    assert values.count(b"1") == 8  # seven keys and the one that rolled


def alter(scene: Scene, resource: ConfigResource, **settings: str) -> None:
    """Change settings of a topic or of the brokers."""
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in settings.items()
    ]
    changed = ConfigResource(resource.restype, resource.name, incremental_configs=entries)
    for future in scene.admin.incremental_alter_configs([changed]).values():
        future.result(timeout=30)


def count(scene: Scene, topic: str) -> int:
    """How many records the only partition of a topic holds."""
    consumer = Consumer(
        {"bootstrap.servers": scene.bootstrap, "group.id": "count", "enable.partition.eof": True}
    )
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        found = 0
        while True:
            for message in consumer.consume(1000, 10):
                if message.error() is not None:
                    return found
                found += 1
    finally:
        consumer.close()
