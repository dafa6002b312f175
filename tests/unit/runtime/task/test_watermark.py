"""Watermark mode through the worker: a backfill loses nothing, whatever crashes."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

import kstash
from kstash.errors import ProgramChangedError
from kstash.testing import TestDriver

DAY = 86_400_000
START = 1_600_000_000_000
HOUR = timedelta(hours=1)
IDLE_MS = 5_000


def backfill(mode: Any = "watermark", *, keep: Any = lambda _: True) -> kstash.App:
    """Counts by hour, over all partitions of a topic, and the results by day."""
    app = kstash.App(
        "backfill",
        event_time=mode,
        watermark_interval_ms=100,
        idle_timeout_ms=IDLE_MS,
        checkpoint_interval_ms=1_500,
    )
    hours = (
        app.stream("in", value=kstash.text)
        .filter(keep)
        .key_by(lambda value: value, key=kstash.text, value=kstash.text)
        .window(kstash.tumbling(HOUR), grace=2 * HOUR, emit="final")
        .count("hours")
    )
    hours.to("hours")
    (
        hours.key_by(lambda _: "all", key=kstash.text, value=kstash.int_text)
        .window(kstash.tumbling(timedelta(days=1)), emit="final")
        .reduce("days", lambda a, b: a + b)
        .to("days")
    )
    return app


def rows() -> list[list[tuple[int, str]]]:
    """Two partitions of two days: (timestamp, value), in order."""
    first = START - START % DAY
    return [[(first + n * 3_000_000 + part, f"v{n % 3}") for n in range(58)] for part in range(2)]


def settle(driver: TestDriver, seconds: int = 20) -> None:
    """Let the clock go on."""
    for _ in range(seconds * 4):
        driver.advance(0.25)


def outputs(driver: TestDriver, topic: str) -> list[tuple[Any, int, int]]:
    """(Key, start, value) of all that has left so far."""
    seen = driver.__dict__.setdefault("seen", {}).setdefault(topic, [])
    seen += [(*out.key[:2], out.value) for out in driver.read(topic)]
    return list(seen)


def results(driver: TestDriver, topic: str) -> Counter[Any]:
    """The same in any order."""
    return Counter(outputs(driver, topic))


def run(app: kstash.App, *, crash_every: int = 0, **options: Any) -> TestDriver:
    """One partition is read wholly before the other."""
    driver = TestDriver(app, partitions=2, start_ms=START - START % DAY + 3 * DAY, **options)
    number = 0
    for partition, records in enumerate(rows()):
        for timestamp, value in records:
            number += 1
            driver.send("in", value, timestamp_ms=timestamp, partition=partition)
            if crash_every and number % crash_every == 0:
                driver.crash()
                driver.recover()
    return driver


def expected() -> Counter[Any]:
    """What each hour should count."""
    hour = 3_600_000
    found: Counter[tuple[str, int]] = Counter(
        (value, timestamp - timestamp % hour) for part in rows() for timestamp, value in part
    )
    return Counter((value, start, count) for (value, start), count in found.items())


def days_of(driver: TestDriver) -> list[int]:
    """Sums of the days."""
    return sorted(value for _, _, value in results(driver, "days"))


DAYS = [2 * 29, 2 * 29]


def test_by_default_the_other_partition_is_late() -> None:
    """What the mode is for: the same program without it loses nearly all of one partition."""
    with run(backfill("records")) as driver:
        settle(driver)
        lost = expected() - results(driver, "hours")
        assert sum(count for _, _, count in lost) > 20


@pytest.mark.parametrize("crash_every", [0, 23])
@pytest.mark.parametrize("lineage_delay_s", [0.0, 3.0])
def test_a_partition_read_two_days_ahead_makes_nobody_late(
    crash_every: int, lineage_delay_s: float
) -> None:
    """All are counted, and no result of the first windows is late for the second."""
    app = backfill()
    with run(app, crash_every=crash_every, lineage_delay_s=lineage_delay_s) as driver:
        settle(driver)
        assert results(driver, "hours") == expected()
        assert days_of(driver) == DAYS
        driver.crash()
        driver.recover()
        settle(driver, 2)
        assert results(driver, "hours") == expected()


def test_windows_close_while_nothing_comes() -> None:
    """Time goes on by the clock once all partitions are idle, and not before the timeout."""
    with run(backfill()) as driver:
        driver.advance(IDLE_MS / 1000 - 1)
        assert sum(results(driver, "hours").values()) < len(expected())
        settle(driver)
        assert results(driver, "hours") == expected()


def test_an_idle_partition_holds_nobody_up() -> None:
    """Of three partitions one has nothing at all: results come once its task has said so."""
    app = backfill()
    with TestDriver(app, partitions=3, start_ms=START - START % DAY + 3 * DAY) as driver:
        for partition, records in enumerate(rows()):
            for timestamp, value in records:
                driver.send("in", value, timestamp_ms=timestamp, partition=partition)
        assert not results(driver, "hours")
        settle(driver)
        assert results(driver, "hours") == expected()


def test_a_filter_that_lets_nothing_through_holds_nobody_up() -> None:
    """One partition's records all go nowhere: its time goes on with control records."""
    app = backfill(keep=lambda value: value != "gone")
    with TestDriver(app, partitions=2, start_ms=START - START % DAY + 3 * DAY) as driver:
        for timestamp, value in rows()[0]:
            driver.send("in", value, timestamp_ms=timestamp, partition=0)
            driver.send("in", "gone", timestamp_ms=timestamp, partition=1)
            driver.advance(0.2)
        # All but what lies in the last hours.
        assert sum(count for _, _, count in outputs(driver, "hours")) > 50
        settle(driver)
        assert sum(count for _, _, count in outputs(driver, "hours")) == 58


