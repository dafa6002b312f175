"""What a test reaches by the driver: streams without a topic, what was dropped, any crash."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import kstash
from kstash import App, KeyedStream, Late
from kstash.errors import ConfigError, OperatorError
from kstash.testing import TestDriver

MINUTE = timedelta(minutes=1)


def windowed(app: App, emit: Any = "final") -> Any:
    """Counts by minute of a topic."""
    stream: KeyedStream[str, str] = app.stream("in", key=kstash.text, value=kstash.text)
    return stream.window(kstash.tumbling(MINUTE), emit=emit).reduce("longest", max)


class Sorted(kstash.Processor[str, str, str]):
    """Sends what is no number aside, as an object that no serde is known for."""

    sides = ("words",)

    def on_record(self, record: kstash.Record, context: kstash.Context[str, str]) -> None:
        """Send it."""
        if record.value.isdigit():
            context.send(record.value)
        else:
            context.send((record.value, {record.value}), to="words")


def test_late_records_and_side_outputs_without_a_topic() -> None:
    """As objects, once, across crashes; a stream that is asked for again is the same one."""
    app = App("app")
    results = windowed(app)
    results.to("out")
    sides = app.stream("mixed", key=kstash.text, value=kstash.text).process(
        "sorted", Sorted, value=kstash.text
    )
    sides.to("numbers")
    with TestDriver(app, streams=[results.late(), sides.side("words"), results]) as driver:
        for second in (10, 130, 20):
            driver.send("in", str(second), key="k", timestamp_ms=second * 1000)
            driver.send("mixed", f"w{second}", key="k")
            driver.crash()
            driver.recover()
        (late,) = driver.read(results.late())
        assert (late.key, late.value) == ("k", Late("20", ((0, 60_000),)))
        words = [record.value for record in driver.read(sides.side("words"))]
        assert words == [(word, {word}) for word in ("w10", "w130", "w20")]
        assert [record.key for record in driver.read(results)] == [kstash.Windowed("k", 0, 60_000)]
        assert driver.read(results.late()) == driver.read(results) == []


@pytest.mark.parametrize("named", [False, True])
def test_a_stream_that_is_named_changes_no_mode_of_time(named: bool) -> None:
    """The slowest partition decides in watermark mode, whether a test reads late records or not."""
    app = App("app", event_time="watermark")
    words: KeyedStream[str, str] = app.stream("in", key=kstash.text, value=kstash.text, idle="hold")
    ahead: KeyedStream[str, str] = app.stream("on", key=kstash.text, value=kstash.text, idle="hold")
    results = words.merge(ahead).window(kstash.tumbling(MINUTE), emit="final").count("n")
    results.to("out")
    streams = [results.late()] if named else []
    with TestDriver(app, streams=streams) as driver:
        driver.send("on", "far ahead", key="k", timestamp_ms=3_600_000)
        driver.send("in", "not late for it", key="k", timestamp_ms=10_000)
        assert not driver.read("out")
        driver.send("in", "closes", key="k", timestamp_ms=60_000)
        driver.advance(1)
        assert [record.value for record in driver.read("out")] == [1]
        assert not [late for stream in streams for late in driver.read(stream)]


def test_a_stream_that_was_not_named() -> None:
    """Or that is none, or of another program: what to do is said."""
    app = App("app")
    results = windowed(app)
    results.to("out")
    other = App("other").stream("in", value=kstash.text)
    with TestDriver(app) as driver:
        with pytest.raises(ConfigError, match=r"TestDriver\(app, streams="):
            driver.read(results.late())
        with pytest.raises(ConfigError, match="reads topics and streams, not 5"):
            driver.read(5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a stream of another application"):
        TestDriver(app, streams=[other])
    with pytest.raises(ConfigError, match="reads topics and streams, not 'out'"):
        TestDriver(app, streams=["out"])  # type: ignore[list-item]


def test_the_program_itself_stays_as_it_is() -> None:
    """What is read beside is in the driven program alone."""
    app = App("app")
    results = windowed(app)
    results.to("out")
    before = app.topology().hash
    with TestDriver(app, streams=[results.late()]):
        assert app.topology().hash == before
    with TestDriver(app) as driver:
        assert driver.rig.topology.hash == before


def test_an_object_that_does_not_say_what_it_holds() -> None:
    """A replay could not compare it."""
    app = App("app")
    stream = app.stream("in", value=kstash.text).map(lambda _: object())
    with (
        TestDriver(app, streams=[stream]) as driver,
        pytest.raises(kstash.errors.SerdeError, match="does not say what it holds"),
    ):
        driver.send("in", "a")


def test_what_was_dropped_by_operator_and_reason() -> None:
    """At once, by the operators' names; a replay does not count again."""
    app = App("app")
    windowed(app).to("out")
    timed = app.stream("timed", value=kstash.json, timestamp=int, max_ahead=MINUTE)
    timed.to("timed-out")
    with TestDriver(app) as driver:
        assert driver.dropped() == {}
        for second, key in ((10, "k"), (130, "k"), (20, "k"), (30, None)):
            driver.send("in", "v", key=key, timestamp_ms=second * 1000)
        driver.send("timed", 10**12, timestamp_ms=1)
        driver.send("timed", 1, timestamp_ms=1)
        expected = {
            ("longest", "late"): 1,
            ("longest", "null_key"): 1,
            ("timed", "ahead"): 1,
        }
        assert driver.dropped() == expected
        driver.advance(1)
        driver.crash()
        assert driver.dropped() == expected
        driver.recover()
        assert driver.dropped() == expected
        driver.send("in", "v", key="k", timestamp_ms=5)
        assert driver.dropped()["longest", "late"] == 2


