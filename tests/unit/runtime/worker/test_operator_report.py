"""What a worker says of operators that go by time, or drop records."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import kstash
from kstash import App
from kstash.testing import TestDriver
from tests.unit.runtime.worker.test_lags import status
from tests.unit.timed_operator import hourly

HOUR_MS = 3_600_000
START_MS = 444_444 * HOUR_MS + 1_800_000


def test_time_windows_timers_and_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least and the greatest time of its tasks; what is open and pending in all of them."""
    app = hourly(monkeypatch)
    with TestDriver(app, partitions=2, start_ms=START_MS) as driver:
        (operator,) = status(driver).operators
        assert (operator.operator, operator.stage) == ("hourly(h)", "h")
        assert (operator.stream_time, operator.newest_time) == (None, None)
        assert operator.dropped == {"late": 0}
        metrics = driver.metrics
        assert metrics.counts["operator_dropped_records"] == 0
        for number, at_ms in ((0, START_MS), (0, START_MS - HOUR_MS), (1, START_MS - 9 * HOUR_MS)):
            driver.send("in", "v", key=f"k{number}", partition=number, timestamp_ms=at_ms)
        driver.advance(11)
        (operator,) = status(driver).operators
        assert operator.newest_time == START_MS / 1000
        assert operator.stream_time == START_MS / 1000 - 9 * 3600
        assert (operator.windows, operator.timers) == (2, 2)
        assert operator.dropped == {"late": 1}
        assert metrics.counts["operator_dropped_records"] == 1
        assert metrics.gauges["windows_open"] == metrics.gauges["timers_pending"] == 2
        # Of the second task: it was set last.
        assert metrics.gauges["operator_time_seconds"] == START_MS / 1000 - 9 * 3600
        assert metrics.gauges["operator_time_delay_seconds"] == 9 * 3600 + 11


def test_windows_are_seen_as_such() -> None:
    """Those that are open, and what is of none, by why."""
    app = App("windows")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    stream.window(kstash.tumbling(timedelta(hours=1))).count("n").to("out", value=kstash.int_text)
    with TestDriver(app, start_ms=START_MS) as driver:
        for key, at_ms in (("k", START_MS), ("l", START_MS), ("k", START_MS - HOUR_MS)):
            driver.send("in", "v", key=key, timestamp_ms=at_ms)
        driver.send("in", "v", timestamp_ms=START_MS)
        driver.advance(11)
        (operator,) = status(driver).operators
        assert (operator.operator, operator.windows) == ("tumbling(3600 s).count(n)", 2)
        assert operator.dropped == {"null_key": 1, "null_value": 0, "late": 1, "no_window": 0}


def test_sessions_are_counted_by_their_places_in_the_queue() -> None:
    """Their store has one entry of each key, however many sessions that has."""
    app = App("sessions")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    sessions = stream.window(kstash.session(timedelta(minutes=1)), grace=timedelta(hours=2))
    sessions.count("n").to("out", value=kstash.int_text)
    with TestDriver(app, start_ms=START_MS) as driver:
        for key, at_ms in (("k", START_MS), ("l", START_MS), ("k", START_MS - HOUR_MS)):
            driver.send("in", "v", key=key, timestamp_ms=at_ms)
        driver.advance(11)
        (operator,) = status(driver).operators
        assert operator.windows == driver.metrics.gauges["windows_open"] == 3


@pytest.mark.parametrize("emit", ["update", "final"])
def test_sliding_windows_are_counted_beside_the_time(emit: Any) -> None:
    """They are entries of no store: what opens and closes is counted, also after a restart."""
    app = App("sliding")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    windows = stream.window(kstash.sliding(timedelta(minutes=1)), emit=emit)
    windows.count("n").to("out", value=kstash.int_text)
    with TestDriver(app, start_ms=START_MS) as driver:

        def open_windows() -> int | None:
            driver.advance(11)
            (operator,) = status(driver).operators
            assert operator.windows == driver.metrics.gauges["windows_open"]
            return operator.windows

        for key, at_ms in (("k", START_MS), ("l", START_MS), ("k", START_MS + 9)):
            driver.send("in", "v", key=key, timestamp_ms=at_ms)
        # Of `k` one ends at its last record, and one began after its first; that of `l` is closed,
        # which nobody has to know before something is sent for it.
        assert open_windows() == {"update": 3, "final": 2}[emit]
        driver.crash()
        driver.recover()
        driver.send("in", "v", key="m", timestamp_ms=START_MS + HOUR_MS)
        assert open_windows() == 1


