"""Clocks that are set back and forth while an application runs."""

from __future__ import annotations

import itertools

import pytest

import kstash
from kstash.errors import ReplayDivergedError
from kstash.ports.kafka import LOG_APPEND_TIME
from kstash.testing import TestDriver


def test_a_clock_that_is_set_back_and_forth() -> None:
    """Counts stay exact over crashes, whatever time it is; timestamps are the inputs'."""
    app = kstash.App("jumps")
    one, two = (app.stream(topic, key=kstash.text, value=kstash.text) for topic in ("one", "two"))
    one.merge(two).count("both").to("out", value=kstash.int_text)
    found: list[int] = []
    with TestDriver(app, lineage_delay_s=1) as driver:
        for number, hours in enumerate((0, 5, -48, 30, -1000, 3000)):
            driver.kafka.clock.step(hours * 3600)
            driver.send("one", "a", key="k", timestamp_ms=number + 1)
            driver.crash()
            driver.kafka.clock.step(-hours * 1800)
            driver.recover()
            driver.send("two", "b", key="k", timestamp_ms=number + 1)
            driver.advance(12)
            found += [record.value for record in driver.read("out")]
        assert driver.state("both") == {"k": 12}
        stamps = [record.timestamp()[1] for record in driver.kafka.read("out")]
    assert found == list(range(1, 13))
    assert stamps == [number + 1 for number in range(6) for _ in range(2)]


def test_records_of_the_first_millisecond() -> None:
    """Timestamp 0 becomes 1: an output that said "now" would be another one in each replay."""
    app = kstash.App("epoch")
    one, two = (app.stream(topic, key=kstash.text, value=kstash.text) for topic in ("one", "two"))
    one.merge(two).count("both").to("out", value=kstash.int_text)
    with TestDriver(app, lineage_delay_s=1) as driver:
        driver.send("one", "a", key="k", timestamp_ms=0)
        driver.crash()
        driver.recover()
        stamps = {r.timestamp()[1] for r in driver.kafka.read("out", is_committed=False)}
        assert stamps == {1}
        assert driver.state("both") == {"k": 1}


@pytest.mark.parametrize("guarantee", ["exactly_once", "write_first"])
def test_h43_timestamps_that_the_broker_made_are_not_compared(guarantee: str) -> None:
    """H43: a sink with message.timestamp.type=LogAppendTime keeps none of ours; the rest counts."""
    app = kstash.App("brokers", guarantee=guarantee)
    words = app.stream("in", key=kstash.text, value=kstash.text)
    words.count("words").to("out", value=kstash.int_text)
    with TestDriver(app) as driver:
        driver.kafka._topics["out"][1]["message.timestamp.type"] = "LogAppendTime"
        for number in range(5):
            driver.send("in", "a", key="k", timestamp_ms=number + 1)
        driver.crash()
        driver.recover()
        driver.advance(5)
        assert [record.value for record in driver.read("out")] == [1, 2, 3, 4, 5]
        records = driver.kafka.read("out", is_committed=False)
        assert len(records) == 10
        assert {record.timestamp()[0] for record in records} == {LOG_APPEND_TIME}
        assert min(record.timestamp()[1] for record in records) > 5


def test_h43_what_the_broker_keeps_is_compared() -> None:
    """H43: key, value and headers, of such a sink too; a clock in a function shows."""
    numbers = itertools.count()
    app = kstash.App("brokers")
    words = app.stream("in", key=kstash.text, value=kstash.text)
    words.map_values(lambda word: f"{word}{next(numbers)}").to("out", value=kstash.text)
    with TestDriver(app) as driver:
        driver.kafka._topics["out"][1]["message.timestamp.type"] = "LogAppendTime"
        driver.send("in", "a", key="k")
        driver.crash()
        with pytest.raises(ReplayDivergedError, match="is the program deterministic"):
            driver.recover()
