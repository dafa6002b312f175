"""When a checkpoint may be published. Source: protocol, section 5."""

from __future__ import annotations

import pytest

import kstash
from kstash import App
from kstash.core.record_codec import decode_record
from kstash.core.records import Checkpoint
from kstash.testing import TestDriver

LONG_MS = 600_000


def merged() -> App:
    """Counts the words of two merged topics, one hop away."""
    app = App("publishing", lineage_ack_timeout_ms=LONG_MS, checkpoint_interval_ms=1_000)
    left, right = (app.stream(name, key=kstash.text, value=kstash.text) for name in "lr")
    left.merge(right).count("here").map_values(str).repartition("mid").count("counts").to(
        "out", value=kstash.int_text
    )
    return app


def positions(driver: TestDriver, stage: int) -> list[int]:
    """Positions of the checkpoints of a stage in the lineage topic."""
    messages = driver.kafka.read("publishing-lineage")
    records = [decode_record(m.key(), m.value()) for m in messages if m.value() is not None]
    found = [r for r in records if isinstance(r, Checkpoint) and r.task.stage == stage]
    return [checkpoint.position for checkpoint in found]


@pytest.mark.parametrize("link", ["lineage", "data"])
def test_h5_a_checkpoint_waits_for_its_outputs_and_lineage(link: str) -> None:
    """H5: what a checkpoint is of must be in Kafka: whoever restores it does not make it again."""
    with TestDriver(merged()) as driver:
        driver.advance(5)
        driver.rig.cluster.links[link].holds_acks = True
        driver.send("l", "word", "k")
        driver.advance(5)
        assert 1 not in positions(driver, 0)
        driver.rig.cluster.links[link].holds_acks = False
        driver.advance(5)
        assert 1 in positions(driver, 0)


def test_h5_a_checkpoint_waits_for_the_commit_of_its_outputs() -> None:
    """H5: a sink output that is not committed is made again by a successor."""
    with TestDriver(merged()) as driver:
        driver.advance(5)
        names = [name for name in driver.rig.cluster.links if name.startswith("sink")]
        for name in names:
            driver.rig.cluster.links[name].holds_requests = True
        driver.send("l", "word", "k")
        driver.advance(5)
        assert 1 in positions(driver, 0)
        assert 1 not in positions(driver, 1)
        for name in names:
            driver.rig.cluster.links[name].holds_requests = False
        driver.advance(5)
        assert 1 in positions(driver, 1)
