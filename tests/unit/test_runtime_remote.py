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
