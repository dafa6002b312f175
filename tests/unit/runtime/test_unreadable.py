"""A batch that no consumer can read ends the worker with its offsets, and can be passed over (H54).

As when its content is larger than the client takes, or damaged.
"""

from __future__ import annotations

from typing import Any

import pytest

import kstash
from kstash import App
from kstash.errors import ConfigError, RecordUnreadableError
from kstash.testing import TestDriver


def merged(**settings: Any) -> App:
    """Sums over two merged topics."""
    app = App("sums", **settings)
    left, right = (app.stream(name, key=kstash.text, value=kstash.int_text) for name in "lr")
    left.merge(right).sum("totals").to("out", value=kstash.int_text)
    return app


def values(driver: TestDriver) -> list[int]:
    """New outputs."""
    return [record.value for record in driver.read("out")]


def restarted(driver: TestDriver, skips: str | None) -> None:
    """Start again with places to pass over."""
    if driver.rig.is_running:
        driver.crash()
    driver.rig.config = merged().config.override(skip_records=skips)
    driver.recover()


def test_h54_a_batch_that_cannot_be_read_is_named_and_passed_over() -> None:
    """It holds no events, in no replay, whoever reads it then."""
    with TestDriver(merged(), lineage_delay_s=1) as driver:
        driver.send("l", 1, "k")
        driver.crash()
        log = driver.kafka.log(("l", 0))
        for value in (2, 4, 8):
            driver.send("l", value, "k")
        log.unreadable = range(1, 3)
        with pytest.raises(RecordUnreadableError, match="offset 1") as caught:
            driver.recover()
        assert caught.value.skip == "l/0/1-2"
        restarted(driver, caught.value.skip)
        driver.send("r", 16, "k")
        assert values(driver) == [1, 9, 25]
        restarted(driver, None)
        driver.advance(12)
        log.unreadable = None  # another client, which can
        restarted(driver, "l/0/1-2")
        driver.send("l", 32, "k")
        assert values(driver) == [57]
        assert driver.state("totals") == {"k": 57}


def test_h54_a_batch_in_a_sink_holds_up_the_start_until_it_is_named() -> None:
    """Its tail is read for lineage; whose batch it is nobody can tell."""
    with TestDriver(merged(), lineage_delay_s=1) as driver:
        driver.send("l", 1, "k")
        driver.crash()
        first = driver.kafka.append("out", b"foreign").offset()
        log = driver.kafka.log(("out", 0))
        log.unreadable = range(first, first + 1)
        with pytest.raises(RecordUnreadableError, match="topic 'out'") as caught:
            driver.recover()
        restarted(driver, caught.value.skip)
        log.unreadable = None
        driver.send("l", 2, "k")
        assert driver.state("totals") == {"k": 3}


def test_h54_nothing_in_the_lineage_topic_can_be_passed_over() -> None:
    """What is said there decides everything."""
    with pytest.raises(ConfigError, match="nothing in the lineage topic can be passed over"):
        TestDriver(merged(skip_records="sums-lineage/0/3-4"))
