"""Windows that close by the clock where no record comes; a crash anywhere changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import kstash
from kstash.core.determinants import Flush
from kstash.core.record_codec import decode_record
from kstash.core.records import Segment
from kstash.errors import LineageGapError, TopologyError
from kstash.runtime.task.clocked import logged_event
from kstash.testing import TestDriver
from kstash.testing.kafka.cluster import MemoryAdmin
from tests.unit.runtime.timed_windows import at, run_bounded, seconds, told


def idle(windows: Any = None, *, emit: Any = "final", **settings: Any) -> kstash.App:
    """Counts by window, closed after five seconds without a record; and all records, by value."""
    app = kstash.App("app", **settings)
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    counts = stream.filter(lambda value: value != "other").window(
        windows or kstash.tumbling(seconds(10)),
        grace=seconds(2),
        emit=emit,
        idle_timeout=seconds(5),
    )
    counts.count("counts").to("out")
    return app


def flushes(driver: TestDriver) -> list[Flush]:
    """Those that are in the lineage topic."""
    found = driver.kafka.read(driver.rig.topology.lineage_topic)
    records = [decode_record(r.key(), r.value()) for r in found if r.value() is not None]
    segments = [record for record in records if isinstance(record, Segment)]
    return [entry for s in segments for entry in s.entries if isinstance(entry, Flush)]


@pytest.mark.parametrize("mode", ["records", "watermark"])
@pytest.mark.parametrize(
    "windows",
    [
        kstash.tumbling(seconds(10)),
        kstash.hopping(seconds(10), seconds(10)),
        kstash.session(seconds(10)),
        kstash.daily("UTC"),
    ],
    ids=str,
)
def test_windows_close_when_nothing_comes(windows: Any, mode: str) -> None:
    """Not before, and once; what is for them later is late, and opens no second one."""
    app = idle(windows, event_time=mode)
    with TestDriver(app) as driver:
        at(driver, 0, 4)
        driver.advance(4.0)
        assert told(driver) == []
        driver.advance(4.0)
        assert told(driver) == [("k", 0, 2)]
        at(driver, 3)
        driver.advance(20.0)
        assert (told(driver), driver.dropped()) == ([], {("counts", "late"): 1})
        assert len(flushes(driver)) == 1


@pytest.mark.parametrize("emit", ["final", "update"])
@pytest.mark.parametrize(
    "windows",
    [
        kstash.tumbling(seconds(10)),
        kstash.hopping(seconds(10), seconds(5)),
        kstash.session(seconds(10)),
        kstash.sliding(seconds(10)),
        kstash.daily("UTC"),
    ],
    ids=str,
)
def test_windows_close_where_event_time_has_not_come_yet(windows: Any, emit: Any) -> None:
    """In watermark mode records come before any time does, while some upstream task says none."""
    app = kstash.App("app", event_time="watermark")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    keyed = stream.key_by(lambda value: value, key=kstash.text, value=kstash.text)
    windowed = keyed.window(windows, emit=emit, idle_timeout=seconds(5))
    windowed.count("counts").to("out")
    with TestDriver(app, partitions=2) as driver:
        driver.send("in", "v", key="k", timestamp_ms=20_000, partition=0)
        driver.crash()
        driver.recover()
        for _ in range(20):
            driver.advance(1.0)
        assert {out.value for out in driver.read("out")} == {1}
        assert len(flushes(driver)) == 1


def closed_by_silence(*topics: str, idle: Any = "clock") -> list[tuple[str, int, int]]:
    """In watermark mode, of one record in the first topic, and none after it."""
    app = kstash.App("app", event_time="watermark")
    stream = app.stream(*topics, key=kstash.text, value=kstash.text, idle=idle)
    windowed = stream.window(kstash.tumbling(seconds(10)), emit="final", idle_timeout=seconds(5))
    windowed.count("counts").to("out")
    with TestDriver(app) as driver:
        at(driver, 20)
        driver.advance(10.0)
        return told(driver)


def test_windows_of_two_topics_close_where_one_has_no_record() -> None:
    """In watermark mode, where its time is missing."""
    assert closed_by_silence("in", "more") == [("k", 20, 1)]


def test_one_silence_closes_the_windows_of_all_keys() -> None:
    """Of those too that had none: what comes for the same time is late."""
    with TestDriver(idle()) as driver:
        at(driver, 0)
        driver.advance(8.0)
        assert told(driver) == [("k", 0, 1)]
        at(driver, 9, key="never seen")
        at(driver, 10, key="never seen")
        assert driver.dropped() == {("counts", "late"): 1}


def test_windows_close_where_a_source_holds_time_back() -> None:
    """In watermark mode `idle="hold"` waits for the next record, and the windows do not."""
    assert closed_by_silence("in", idle="hold") == [("k", 20, 1)]


def test_records_put_it_off_and_others_do_not() -> None:
    """Those that reach the windows: late ones and null keys too, but none that is filtered."""
    with TestDriver(idle()) as driver:
        at(driver, 0, 30)
        for _ in range(4):
            driver.advance(3.0)
            at(driver, 1)
        assert told(driver) == [("k", 0, 1)]
        for _ in range(4):
            driver.advance(3.0)
            at(driver, 99, value="other")
        assert told(driver) == [("k", 30, 1)]


def test_on_update_windows_close_silently() -> None:
    """They are forgotten, and what comes for them is late."""
    with TestDriver(idle(emit="update")) as driver:
        at(driver, 0, 4)
        driver.advance(10.0)
        assert told(driver) == [("k", 0, 1), ("k", 0, 2)]
        assert driver.state("counts") == {}
        at(driver, 5)
        assert driver.dropped() == {("counts", "late"): 1}


def test_nothing_closes_while_records_wait() -> None:
    """However long inputs are paused: the time begins anew where they were not read to the end."""
    with TestDriver(idle()) as driver:
        at(driver, 0)
        worker = driver.rig.worker
        worker.context.gate.pause([("in", 0)], "test")
        driver.kafka.append("in", b"v", key=b"k", timestamp_ms=9_000)
        for _ in range(100):
            driver.clock.advance(0.5)
            worker.step(0.0)
        assert flushes(driver) == []
        worker.context.gate.resume([("in", 0)], "test")
        driver.advance(0.1)
        assert driver.dropped() == {}
        driver.advance(12.0)
        assert told(driver) == [("k", 0, 2)]


def test_nothing_closes_where_nobody_knows_the_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer without the input's end says nothing; it is asked again."""
    with TestDriver(idle()) as driver:
        at(driver, 0)
        driver.advance(1.0)
        with monkeypatch.context() as patch:
            patch.setattr(MemoryAdmin, "ask_stable_ends", lambda *_: dict)
            driver.advance(30.0)
            patch.setattr(MemoryAdmin, "ask_stable_ends", lambda *_: lambda: None)
            driver.advance(200.0)
        assert flushes(driver) == []
        driver.advance(70.0)
        assert told(driver) == [("k", 0, 1)]


