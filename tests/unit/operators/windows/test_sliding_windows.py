"""Sliding windows: which there are, what they hold, what closes, and what is kept."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import kstash
from kstash import App, Windowed
from kstash.errors import TopologyError
from kstash.testing import TestDriver
from kstash.topology.traits import PART_RECORDS

Row = tuple[str, int, int, Any, int]


def ms(number: int) -> timedelta:
    """So many milliseconds."""
    return timedelta(milliseconds=number)


class Sliding:
    """A driver of a program with windows of 10 ms that collect values."""

    def __init__(self, *, grace: int = 0, emit: Any = "update") -> None:
        app = App("app")
        clicks = app.stream("in", key=kstash.text, value=kstash.int_text)
        results = clicks.window(kstash.sliding(ms(10)), grace=ms(grace), emit=emit).collect("n")
        results.to("out", value=kstash.json)
        results.late().to("late", value=kstash.json)
        self.driver = TestDriver(app)

    def feed(self, *records: tuple[str, int, int | None]) -> list[Row]:
        """(Key, start, end, values, timestamp) of what records (key, time, value) make."""
        for key, stamp, value in records:
            self.driver.send("in", value, key=key, timestamp_ms=stamp)
        return [(*r.key, r.value, r.timestamp_ms) for r in self.driver.read("out")]

    def at(self, *stamps: int, key: str = "a") -> list[Row]:
        """The same of records of one key, whose values are their times."""
        return self.feed(*((key, stamp, stamp) for stamp in stamps))


def test_a_window_ends_at_each_record_and_one_begins_after_it() -> None:
    """The latter as soon as another record is in it; both ends are inside."""
    sliding = Sliding(grace=100)
    assert sliding.at(20) == [("a", 10, 20, [20], 20)]
    assert sliding.at(30) == [("a", 20, 30, [20, 30], 30), ("a", 21, 31, [30], 30)]
    assert sliding.at(31) == [("a", 21, 31, [30, 31], 31), ("a", 31, 41, [31], 31)]
    assert sliding.at(15)[:2] == [("a", 5, 15, [15], 15), ("a", 10, 20, [20, 15], 20)]


def test_a_record_is_in_windows_to_come() -> None:
    """Also where none was open for it when it came: what a window holds depends on records."""
    sliding = Sliding(grace=5)
    sliding.at(106)
    assert sliding.at(94) == []
    made = sliding.at(102)
    assert ("a", 92, 102, [94, 102], 102) in made


def test_a_window_to_come_may_begin_after_a_record() -> None:
    """So it is kept 1 ms longer than windows can hold it."""
    sliding = Sliding(grace=5)
    sliding.at(90, 94, 110)
    assert sliding.at(97) == [("a", 95, 105, [97], 97)]


def test_a_window_that_begins_holds_what_is_in_it() -> None:
    """Also where another one has nearly the same: what is before it, or after it, is not in it."""
    before = Sliding(grace=20)
    before.at(20, 25, 26)
    assert ("a", 22, 32, [25, 26, 32], 32) in before.at(32)
    after = Sliding(grace=4)
    after.at(25, 26, 34)
    assert ("a", 23, 33, [25, 26, 33], 33) in after.at(33)


def test_a_window_that_begins_holds_records_as_they_came() -> None:
    """Where none is left that has the same ones."""
    sliding = Sliding(grace=4)
    sliding.at(20, 15, 26)
    assert ("a", 15, 25, [20, 15, 25], 25) in sliding.at(25)


@pytest.mark.parametrize(("time", "is_open"), [(25, True), (26, False)])
def test_a_window_closes_after_its_end_and_grace(time: int, is_open: bool) -> None:
    """And takes a record until then."""
    sliding = Sliding(grace=5, emit="final")
    sliding.at(20)
    assert bool(sliding.at(time, key="b")) is not is_open
    assert [row[3] for row in sliding.at(18, 1000) if row[0] == "a" and row[1] == 10] == (
        [[20, 18]] if is_open else []
    )


def test_a_record_is_late_when_none_can_hold_it() -> None:
    """The last window that may is the one that begins with it."""
    sliding = Sliding(grace=5)
    sliding.at(100)
    sliding.feed(("a", 85, 1), ("a", 84, 2))
    (late,) = sliding.driver.read("late")
    assert late.value == [2, [[84, 94]]]


def test_finals_leave_in_order_and_nothing_is_left() -> None:
    """By end and key, once each, in parts; keys are forgotten with their last window."""
    sliding = Sliding(emit="final")
    number = PART_RECORDS + 5
    keys = [f"{index:04}" for index in range(number)]
    assert sliding.feed(*((key, 20, 1) for key in keys)) == []
    assert sliding.at(10**6, key="z") == [(key, 10, 20, [1], 20) for key in keys]
    assert list(sliding.driver.state("n")) == ["z"]


def test_null_values_are_dropped() -> None:
    """By `count` too, as Kafka Streams does."""
    app = App("app")
    clicks = app.stream("in", key=kstash.text, value=kstash.text)
    clicks.window(kstash.sliding(ms(10))).count("n").to("out")
    with TestDriver(app) as driver:
        driver.send("in", None, key="a", timestamp_ms=20)
        driver.send("in", "x", key="a", timestamp_ms=21)
        made = driver.read("out")
    assert [(r.key, r.value) for r in made] == [(Windowed("a", 11, 21), 1)]


def test_aggregate_wants_the_serde_of_values() -> None:
    """They are kept; where it is known it is inherited."""
    app = App("app")
    clicks = app.stream("in", key=kstash.text, value=kstash.text).map_values(len)
    windows = clicks.window(kstash.sliding(ms(10)))
    with pytest.raises(TopologyError, match="values="):
        windows.aggregate("n", int, lambda s, v: s + v, value=kstash.json)
    windows.aggregate("n", int, lambda s, v: s + v, value=kstash.json, values=kstash.json)