def test_time_that_is_given_to_records() -> None:
    """No clock moves, so that nothing is acknowledged that waits for it."""
    app = App("app")
    windowed(app).to("out")
    with TestDriver(app) as driver:
        now = driver.clock.time_ms()
        driver.send("in", "a", key="k")
        driver.advance_time(90)
        driver.send("in", "b", key="k")
        assert driver.clock.time_ms() == now
        (result,) = driver.read("out")
        assert (result.value, result.timestamp_ms) == ("a", now)
        driver.advance_time(90)
        driver.send("in", "c", key="k", timestamp_ms=now + 90_001)
        assert driver.read("out") == []


def word_count() -> App:
    """Two stages, and a sink of each delivery."""
    app = App("app")
    words = app.stream("lines", value=kstash.text).flat_map(str.split)
    counts = words.key_by(str, key=kstash.text).count("words")
    counts.to("counts")
    counts.to("table", delivery="transactional")
    return app


def counted(driver: TestDriver, topic: str) -> list[tuple[str, int]]:
    """What a topic says."""
    return [(record.key, record.value) for record in driver.read(topic)]


@pytest.mark.parametrize("delay_s", [0.0, 1.0])
def test_a_crash_at_every_write(delay_s: float) -> None:
    """Whatever the point, also in the recovery after it: each word counts once, in its order."""
    lines = ("to be", "or not to", "be")
    writes, points = 0, 0
    is_past_the_end = False
    while not is_past_the_end:
        with TestDriver(word_count(), lineage_delay_s=delay_s) as driver:
            driver.crash_after(writes)
            for line in lines:
                driver.send("lines", line)
            is_past_the_end = driver.is_running
            driver.crash_after(None)
            if not is_past_the_end:
                points += 1
                driver.crash_after(writes % 7)
                driver.recover()
                driver.crash_after(None)
                if not driver.is_running:
                    driver.recover()
            driver.advance(3)
            expected = [("to", 1), ("be", 1), ("or", 1), ("not", 1), ("to", 2), ("be", 2)]
            assert counted(driver, "counts") == expected, writes
            assert counted(driver, "table") == expected, writes
            assert driver.state("words") == {"to": 2, "be": 2, "or": 1, "not": 1}
        writes += 1
    assert points > 10


def test_a_crash_between_the_outputs_of_one_batch() -> None:
    """Records that wait come as one batch, of which one topic has its part and the other none."""
    app = App("app")
    stream = app.stream("in", value=kstash.text)
    stream.to("first")
    stream.to("second")
    seen, writes, is_over = set(), 0, False
    while not is_over:
        with TestDriver(app) as driver:
            driver.crash()
            for value in "abc":
                driver.send("in", value)
            driver.crash_after(writes)
            driver.recover()
            is_over = driver.is_running
            made = [[r.value for r in driver.read(topic)] for topic in ("first", "second")]
            if not is_over:
                seen.add((len(made[0]), len(made[1])))
                driver.recover()
            for values, topic in zip(made, ("first", "second"), strict=True):
                assert values + [r.value for r in driver.read(topic)] == ["a", "b", "c"]
        writes += 1
    assert {(0, 0), (1, 0), (3, 2)} <= seen


def test_what_a_worker_is_asked_after_its_last_write() -> None:
    """It is gone, as after `crash`; an error of user code before it is one."""
    app = App("app")
    app.stream("in", value=kstash.text).map(int).to("out", value=kstash.int_text)
    with TestDriver(app) as driver:
        driver.crash_after(0)
        driver.send("in", "1")
        with pytest.raises(ConfigError, match="there is no worker"):
            driver.crash()
        driver.recover()
        driver.crash_after(100)
        with pytest.raises(OperatorError):
            driver.send("in", "one")
        assert not driver.is_running


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "1"])
def test_what_is_no_number_of_writes(wrong: Any) -> None:
    """Refused."""
    with TestDriver(word_count()) as driver, pytest.raises(ConfigError, match="a number of writes"):
        driver.crash_after(wrong)
