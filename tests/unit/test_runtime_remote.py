"""Remote checkpoints as the lineage topic shows them, on `MemoryKafka`."""

from __future__ import annotations

import kstash
from kstash.core.records import Checkpoint, decode_record
from kstash.testing import TestDriver


def published(driver: TestDriver, topic: str) -> list[Checkpoint]:
    """All CKPTs of a lineage topic, in order."""
    records = (
        decode_record(message.key(), value)
        for message in driver.kafka.read(topic, is_committed=False)
        if (value := message.value()) is not None
    )
    return [record for record in records if isinstance(record, Checkpoint)]


def test_checkpoints_of_tasks_without_stores_are_remote_at_once() -> None:
    """They have no files that a lost disk could take."""
    app = kstash.App("shout")
    app.stream("in", value=kstash.text).map(str.upper).to("out", value=kstash.text)
    with TestDriver(app) as driver:
        driver.send("in", "hello")
        driver.advance(20)
        checkpoints = published(driver, "shout-lineage")
    assert checkpoints
    assert all(checkpoint.is_remote and not checkpoint.files for checkpoint in checkpoints)


def test_a_checkpoint_on_its_way_keeps_its_files() -> None:
    """When the lineage topic is slow, an acknowledged CKPT does not take the next one's files."""
    app = kstash.App("slow", checkpoint_interval_ms=1_000, checkpoint_store="none")
    app.stream("in", key=kstash.text, value=kstash.text).count("words").to("out")
    with TestDriver(app, lineage_delay_s=2.5) as driver:
        seen = 0
        for turn in range(40):
            driver.send("in", f"word {turn}", key="word")
            driver.advance(0.5)
            checkpoints = published(driver, "slow-lineage")
            seen = len(checkpoints)
            if checkpoints:
                newest = checkpoints[-1]
                assert newest.label in driver._backend.labels("words", 0)
        assert seen > 3
