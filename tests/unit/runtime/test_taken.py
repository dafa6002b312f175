"""What a task has taken is not taken again, and what it has taken is handed on when it stops."""

from __future__ import annotations

import kstash
from kstash import App
from kstash.core.record_codec import decode_record
from kstash.core.records import Checkpoint, Release
from kstash.testing import TestDriver


def merged() -> App:
    """Counts the records of two merged topics."""
    app = App("taken", lineage_ack_timeout_ms=60_000)
    left, right = (app.stream(name, key=kstash.text, value=kstash.text) for name in "lr")
    left.merge(right).count("counts").to("out", value=kstash.int_text)
    return app


def test_records_that_were_taken_are_not_processed_again() -> None:
    """A consumer that was moved back hands some out twice; what comes after them counts."""
    with TestDriver(merged()) as driver:
        for _ in range(3):
            driver.send("l", "x", "k")
        (group,) = driver.rig.worker.groups.values()
        task, index = group.inputs.by_partition["l", 0]
        group.deliver(task, index, driver.kafka.read("l")[1:])
        driver.send("l", "x", "k")
        assert driver.state("counts") == {"k": 4}
        assert task.core.position == 4


def test_a_drain_checkpoints_what_came_behind_a_pending_checkpoint() -> None:
    """The last checkpoint is of the position that is released: the next owner replays nothing."""
    with TestDriver(merged()) as driver:
        driver.rig.cluster.links["lineage"].holds_acks = True
        driver.send("l", "x", "k")
        driver.advance(12)  # a checkpoint is frozen, and waits for its lineage
        driver.send("l", "x", "k")
        driver.close()
        records = [decode_record(r.key(), r.value()) for r in driver.kafka.read("taken-lineage")]
        released = [r for r in records if isinstance(r, Release)][-1].positions
        checkpoints = [r for r in records if isinstance(r, Checkpoint)]
        assert released == {0: 2}
        assert checkpoints[-1].position == 2
        assert {c.position for c in checkpoints} == {1, 2}
        driver.recover()
        assert driver.metrics.counts.get("replayed_records", 0) == 0