def test_a_source_that_holds_is_waited_for() -> None:
    """`idle="hold"`: its times are not the clock's, so that silence says nothing of them."""
    app = kstash.App("held", event_time="watermark", idle_timeout_ms=IDLE_MS)
    counts = app.stream("in", key=kstash.text, value=kstash.text, idle="hold")
    counts.window(kstash.tumbling(HOUR), emit="final").count("hours").to("hours")
    with TestDriver(app, start_ms=START) as driver:
        driver.send("in", "a", key="k", timestamp_ms=START)
        settle(driver, 60)
        assert not outputs(driver, "hours")
        driver.send("in", "a", key="k", timestamp_ms=START + 2 * 3_600_000)
        assert len(outputs(driver, "hours")) == 1


@pytest.mark.parametrize("at", [11, 30, 47])
def test_a_crash_anywhere_changes_nothing(at: int) -> None:
    """Ticks, control records and idle inputs are made again as they were: the same outputs."""
    with TestDriver(
        backfill(), partitions=2, start_ms=START - START % DAY + 3 * DAY, lineage_delay_s=2.0
    ) as driver:
        pairs = zip(rows()[0][28:], rows()[1], strict=False)
        for step, ((ahead, value), (behind, other)) in enumerate(pairs, 1):
            driver.send("in", value, timestamp_ms=ahead, partition=0)
            driver.send("in", other, timestamp_ms=behind, partition=1)
            driver.advance(0.3 if step % 3 else 4.0)
            if step * 2 in (at, at + 1):
                driver.crash()
                driver.advance(1.0)
                driver.recover()
        settle(driver, 10)
        assert [times for times in results(driver, "hours").values() if times > 1] == []
        assert sum(count for _, _, count in outputs(driver, "hours")) == 60


class Alarms(kstash.Processor[str, str, str]):
    """Sends something an hour after each record, by its time."""

    def on_record(self, record: Any, context: Any) -> None:
        """Wait."""
        context.timer("hour", at=record.timestamp_ms + 3_600_000)

    def on_timer(self, timer: Any, context: Any) -> None:
        """Ring."""
        context.send(f"{context.key} at {timer.at_ms}")


