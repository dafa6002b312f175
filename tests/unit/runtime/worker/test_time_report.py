"""What holds the time of a task back: a test for each reason, over the real runtime."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import kstash
from kstash.ports.status import HeldBy, TaskStatus
from kstash.runtime.worker.lags import Lags
from kstash.testing import TestDriver
from tests.unit.runtime.recovery.test_watchdog import merged, replaying_in_vain
from tests.unit.runtime.worker.test_lags import go_on, hold, status

HOUR_MS = 3_600_000
START_MS = 444_444 * HOUR_MS
IDLE_S = 5


def windows(*topics: str, **settings: Any) -> kstash.App:
    """Counts by hour, of one task for each partition."""
    idle = settings.pop("idle", "clock")
    app = kstash.App("held", idle_timeout_ms=IDLE_S * 1000, **settings)
    words = app.stream(*topics, key=kstash.text, value=kstash.text, idle=idle)
    words.window(kstash.tumbling(timedelta(hours=1)), emit="final").count("n").to("out")
    return app


def spread() -> kstash.App:
    """The same in watermark mode, through an internal topic."""
    app = kstash.App("held", event_time="watermark", idle_timeout_ms=IDLE_S * 1000)
    words = app.stream("in", value=kstash.text).key_by(str, key=kstash.text)
    words.window(kstash.tumbling(timedelta(hours=1)), emit="final").count("n").to("out")
    return app


def tasks(driver: TestDriver) -> dict[str, TaskStatus]:
    """By name."""
    return {task.name: task for task in status(driver).tasks}


def held(driver: TestDriver, name: str = "n_0") -> HeldBy:
    """What holds a task back, which something does."""
    found = tasks(driver)[name].held_by
    assert found is not None
    return found


def test_nothing_holds_time_back_while_records_come() -> None:
    """Each in its turn, and their times are the task's."""
    with TestDriver(windows("in"), start_ms=START_MS) as driver:
        for _ in range(6):
            driver.send("in", "v", key="k")
            driver.advance(0.9)
        task = tasks(driver)["n_0"]
        assert (task.held_by, task.held_seconds) == (None, 0.0)
        assert task.event_time == task.stream_time == pytest.approx(START_MS / 1000 + 4, abs=1)
        assert task.operator_times == {
            "tumbling(3600 s).count(n)": pytest.approx(START_MS / 1000 + 4, abs=1)
        }


def test_silent() -> None:
    """One partition has nothing: its windows stay open, as records alone move time."""
    with TestDriver(windows("in"), partitions=2, start_ms=START_MS) as driver:
        for _ in range(10):
            driver.send("in", "v", key="k", partition=0)
            driver.advance(0.9)
        assert tasks(driver)["n_0"].held_by is None
        found = held(driver, "n_1")
        assert (found.reason, found.input, found.writer) == ("silent", "in/1", None)
        assert found.text == "nothing comes of in/1, whose records move time"
        assert found.seconds == pytest.approx(9, abs=1.5)


def test_unread() -> None:
    """Records are there, and are not fetched."""
    with TestDriver(windows("in"), start_ms=START_MS) as driver:
        driver.send("in", "v", key="k")
        driver.advance(4)
        hold(driver)
        driver.kafka.append("in", b"v", key=b"k")
        driver.advance(10)
        found = held(driver)
        assert (found.reason, found.input) == ("unread", "in/0")
        assert found.seconds == pytest.approx(10, abs=4)
        go_on(driver)
        driver.advance(4)
        assert held(driver).reason == "silent"


def test_awaited() -> None:
    """A task that merges waits for a topic at its end, while another has records."""
    with TestDriver(windows("in", "late", task_idle_ms=60_000), start_ms=START_MS) as driver:
        driver.send("late", "v", key="k", timestamp_ms=START_MS)
        driver.send("in", "v", key="k", timestamp_ms=START_MS)
        driver.send("in", "v", key="k", timestamp_ms=START_MS + 3 * HOUR_MS)
        driver.advance(10)
        found = held(driver)
        assert (found.reason, found.input) == ("awaited", "late/0")
        assert found.seconds == pytest.approx(10, abs=1)
        assert tasks(driver)["n_0"].held_seconds == 3 * 3600
        driver.advance(60)
        assert held(driver).reason == "silent"
        assert tasks(driver)["n_0"].held_seconds == 0


