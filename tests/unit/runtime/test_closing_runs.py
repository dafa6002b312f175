"""Bounded runs that close windows at their end; a crash anywhere changes nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import pytest

import kstash
from kstash.core.record_codec import decode_record
from kstash.core.records import BoundedRun
from kstash.errors import ConfigError
from kstash.testing import TestDriver
from kstash.topology.traits import PART_RECORDS
from tests.unit.runtime.timed_windows import at, seconds, told

KINDS = [
    kstash.tumbling(seconds(10)),
    kstash.hopping(seconds(10), seconds(5)),
    kstash.sliding(seconds(10)),
    kstash.session(seconds(10)),
    kstash.daily("UTC"),
]


def closing(windows: Any = None, *, emit: Any = "final", **settings: Any) -> kstash.App:
    """Counts by window."""
    app = kstash.App("app", **settings)
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    windowed = stream.window(windows or KINDS[0], grace=seconds(2), emit=emit)
    windowed.count("counts").to("out")
    return app


def runs(driver: TestDriver) -> list[BoundedRun]:
    """Those that were begun."""
    found = driver.kafka.read(driver.rig.topology.lineage_topic)
    records = [decode_record(r.key(), r.value()) for r in found if r.value() is not None]
    return [record for record in records if isinstance(record, BoundedRun)]


@pytest.mark.parametrize("mode", ["records", "watermark"])
@pytest.mark.parametrize("windows", KINDS, ids=str)
def test_open_windows_close_at_the_end(windows: Any, mode: str) -> None:
    """Once, of all keys; and as if time had passed them, so that what is for them later is late."""
    app = closing(windows, event_time=mode)
    with TestDriver(app) as driver:
        at(driver, 20, 24)
        at(driver, 27, key="l")
        closed = told(driver)  # of those that come with each record
        assert driver.run_to_end()
        assert told(driver) == [], "without it they stay open"
        at(driver, 26)
        assert driver.run_to_end(closes_windows=True)
        found = told(driver)
        assert {key for key, _, _ in found} == {"k", "l"}
        assert max(count for key, _, count in found if key == "k") == 3
        found += closed
        assert len(found) == len({(key, start) for key, start, _ in found})
        assert driver.run_to_end(closes_windows=True)
        assert told(driver) == [], "none is open"
        driver.recover()
        # Sliding windows keep the records for those to come, which is 2 ms longer.
        assert driver.state("counts") == {} or str(windows).startswith("sliding")
        at(driver, 27)
        assert driver.dropped()["counts", "late"] > 0
        at(driver, 2_000_000, 4_000_000)
        again = {(key, start) for key, start, _ in told(driver)}
        assert not again & {(key, start) for key, start, _ in found}, "no window has two results"


@pytest.mark.parametrize("windows", KINDS, ids=str)
def test_windows_that_send_with_each_record_are_forgotten(windows: Any) -> None:
    """They have sent all that they had."""
    with TestDriver(closing(windows, emit="update")) as driver:
        at(driver, 20, 24)
        said = told(driver)
        assert driver.run_to_end(closes_windows=True)
        assert said
        assert told(driver) == []
        driver.recover()
        at(driver, 24)
        assert driver.dropped()["counts", "late"] > 0


def test_windows_by_number_wait_for_their_records() -> None:
    """They go by no time: what has not come yet may come in the next run."""
    app = kstash.App("app")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    stream.window(kstash.tumbling_count(3)).count("counts").to("out")
    assert not app.topology().stages[0].closes_at_end
    with TestDriver(app) as driver:
        at(driver, 1, 2)
        assert driver.run_to_end(closes_windows=True)
        assert driver.read("out") == []
        driver.recover()
        at(driver, 3)
        assert [out.value for out in driver.read("out")] == [3]


def test_all_windows_close_however_many_there_are() -> None:
    """In parts of one event."""
    with TestDriver(closing()) as driver:
        for number in range(2 * PART_RECORDS + 1):
            driver.kafka.append("in", b"v", key=b"%d" % number, timestamp_ms=1_000)
        assert driver.run_to_end(closes_windows=True)
        assert len(told(driver)) == 2 * PART_RECORDS + 1


def test_those_before_close_first() -> None:
    """Else what they send would be late for those after them, in the same stage."""
    app = kstash.App("app")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    first = stream.window(kstash.tumbling(seconds(10)), emit="final").count("first")
    first.inner_key().window(kstash.tumbling(seconds(60)), emit="final").sum("second").to("out")
    with TestDriver(app) as driver:
        at(driver, 1, 12)
        assert driver.run_to_end(closes_windows=True)
        assert (told(driver), driver.dropped()) == ([("k", 0, 2)], {})


@pytest.mark.parametrize("mode", ["records", "watermark"])
def test_windows_after_windows_close_after_them(mode: Any) -> None:
    """In one stage, and in a stage after it: with what those before them have sent."""
    app = kstash.App("app", event_time=mode)
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    first = stream.window(kstash.tumbling(seconds(10)), emit="final").count("first")
    second = first.inner_key().window(kstash.tumbling(seconds(60)), emit="final").sum("second")
    by_count = second.key_by(lambda _: "all", key=kstash.text, value=kstash.int_text)
    third = by_count.window(kstash.tumbling(seconds(3_600)), emit="final").sum("third")
    third.to("out")
    with TestDriver(app, partitions=2) as driver:
        for second_ in (1, 12, 65):
            for key in "klmn":
                at(driver, second_, key=key)
        told(driver)
        assert driver.run_to_end(closes_windows=True)
        assert sum(out.value for out in driver.read("out")) == 12
        assert driver.dropped() == {}


@pytest.mark.parametrize(
    ("delivery", "mode"),
    [("immediate", "records"), ("transactional", "watermark")],
)
def test_a_crash_at_any_write_is_none(
    delivery: Literal["immediate", "transactional"], mode: Any
) -> None:
    """Each window has one result, whatever is written last; the run that goes on sends the rest."""
    app = kstash.App("app", event_time=mode, checkpoint_interval_ms=1_500)
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    first = stream.window(kstash.tumbling(seconds(10)), emit="final").count("first")
    first.to("first-out", delivery=delivery)
    by_count = first.key_by(str, key=kstash.text, value=kstash.int_text)
    second = by_count.window(kstash.session(seconds(60)), emit="final").count("second")
    second.to("out", delivery=delivery)
    for writes in range(400):
        with TestDriver(app) as driver:
            for time, key in ((0, "k"), (1, "k"), (3, "l"), (12, "k"), (41, "l")):
                driver.kafka.append("in", b"v", key=key.encode(), timestamp_ms=time * 1000 + 1)
            driver.crash_after(writes)
            is_over = driver.run_to_end(closes_windows=True)
            if not is_over:
                # What comes meanwhile is for the next run.
                driver.kafka.append("in", b"v", key=b"later", timestamp_ms=99_000_000)
                assert driver.run_to_end(closes_windows=True)
            closed = Counter(
                (out.key.key, out.key.start_ms // 1000, out.value)
                for out in driver.read("first-out")
            )
            expected = {("k", 0, 2), ("l", 0, 1), ("k", 10, 1), ("l", 40, 1)}
            assert closed - Counter({("later", 99_000, 1): 1}) == Counter(expected), writes
            found = Counter((out.key.key, out.value) for out in driver.read("out"))
            assert sum(n * count for (_, n), count in found.items()) == closed.total(), writes
            assert driver.dropped() == {}
        if is_over:
            return
    raise AssertionError("it writes ever on")


@pytest.mark.parametrize("guarantee", ["at_least_once", "write_first"])
def test_other_guarantees_close_them_too(guarantee: Any) -> None:
    """Logged or not."""
    with TestDriver(closing(guarantee=guarantee)) as driver:
        at(driver, 0, 4)
        assert driver.run_to_end(closes_windows=True)
        assert told(driver) == [("k", 0, 2)]


@pytest.mark.parametrize("is_first_closing", [True, False])
def test_a_run_goes_on_with_runs_of_its_kind_only(is_first_closing: bool) -> None:
    """One that closes windows is none that leaves them open: each begins its own."""
    with TestDriver(closing()) as driver:
        at(driver, 0, 4)
        driver.crash_after(7)
        assert not driver.run_to_end(closes_windows=is_first_closing)
        assert driver.run_to_end(closes_windows=is_first_closing)
        assert [run.closes_windows for run in runs(driver)] == [is_first_closing]
        at(driver, 5)
        driver.crash_after(7)
        assert not driver.run_to_end(closes_windows=is_first_closing)
        assert driver.run_to_end(closes_windows=not is_first_closing)
        kinds = [run.closes_windows for run in runs(driver)]
        assert kinds[-2:] == [is_first_closing, not is_first_closing]


def test_where_a_task_of_one_input_would_not_log_the_run_does() -> None:
    """That windows close is no record: its place is in the lineage, and in START that it is."""
    app = closing()
    assert not app.topology().stages[0].must_log
    with TestDriver(app) as driver:
        at(driver, 0)
        assert driver.run_to_end(closes_windows=True)
        assert told(driver) == [("k", 0, 1)]
        driver.recover()
        at(driver, 20, 40)
        driver.crash()
        driver.recover()
        assert told(driver) == [("k", 20, 1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"closes_windows": True}, "closes_windows is for a run that ends: give until='end'"),
        ({"closes_windows": True, "until": "drain"}, "closes_windows is for a run that ends"),
        ({"closes_windows": 1, "until": "end"}, "closes_windows is True or False, not 1"),
    ],
)
def test_what_cannot_be_is_said(arguments: dict[str, Any], message: str) -> None:
    """Before anything is connected."""
    with pytest.raises(ConfigError, match=message):
        closing().run(**arguments)
