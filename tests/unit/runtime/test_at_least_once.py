"""`at_least_once`: claims and checkpoints, no lineage, no fences, no transactions."""

from __future__ import annotations

import kstash
from kstash.testing import TestDriver


def merged() -> kstash.App:
    """Counts over two topics: a task whose order of inputs would have to be logged."""
    app = kstash.App("merged", guarantee="at_least_once", checkpoint_interval_ms=1000)
    (
        app.stream("left", "right", key=kstash.text, value=kstash.text)
        .count("counts")
        .to("totals", value=kstash.int_text)
    )
    return app


def feed(driver: TestDriver, count: int) -> None:
    """Send records in turn to both topics, all of one key."""
    for number in range(count):
        driver.send(("left", "right")[number % 2], "v", key="k")


def test_a_crash_goes_back_to_the_last_checkpoint_only() -> None:
    """What a checkpoint covers is not processed again; what came after it may be."""
    with TestDriver(merged()) as driver:
        feed(driver, 10)
        driver.advance(5)
        assert driver.metrics.counts["checkpoints"] == 1
        feed(driver, 3)  # the first of them is covered too: a checkpoint was due by then
        driver.crash()
        driver.recover()
        assert [record.value for record in driver.read("totals")] == [*range(1, 14), 12, 13]
        assert driver.state("counts") == {"k": 13}


def test_an_orderly_stop_leaves_nothing_to_process_again() -> None:
    """The checkpoint of the drain is waited for, and a restart begins there."""
    with TestDriver(merged()) as driver:
        feed(driver, 10)
        driver.close()
        driver.recover()
        assert [record.value for record in driver.read("totals")] == [*range(1, 11)]
        assert driver.state("counts") == {"k": 10}


def test_a_lost_disk_begins_anew() -> None:
    """Without the checkpoint's files the inputs are read again from where they began."""
    with TestDriver(merged()) as driver:
        feed(driver, 10)
        driver.advance(5)
        driver.crash()
        driver.recover()
        driver.crash()
        driver.rig.backend.lose()
        driver.recover()
        assert driver.state("counts") == {"k": 10}