def test_a_record_that_comes_while_the_ends_are_asked_for_is_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It puts the closing off, though the answer was right when it was given."""
    ask = MemoryAdmin.ask_stable_ends
    with TestDriver(idle()) as driver:
        at(driver, 0)
        driver.advance(4.0)
        asked: list[Any] = []

        def late(admin: MemoryAdmin, partitions: Any) -> Any:
            answer = ask(admin, partitions)()
            asked.append(answer)
            at_s = driver.clock.monotonic() + 3.0
            return lambda: answer if driver.clock.monotonic() >= at_s else None

        monkeypatch.setattr(MemoryAdmin, "ask_stable_ends", late)
        driver.advance(3.0)
        assert asked
        at(driver, 1)
        driver.advance(3.0)
        assert flushes(driver) == []
        driver.advance(12.0)
        assert told(driver) == [("k", 0, 2)]


def test_whether_a_flush_may_come_is_asked_when_it_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not once a record has come, none where some wait or where a bounded run is at its end."""
    with TestDriver(idle()) as driver:
        at(driver, 0)
        driver.advance(1.0)
        task = driver.rig.worker.groups[0].tasks[0]
        ticking, arrived = task.ticking, task.ticks.flushes.all[0].step.arrived
        assert ticking is not None
        ticking.flush_due.append((0, arrived - 1))
        assert ticking.take(None) is None
        with monkeypatch.context() as patch:
            patch.setattr(ticking, "_is_at_end", lambda: True)
            ticking.flush_due.append((0, arrived))
            assert ticking.take(None) is None
        with monkeypatch.context() as patch:
            patch.setattr(task.inputs[0], "buffer", ["a record"])
            ticking.flush_due.append((0, arrived))
            assert ticking.take(None) is None
        ticking.flush_due.append((0, arrived))
        assert ticking.take(None) is not None


def test_an_outage_closes_nothing() -> None:
    """What came meanwhile is read first, and then the time begins."""
    with TestDriver(idle()) as driver:
        at(driver, 0)
        driver.crash()
        driver.clock.advance(3_600.0)
        driver.kafka.append("in", b"v", key=b"k", timestamp_ms=9_000)
        driver.recover()
        driver.advance(3.0)
        assert told(driver) == []
        driver.advance(6.0)
        assert told(driver) == [("k", 0, 2)]