def test_a_merge_that_waits_for_more_waits_for_what_is_unread() -> None:
    """However long that takes: the topic is known to have more."""
    with TestDriver(windows("in", "more"), start_ms=START_MS) as driver:
        driver.advance(1)
        hold(driver)
        driver.kafka.append("in", b"v", key=b"k")
        driver.send("more", "v", key="k")
        driver.advance(10)
        found = held(driver)
        assert (found.reason, found.input) == ("unread", "in/0")
        assert found.seconds == pytest.approx(10, abs=1)


def test_recovering() -> None:
    """A replay has not what it needs: Kafka is away."""
    with TestDriver(merged(), lineage_delay_s=1) as driver:
        worker = replaying_in_vain(driver)
        for _ in range(10):
            worker.step(0)
            driver.clock.advance(1)
        found = status(driver).tasks[0].held_by
        assert found is not None
        assert (found.reason, found.input) == ("recovering", None)
        assert found.seconds == pytest.approx(9, abs=1.5)
        driver.kafka.is_away = False
        driver.rig.run_until_live()


def test_quiet_and_then_idle() -> None:
    """In watermark mode silence counts as time after the timeout."""
    with TestDriver(windows("in", event_time="watermark"), start_ms=START_MS) as driver:
        driver.send("in", "v", key="k")
        driver.advance(IDLE_S - 2)
        found = held(driver)
        assert (found.reason, found.input) == ("quiet", "in/0")
        assert found.seconds == pytest.approx(IDLE_S - 2, abs=1.2)
        assert found.time == tasks(driver)["n_0"].event_time == START_MS / 1000
        driver.advance(10)
        found = held(driver)
        assert (found.reason, found.input) == ("idle", "in/0")
        assert tasks(driver)["n_0"].event_time == pytest.approx(START_MS / 1000 + 5, abs=4)


def test_hold_and_what_comes_least_far() -> None:
    """Of two topics the one whose time is to wait, and then one that comes, hours before the other.

    How far the other one is ahead is what the task is held by.
    """
    app = windows("in", "on", event_time="watermark", idle="hold")
    with TestDriver(app, start_ms=START_MS) as driver:
        driver.send("on", "v", key="k", timestamp_ms=START_MS)
        driver.advance(2)
        assert tasks(driver)["n_0"].event_time is None
        assert held(driver).time is None
        driver.send("on", "v", key="k", timestamp_ms=START_MS + 9 * HOUR_MS)
        driver.advance(2)
        assert tasks(driver)["n_0"].held_seconds == 9 * 3600  # counted from the first word
        assert held(driver).reason == "hold"
        driver.send("in", "v", key="k", timestamp_ms=START_MS + HOUR_MS)
        driver.advance(2 * IDLE_S)
        found = held(driver)
        assert (found.reason, found.input) == ("hold", "in/0")
        assert found.text == 'nothing comes of in/0, which has idle="hold"'
        assert found.seconds == pytest.approx(2 * IDLE_S, abs=1.2)
        assert tasks(driver)["n_0"].held_seconds == 8 * 3600
        for more in range(5):
            driver.send("in", "v", key="k", timestamp_ms=START_MS + HOUR_MS + more)
            driver.advance(0.9)
        found = held(driver)
        assert (found.reason, found.input) == ("input", "in/0")
        assert found.seconds < 2


def test_unheard_and_writer() -> None:
    """The task of another partition has said nothing yet, and then less than its neighbour."""
    with TestDriver(spread(), partitions=2, start_ms=START_MS + 9 * HOUR_MS) as driver:
        stage = driver.rig.topology.stages[0].name
        inner = driver.rig.topology.internal_topics[0]
        for more in range(4):
            driver.send("in", "v", partition=0, timestamp_ms=START_MS + more * HOUR_MS)
            driver.advance(1.1)
        waiting = [task for task in tasks(driver).values() if task.stage == "n"]
        for task in waiting:
            assert task.event_time is None
            assert task.held_by is not None
            found = task.held_by
            assert (found.reason, found.writer, found.time) == ("unheard", f"{stage}_1", None)
            assert found.input == f"{inner}/{task.partition}"
        assert max(task.held_seconds for task in waiting) == 3 * 3600
        driver.send("in", "v", partition=1, timestamp_ms=START_MS + HOUR_MS)
        driver.advance(3)
        for name in ("n_0", "n_1"):
            found = held(driver, name)
            assert (found.reason, found.writer) == ("writer", f"{stage}_1")
            assert found.time == tasks(driver)[name].event_time == START_MS / 1000 + 3600
            assert tasks(driver)[name].held_seconds == 2 * 3600
        assert driver.metrics.gauges["time_held_seconds"] == 2 * 3600