class Idle(kstash.Processor[str, str, str]):
    """Sets a timer for each key."""

    def on_record(self, record: Any, context: Any) -> None:
        """An hour later."""
        context.timer("idle", at=record.timestamp_ms + HOUR_MS)

    def on_timer(self, timer: Any, context: Any) -> None:
        """Tell."""
        context.send(timer.name)


def test_timers_of_a_processor() -> None:
    """They are pending until they fire; its time is seen as that of windows."""
    app = App("idle")
    app.stream("in", key=kstash.text, value=kstash.text).process("p", Idle, value=kstash.text)
    with TestDriver(app, start_ms=START_MS) as driver:
        driver.send("in", "v", key="k", timestamp_ms=START_MS)
        driver.send("in", "v", key="l", timestamp_ms=START_MS + 1)
        driver.advance(11)
        (operator,) = status(driver).operators
        assert (operator.operator, operator.timers, operator.windows) == ("process(p)", 2, None)
        assert operator.stream_time == (START_MS + 1) / 1000
        driver.send("in", "v", key="m", timestamp_ms=START_MS + HOUR_MS)
        driver.advance(11)
        assert status(driver).operators[0].timers == 2


def test_a_time_ahead_of_the_clock_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The delay is below 0."""
    with TestDriver(hourly(monkeypatch), start_ms=START_MS) as driver:
        driver.send("in", "v", key="k", timestamp_ms=START_MS + HOUR_MS)
        driver.advance(1)
        assert driver.metrics.gauges["operator_time_delay_seconds"] == -3599


def test_a_crash_counts_no_drop_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The replay drops the records again; time, state and what follows are as without it."""
    app = hourly(monkeypatch, timestamp=int, max_ahead=timedelta(hours=2))
    with TestDriver(app, start_ms=START_MS) as driver:
        for more in (0, -1, 3, 1):
            driver.send("in", str(START_MS + more * HOUR_MS), key="k")
        driver.advance(1)
        driver.crash()
        driver.recover()
        driver.send("in", str(START_MS), key="k")
        driver.advance(1)
        assert [record.timestamp_ms for record in driver.read("out")] == [
            START_MS,
            START_MS + HOUR_MS,
        ]
        # One is too far ahead, and two are late, of which this life has seen one.
        assert driver.metrics.counts["operator_dropped_records"] == 3
        timed, hours = status(driver).operators
        assert (timed.dropped, hours.dropped) == ({"ahead": 0}, {"late": 1})
        assert driver.state("h.time") == {"h_0": START_MS + HOUR_MS}


class Waiting(kstash.Processor[str, str, str]):
    """Sets a timer of the clock for each key."""

    def on_record(self, record: Any, context: Any) -> None:  # noqa: ARG002 - whatever it is
        """An hour later."""
        context.wall_timer("idle", at=context.now() + HOUR_MS)

    def on_wall_timer(self, timer: Any, context: Any) -> None:
        """Tell."""
        context.send(timer.name)


def test_wall_timers_of_a_processor() -> None:
    """They are pending until they fire, and late where they may not."""
    app = App("idle")
    app.stream("in", key=kstash.text, value=kstash.text).process("p", Waiting, value=kstash.text)
    with TestDriver(app, start_ms=START_MS) as driver:
        driver.send("in", "v", key="k")
        driver.send("in", "v", key="l")
        driver.advance(11)
        assert status(driver).operators[0].timers == 2
        gauges = driver.metrics.gauges
        assert (gauges["wall_timers_pending"], gauges["wall_timers_late_seconds"]) == (2, 0)
        driver.clock.step(HOUR_MS / 1000)
        driver.rig.worker.groups[0].batches.close()
        driver.clock.advance(1)
        driver.rig.settle()
        assert gauges["wall_timers_late_seconds"] > 0