@pytest.mark.parametrize(
    ("delivery", "mode"), [("immediate", "records"), ("transactional", "watermark")]
)
def test_a_crash_at_any_write_is_none(delivery: Any, mode: Any) -> None:
    """Each window has one result, whatever is written last."""
    app = kstash.App("app", event_time=mode, checkpoint_interval_ms=1_500)
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    first = stream.window(
        kstash.tumbling(seconds(10)), emit="final", idle_timeout=seconds(1)
    ).count("first")
    by_count = first.key_by(str, key=kstash.text, value=kstash.int_text)
    second = by_count.window(kstash.session(seconds(60)), emit="final", idle_timeout=seconds(1))
    second.count("second").to("out", delivery=delivery)
    for writes in range(400):
        with TestDriver(app) as driver:
            driver.crash_after(writes)
            for step in range(3):
                if step == 1:
                    at(driver, 41, key="l")
                elif not step:
                    at(driver, 0, 1)
                    at(driver, 3, key="l")
                    at(driver, 12)
                driver.advance(2.5)
                if not driver.is_running:
                    driver.crash_after(None)
                    driver.recover()
            driver.advance(7.0)
            is_over = driver.rig.allowance.left is not None
            found = Counter((out.key.key, out.value) for out in driver.read("out"))
        # Which of them are in one session depends on when the first ones have closed.
        assert sum(n * count for (_, n), count in found.items()) == 4, writes
        if is_over:
            return
    raise AssertionError("it writes ever on")


@pytest.mark.parametrize("guarantee", ["at_least_once", "none", "write_first"])
def test_other_guarantees_close_them_too(guarantee: Any) -> None:
    """Logged or not."""
    with TestDriver(idle(guarantee=guarantee)) as driver:
        at(driver, 0, 4)
        driver.advance(10.0)
        assert told(driver) == [("k", 0, 2)]
        assert len(flushes(driver)) == (guarantee == "write_first")


def test_nothing_closes_at_the_ends_of_a_bounded_run() -> None:
    """An END fixes the history: open windows are for the next run."""
    with TestDriver(idle()) as driver:
        at(driver, 0)
        run_bounded(driver)
        assert flushes(driver) == []
        driver.recover()
        driver.advance(10.0)
        assert told(driver) == [("k", 0, 1)]


def test_an_upgrade_may_add_it_and_take_it_away() -> None:
    """After a drain; windows that were open before close, too."""
    plain = kstash.App("app")
    stream = plain.stream("in", key=kstash.text, value=kstash.text)
    counts = stream.filter(lambda value: value != "other").window(
        kstash.tumbling(seconds(10)), grace=seconds(2), emit="final"
    )
    counts.count("counts").to("out")
    with TestDriver(plain) as driver:
        at(driver, 0)
        driver.drain()
        driver.recover(idle())
        at(driver, 1)
        driver.advance(10.0)
        assert told(driver) == [("k", 0, 2)]
        driver.drain()
        driver.recover(plain)
        at(driver, 2, 31)
        driver.advance(10.0)
        assert (told(driver), driver.dropped()) == ([], {("counts", "late"): 1})


def test_a_flush_of_nobody_stops_a_replay() -> None:
    """The lineage is of another program."""
    with TestDriver(idle()) as driver:
        ticks = driver.rig.worker.groups[0].tasks[0].ticks
        for number in (0, 1):  # the time-out, and the end of a run that closes windows
            logged_event(Flush(0, number), ticks, "0_0")
        with pytest.raises(LineageGapError, match="no operator of the stage takes"):
            logged_event(Flush(0, 2), ticks, "0_0")


def test_topology_says_what_goes_by_the_clock() -> None:
    """In each drawing, and in what a start compares."""
    topology = idle().topology()
    said = "tumbling(10 s).count(counts) [emit=final, grace=2 s] [clock: idle_timeout=5 s]"
    for format_ in ("text", "mermaid", "dot"):
        assert said in topology.describe(format_)
    assert '"clock": "idle_timeout=5 s"' in topology.describe("json")
    assert topology.stages[0].must_log


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda stream: stream.window(kstash.tumbling_count(3), idle_timeout=seconds(1)),
            r"tumbling_count\(3\) goes by no time: leave out idle_timeout",
        ),
        (
            lambda stream: stream.window(kstash.session(seconds(1)), idle_timeout=seconds(0)),
            "idle_timeout is 0:00:00: it takes whole milliseconds, 1 or more",
        ),
        (
            lambda stream: stream.window(kstash.session(seconds(1)), idle_timeout=5),
            "idle_timeout is a timedelta",
        ),
    ],
)
def test_what_cannot_be_is_said(make: Callable[[Any], Any], message: str) -> None:
    """With the reason."""
    stream = kstash.App("app").stream("in", key=kstash.text, value=kstash.text)
    with pytest.raises(TopologyError, match=message):
        make(stream)
