"""A long run leaves small topics: lineage, checkpoints and repartitions stay flat, inputs grow.

The broker rolls segments each second and cleans at once, so that seconds stand for hours.
`KSTASH_GROWTH_SECONDS=3600` runs for an hour. Source: protocol, H23 and I8.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined] # exported without __all__
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)
from kafka import KafkaConsumer, TopicPartition

from kstash.broker import DevBroker
from tests.chaos.checkers import check_counts
from tests.integration.scene import Scene, Sent

SECONDS = int(os.environ.get("KSTASH_GROWTH_SECONDS", "36"))
RECORDS_A_TURN = 60
TURN_S = 0.2
KEYS = 40

SMALL_COMPACTED = {
    "segment.ms": "1000",
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "1000",
    "min.cleanable.dirty.ratio": "0.001",
    "delete.retention.ms": "1000",
    "file.delete.delay.ms": "500",
}
SMALL_PURGED = {"segment.ms": "1000", "file.delete.delay.ms": "500"}


@pytest.fixture(scope="module")
def cleaning_broker() -> Iterator[DevBroker]:
    """A broker that checks twice a second what to clean or delete."""
    config = {
        "log.cleaner.backoff.ms": 500,
        "log.retention.check.interval.ms": 500,
        "log.initial.task.delay.ms": 500,
    }
    with DevBroker(config=config) as broker:
        yield broker


def alter(scene: Scene, topic: str, settings: dict[str, str]) -> None:
    """Change settings of a topic."""
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in settings.items()
    ]
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
    for future in scene.admin.incremental_alter_configs([resource]).values():
        future.result(timeout=30)


def live_bytes(broker: DevBroker, topic: str) -> int:
    """Bytes of a topic's log files; those already marked as deleted are not counted."""
    found = 0
    for path in (broker.folder / "node-0" / "data").glob(f"{topic}-[0-9]*/*.log"):
        try:
            found += path.stat().st_size
        except FileNotFoundError:
            continue  # deleted meanwhile
    return found


def record_count(bootstrap: str, topic: str) -> tuple[int, int]:
    """Records that a consumer finds in partition 0 of a topic now, and its end offset."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)
    partition = TopicPartition(topic, 0)
    end = int(consumer.end_offsets([partition])[partition])
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    count = 0
    deadline = time.monotonic() + 30
    while consumer.position(partition) < end:
        assert time.monotonic() < deadline, f"{topic} cannot be read to its end"
        batches = consumer.poll(timeout_ms=200)
        count += sum(record.offset < end for batch in batches.values() for record in batch)
    consumer.close()
    return count, end


def test_topics_stay_flat_while_the_inputs_grow(cleaning_broker: DevBroker, tmp_path: Path) -> None:
    """I8: in the second half of the run the live bytes are what they were in the first."""
    scene = Scene(cleaning_broker.bootstrap_servers, tmp_path)
    left, right, output = (scene.topic(name) for name in ("left", "right", "counts"))
    worker = scene.worker("spread", [left, right], output, checkpoint_interval_ms=500)
    application = scene.application_id
    own = {
        f"{application}-lineage": SMALL_COMPACTED,
        f"{application}-checkpoints": SMALL_COMPACTED,
        f"{application}-by_word-repartition": SMALL_PURGED,
    }
    samples: list[dict[str, int]] = []
    sent: Counter[str] = Counter()
    try:
        worker.start_ready()
        for topic, settings in own.items():
            alter(scene, topic, settings)
        started = time.monotonic()
        number = 0
        while time.monotonic() < started + SECONDS:
            words = [f"w{(number + i) % KEYS}" for i in range(RECORDS_A_TURN)]
            number += RECORDS_A_TURN
            sent.update(words)
            for topic, part in ((left, words[::2]), (right, words[1::2])):
                scene.send(topic, [Sent(word.encode()) for word in part])
            samples.append({t: live_bytes(cleaning_broker, t) for t in (*own, left)})
            time.sleep(TURN_S)
        scene.wait_outputs(output, sent.total())
        check_counts(scene.outputs(output), sent)
        assert worker.is_running()
        counts = {topic: record_count(scene.bootstrap, topic) for topic in own}
    finally:
        scene.close()
    # The first sixth has the topics fill to their level.
    half = len(samples) // 2
    first, second = samples[len(samples) // 6 : half], samples[half:]
    for topic in own:
        before, after = (max(s[topic] for s in part) for part in (first, second))
        kept, end = counts[topic]
        print(f"{topic}: {before} B, then {after} B at most; {kept} of {end} records left")
        assert after <= 1.5 * before + 50_000, f"{topic} grows: {before} B, then {after} B"
        assert kept < end / 2, f"{topic}: {kept} of {end} records are left"
    grown = [s[left] for s in (samples[len(samples) // 6], samples[half], samples[-1])]
    print(f"input: {grown} B")
    assert grown[2] > 1.7 * grown[1], "the inputs did not grow: the run shows nothing"
