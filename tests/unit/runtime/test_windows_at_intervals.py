"""Windows that send at intervals of the clock; a crash anywhere changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

import kstash
from kstash.errors import ProgramChangedError, TopologyError
from kstash.testing import TestDriver
from kstash.topology.traits import PART_RECORDS
from tests.unit.runtime.timed_windows import at, seconds, told


def counts(windows: Any = None, **settings: Any) -> kstash.App:
    """Counts by window, sent every two seconds."""
    app = kstash.App("app", **settings)
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    windowed = stream.window(windows or kstash.tumbling(seconds(10)), every=seconds(2))
    windowed.count("counts").to("out")
    return app


def test_what_has_changed_is_sent_once_at_the_end_of_an_interval() -> None:
    """Windows that have closed meanwhile too; and nothing, where nothing has changed."""
    with TestDriver(counts()) as driver:
        at(driver, 0, 1, 2, 12)
        driver.advance(1.9)
        assert told(driver) == []
        driver.advance(0.2)
        assert told(driver) == [("k", 0, 3), ("k", 10, 1)]
        driver.advance(10.0)
        assert told(driver) == []
        at(driver, 13)
        driver.advance(2.0)
        assert told(driver) == [("k", 10, 2)]


def test_all_of_an_interval_leaves_before_another_record() -> None:
    """In as many parts as it takes: records that wait come after them."""
    with TestDriver(counts()) as driver:
        for number in range(2 * PART_RECORDS + 1):
            driver.kafka.append("in", b"v", key=b"%d" % number, timestamp_ms=1_000)
        driver.rig.settle()
        driver.clock.advance(5.0)
        driver.kafka.append("in", b"v", key=b"0", timestamp_ms=1_000)
        driver.rig.settle()
        found = told(driver)
        assert len(found) == 2 * PART_RECORDS + 1
        assert {count for _, _, count in found} == {1}
        driver.advance(2.0)
        assert told(driver) == [("0", 0, 2)]


def spans(driver: TestDriver) -> list[tuple[int, int, Any]]:
    """(Start and end in seconds, value) of each result that was not read yet."""
    return [
        (out.key.start_ms // 1000, out.key.end_ms // 1000, out.value) for out in driver.read("out")
    ]


def test_only_sessions_that_were_sent_are_taken_back() -> None:
    """Those that a record of the same interval makes longer, or one with others, never were."""
    with TestDriver(counts(kstash.session(seconds(5)))) as driver:
        at(driver, 1)
        driver.advance(2.0)
        assert spans(driver) == [(1, 1, 1)]
        at(driver, 3, 4)
        driver.advance(2.0)
        assert spans(driver) == [(1, 1, None), (1, 4, 3)]
        at(driver, 20, 18)
        driver.advance(2.0)
        assert spans(driver) == [(18, 20, 2)]
        driver.crash()
        driver.recover()
        at(driver, 22)
        driver.advance(2.0)
        assert spans(driver) == [(18, 20, None), (18, 22, 3)]
        # One that was sent, and changes before it grows.
        at(driver, 20, 24)
        driver.advance(2.0)
        assert spans(driver) == [(18, 22, None), (18, 24, 5)]
        # One that begins and grows within a batch.
        for second in (40, 42):
            driver.kafka.append("in", b"v", key=b"k", timestamp_ms=second * 1_000)
        driver.advance(2.0)
        assert spans(driver) == [(40, 42, 2)]


@pytest.mark.parametrize(
    "windows",
    [
        kstash.tumbling(seconds(10)),
        kstash.hopping(seconds(10), seconds(5)),
        kstash.sliding(seconds(10)),
        kstash.session(seconds(10)),
    ],
    ids=str,
)
def test_only_windows_that_were_sent_are_emptied(windows: Any) -> None:
    """One that begins and is emptied within an interval is sent by nobody, and waits for none."""
    app = kstash.App("app")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    windowed = stream.window(windows, every=seconds(2))
    windowed.aggregate(
        "last",
        lambda: "",
        lambda _, value: kstash.DELETE if value == "x" else value,
        value=kstash.text,
        merge=(lambda _, other: other) if "session" in str(windows) else None,
    ).to("out")

    def told(*values: str) -> list[Any]:
        for value in values:
            driver.send("in", value, key="k", timestamp_ms=20_000)
        driver.advance(2.0)
        return list({value for _, _, value in spans(driver)})

    with TestDriver(app) as driver:
        assert told("a", "x") == []
        assert driver.state("last.unsent") == driver.state("last.unsent.queue") == {}
        assert told("x") == []
        assert told("a", "x", "b") == ["b"]
        assert told("x", "c", "x") == [None]
        assert told("c", "x") == []


@pytest.mark.parametrize("delivery", ["immediate", "transactional"])
@pytest.mark.parametrize("windows", [kstash.hopping(seconds(10), seconds(5))], ids=str)
def test_a_crash_at_any_write_is_none(windows: Any, delivery: Any) -> None:
    """Counts only rise, each said once, and the last ones are those of all records."""
    app = kstash.App("app", checkpoint_interval_ms=1_000)
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    windowed = stream.window(windows, grace=seconds(60), every=seconds(1))
    windowed.count("counts").to("out", delivery=delivery)
    for writes in range(300):
        with TestDriver(app) as driver:
            driver.crash_after(writes)
            for times in ((0, 6), (7, 1)):
                at(driver, *times)
                driver.advance(1.1)
                if not driver.is_running:
                    driver.crash_after(None)
                    driver.recover()
            driver.advance(2.0)
            is_over = driver.rig.allowance.left is not None
            found = told(driver)
        assert len(found) == len(set(found)), (writes, found)
        last = {start: count for _, start, count in found}
        assert last == {0: 4, 5: 2}, writes
        for start in last:
            said = [count for _, other, count in found if other == start]
            assert said == sorted(said), writes
        if is_over:
            return
    raise AssertionError("it writes ever on")


@pytest.mark.parametrize("guarantee", ["at_least_once", "none", "write_first"])
def test_other_guarantees_send_at_intervals_too(guarantee: Any) -> None:
    """Logged or not."""
    with TestDriver(counts(guarantee=guarantee)) as driver:
        at(driver, 0, 1)
        driver.advance(3.0)
        assert told(driver) == [("k", 0, 2)]


def test_what_waits_is_kept_over_a_stop() -> None:
    """Whoever starts next sends it, at the first multiple of the clock."""
    with TestDriver(counts(), start_ms=1_600_000_000_000) as driver:
        driver.advance(1.5)
        at(driver, 0)
        driver.close()
        assert told(driver) == []
        driver.recover()
        driver.advance(0.5)
        assert told(driver) == [("k", 0, 1)]


@pytest.mark.parametrize("end", ["end", "closing end", "drain"])
def test_what_waits_is_sent_where_a_run_ends(end: str) -> None:
    """At an end that is read to, whether windows close or not, and at a drain; in all its parts."""
    with TestDriver(counts(), start_ms=1_600_000_000_000) as driver:
        driver.advance(0.5)
        for number in range(2 * PART_RECORDS + 1):
            driver.kafka.append("in", b"v", key=b"%d" % number, timestamp_ms=1_000)
        driver.rig.settle()
        assert told(driver) == []
        if end == "drain":
            driver.drain()
        else:
            assert driver.run_to_end(closes_windows=end == "closing end")
        assert len(told(driver)) == 2 * PART_RECORDS + 1
        driver.recover()
        assert driver.state("counts.unsent") == driver.state("counts.unsent.queue") == {}
        driver.advance(4.0)
        assert told(driver) == []


@pytest.mark.parametrize("delivery", ["immediate", "transactional"])
def test_a_crash_at_any_write_of_a_run_that_ends_is_none(delivery: Any) -> None:
    """All counts of the run are said, each once, also to windows after these."""
    app = kstash.App("app", checkpoint_interval_ms=1_000)
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    first = stream.window(kstash.tumbling(seconds(10)), every=seconds(60)).count("first")
    by_count = first.key_by(str, key=kstash.text, value=kstash.int_text)
    second = by_count.window(kstash.tumbling(seconds(60)), every=seconds(60)).count("second")
    second.to("out", delivery=delivery)
    for writes in range(300):
        with TestDriver(app, start_ms=1_600_000_000_000) as driver:
            driver.advance(0.5)
            at(driver, 3, key="l")
            at(driver, 4, 5, 12)
            driver.crash_after(writes)
            is_over = driver.run_to_end()
            assert is_over or driver.run_to_end()
            assert sum(out.value for out in driver.read("out")) == 3, writes
        if is_over:
            return
    raise AssertionError("it writes ever on")


def test_an_upgrade_takes_it_away_without_loss() -> None:
    """After a drain, which has sent what waited: the two stores need not be given up by name."""

    def program(**options: Any) -> kstash.App:
        app = kstash.App("app", **options)
        stream = app.stream("in", key=kstash.text, value=kstash.text)
        every = None if options else seconds(2)
        stream.window(kstash.tumbling(seconds(10)), every=every).count("counts").to("out")
        return app

    with TestDriver(program()) as driver:
        at(driver, 0)
        driver.close()
        with pytest.raises(ProgramChangedError, match=r"- store counts\.unsent of stage"):
            driver.recover(program(checkpoint_interval_ms=1_000))
        driver.recover(program())
        driver.drain()
        driver.recover(program(checkpoint_interval_ms=1_000))
        at(driver, 1)
        assert told(driver) == [("k", 0, 1), ("k", 0, 2)]
        driver.drain()
        driver.recover(program())  # and it may come back
        at(driver, 2)
        assert told(driver) == []
        driver.advance(2.0)
        assert told(driver) == [("k", 0, 3)]


def test_what_waited_is_not_late_for_windows_after_it() -> None:
    """Results carry the time at which their windows have changed first, and leave in its order."""
    app = kstash.App("app")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    first = stream.window(kstash.tumbling(seconds(30)), every=seconds(2)).count("first")
    second = first.inner_key().window(kstash.tumbling(seconds(10)))
    second.max("second", value=kstash.int_text).to("out")
    with TestDriver(app) as driver:
        at(driver, 5, key="k")
        at(driver, 6, key="l")
        at(driver, 25, key="k")
        driver.advance(3.0)
        assert (told(driver), driver.dropped()) == ([("k", 20, 2), ("l", 0, 1)], {})


def test_both_options_go_together() -> None:
    """Windows close by the clock, and what they had last is sent."""
    app = kstash.App("app")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    windowed = stream.window(
        kstash.session(seconds(10)), idle_timeout=seconds(3), every=seconds(60)
    )
    windowed.count("counts").to("out")
    with TestDriver(app) as driver:
        at(driver, 0, 4)
        driver.advance(10.0)
        assert driver.state("counts") == {}
        at(driver, 3)
        assert driver.dropped() == {("counts", "late"): 1}
        driver.advance(60.0)
        assert told(driver)[-1] == ("k", 0, 2)
    said = app.topology().describe("text")
    assert "session(10 s).count(counts) [emit=update, grace=0 s] [clock: " in said
    assert "[clock: idle_timeout=3 s every=60 s]" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"windows": kstash.tumbling(seconds(1)), "emit": "final"},
            'every is for emit="update"',
        ),
        (
            {"windows": kstash.tumbling_count(3)},
            r"tumbling_count\(3\) sends each window once, when it is full: leave out every",
        ),
        (
            {"windows": kstash.tumbling(seconds(1)), "every": 3},
            "every is a timedelta",
        ),
        (
            {"windows": kstash.tumbling(seconds(1)), "every": seconds(0)},
            "every is 0:00:00: it takes whole milliseconds, 1 or more",
        ),
    ],
)
def test_what_cannot_be_is_said(arguments: dict[str, Any], message: str) -> None:
    """With the reason."""
    app = kstash.App("app")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    with pytest.raises(TopologyError, match=message):
        stream.window(**{"every": seconds(1), **arguments})


def test_watermark_mode_has_no_intervals() -> None:
    """What waits would hold event time back for a length that nobody knows."""
    app = kstash.App("app", event_time="watermark")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    with pytest.raises(TopologyError, match="has no every: what waits for an interval"):
        stream.window(kstash.tumbling(seconds(1)), every=seconds(1))