def test_an_operator_is_held_by_what_holds_its_slowest_task() -> None:
    """So the page has one line of each operator."""
    with TestDriver(windows("in"), partitions=2, start_ms=START_MS) as driver:
        driver.send("in", "v", key="k", partition=1)
        for _ in range(10):
            driver.send("in", "v", key="k", partition=0, timestamp_ms=START_MS + HOUR_MS)
            driver.advance(0.9)
        (operator,) = status(driver).operators
        assert operator.held_by == held(driver, "n_1")
        assert tasks(driver)["n_0"].held_by is None


@pytest.mark.parametrize("idle", ["clock", "hold"])
def test_unread_in_watermark_mode(idle: str) -> None:
    """Whoever has records is not idle, whatever becomes of time without them."""
    app = windows("in", event_time="watermark", idle=idle)
    with TestDriver(app, start_ms=START_MS) as driver:
        driver.send("in", "v", key="k")
        driver.advance(4)
        hold(driver)
        driver.kafka.append("in", b"v", key=b"k")
        driver.advance(4 * IDLE_S)
        assert (held(driver).reason, held(driver).input) == ("unread", "in/0")


@pytest.mark.parametrize(("mode", "reason"), [("records", None), ("watermark", "input")])
def test_an_input_whose_end_is_not_known_is_not_called_silent(
    mode: str, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing comes of it, and nobody knows whether there is anything."""
    monkeypatch.setattr(Lags, "look", lambda self, *_: self.by_partition.clear())
    with TestDriver(windows("in", event_time=mode), start_ms=START_MS) as driver:
        driver.send("in", "v", key="k")
        driver.advance(3)
        found = tasks(driver)["n_0"].held_by
        assert (found and found.reason) == reason


@pytest.mark.parametrize("mode", ["records", "watermark"])
def test_windows_hold_back_what_stands_after_them(mode: Any) -> None:
    """In their stage the operators, in both modes; late records pass by them."""
    app = kstash.App("held", event_time=mode)
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    first = stream.window(
        kstash.tumbling(timedelta(hours=1)), grace=timedelta(minutes=1), emit="final"
    ).count("first")
    first.inner_key().window(kstash.tumbling(timedelta(days=1))).sum("second").to("out")
    first.late().window(kstash.tumbling(timedelta(days=1))).count("late").to("late")
    with TestDriver(app, start_ms=START_MS) as driver:
        driver.send("in", "v", key="k")
        driver.advance(2)
        assert tasks(driver)["first_0"].operators_held == {
            "tumbling(86400 s).sum(second)": "open windows of tumbling(3600 s).count(first), "
            "for 3660 s"
        }


def test_windows_before_an_internal_topic_are_named_with_their_writer() -> None:
    """In watermark mode they say less of time, by their size and grace."""
    app = kstash.App("held", event_time="watermark", idle_timeout_ms=IDLE_S * 1000)
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    first = stream.window(kstash.tumbling(timedelta(hours=1)), emit="final").count("first")
    by_count = first.key_by(str, key=kstash.text, value=kstash.int_text)
    by_count.window(kstash.tumbling(timedelta(hours=1)), emit="final").count("n").to("out")
    with TestDriver(app, partitions=2, start_ms=START_MS + 9 * HOUR_MS) as driver:
        for partition, hours in ((0, 8), (1, 4)):
            driver.send(
                "in", "v", "k", partition=partition, timestamp_ms=START_MS + hours * HOUR_MS
            )
        driver.advance(3)
        found = held(driver)
        assert (found.reason, found.writer) == ("writer", "first_1")
        assert found.text.endswith(
            "has come least far: open windows of tumbling(3600 s).count(first), for 3600 s"
        )