KINDS = {
    "hopping": kstash.hopping(HOUR, HOUR / 2),
    "session": kstash.session(HOUR),
    "sliding": kstash.sliding(HOUR),
    "daily": kstash.daily("UTC"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("crashes", [False, True])
def test_all_windows_close_while_nothing_comes(kind: str, crashes: bool) -> None:
    """At a tick, as the record would do that brings the time; once, whatever crashes."""
    app = kstash.App("kinds", event_time="watermark", idle_timeout_ms=IDLE_MS)
    keyed = app.stream("in", key=kstash.text, value=kstash.text)
    keyed.window(KINDS[kind], emit="final").count("n").to("out")
    with TestDriver(app, start_ms=START + 3 * DAY, lineage_delay_s=2.0) as driver:
        for number in range(600):
            driver.send("in", "a", key=f"k{number}", timestamp_ms=START)
        assert not outputs(driver, "out")
        for second in range(90):
            driver.advance(0.25)
            if crashes and second in (22, 23, 24, 30):
                driver.crash()
                driver.recover()
        found = outputs(driver, "out")
        assert len({key for key, _, _ in found}) == 600
        assert len(set(found)) == len(found)
        driver.send("in", "a", key="k0", timestamp_ms=START)  # its window is closed
        settle(driver, 5)
        assert outputs(driver, "out") == found


@pytest.mark.parametrize("crashes", [False, True])
def test_timers_of_processors_fire_while_nothing_comes(crashes: bool) -> None:
    """Event timers too, more of them than one part has room for."""
    app = kstash.App("timers", event_time="watermark", idle_timeout_ms=IDLE_MS)
    keyed = app.stream("in", key=kstash.text, value=kstash.text)
    keyed.process("alarms", Alarms, value=kstash.text).to("out")
    with TestDriver(app, start_ms=START + DAY) as driver:
        for number in range(600):
            driver.send("in", "a", key=f"k{number}", timestamp_ms=START + number)
        if crashes:
            driver.crash()
            driver.recover()
        settle(driver)
        values = [out.value for out in driver.read("out")]
        assert values == [f"k{n} at {START + 3_600_000 + n}" for n in range(600)]


def test_another_timeout_needs_a_drain() -> None:
    """What idle inputs said was by the old one."""
    with run(backfill(), lineage_delay_s=3.0) as driver:
        driver.advance(IDLE_MS / 1000 + 1)
        driver.crash()
        other = backfill()
        other.configure(idle_timeout_ms=IDLE_MS + 1)
        with pytest.raises(ProgramChangedError, match="event_time"):
            driver.recover(other)


def test_how_far_each_input_has_come_outlives_a_restart() -> None:
    """From a checkpoint, also of an input of which nothing comes any more."""
    app = kstash.App("two", event_time="watermark")
    ahead = app.stream("ahead", key=kstash.text, value=kstash.text, idle="hold")
    behind = app.stream("behind", key=kstash.text, value=kstash.text, idle="hold")
    ahead.merge(behind).window(kstash.tumbling(HOUR), emit="final").count("n").to("out")
    first = START - START % DAY
    with TestDriver(app, start_ms=START) as driver:
        driver.send("ahead", "a", key="k", timestamp_ms=first + 10 * 3_600_000)
        driver.send("behind", "b", key="k", timestamp_ms=first)
        driver.drain()
        driver.recover()
        assert not outputs(driver, "out")
        driver.send("behind", "b", key="k", timestamp_ms=first + 5 * 3_600_000)
        assert [start for _, start, _ in outputs(driver, "out")] == [first]


FIRST = {
    "session": kstash.session(timedelta(seconds=30)),
    "sliding": kstash.sliding(timedelta(seconds=30)),
    "hopping": kstash.hopping(timedelta(seconds=30), timedelta(seconds=10)),
    "daily": kstash.daily("Asia/Kolkata"),
}
SECOND = {
    "session": kstash.session(timedelta(minutes=1)),
    "sliding": kstash.sliding(timedelta(minutes=1)),
    "tumbling": kstash.tumbling(timedelta(minutes=1)),
}


@pytest.mark.parametrize("second", SECOND)
@pytest.mark.parametrize("first", FIRST)
def test_windows_of_any_kinds_in_two_stages(first: str, second: str) -> None:
    """One partition after the other, with crashes: as in the order of time, and none is late."""
    app = kstash.App("app", event_time="watermark", idle_timeout_ms=IDLE_MS)
    sums = (
        app.stream("in", value=kstash.int_text)
        .key_by(lambda value: str(value % 3), key=kstash.text, value=kstash.int_text)
        .window(FIRST[first], emit="final")
        .sum("sums", value=kstash.int_text)
    )
    (
        sums.inner_key()
        .key_by(lambda _: "all", key=kstash.text, value=kstash.int_text)
        .window(SECOND[second], emit="final")
        .sum("all", value=kstash.int_text)
        .to("out")
    )
    # Sessions of both lengths end now and then.
    rows = [
        (START + n * 9_000 + n // 5 * 70_000 + part * 100, part, n)
        for part in range(2)
        for n in range(25)
    ]

    def told(rows: list[tuple[int, int, int]], crashes: tuple[int, ...]) -> list[Any]:
        with TestDriver(app, partitions=2, start_ms=START + 3 * DAY) as driver:
            for number, (at_ms, part, value) in enumerate(rows):
                driver.send("in", value, timestamp_ms=at_ms, partition=part)
                if number in crashes:
                    driver.crash()
                    driver.recover()
            driver.advance(40)
            assert driver.dropped() == {}
            return sorted(outputs(driver, "out"))

    expected = told(sorted(rows), ())
    assert len(expected) >= (1 if first == "daily" else 5)
    assert told(rows, (10, 30)) == expected
