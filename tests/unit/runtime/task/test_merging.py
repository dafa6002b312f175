"""Tasks that take several topics in the order of their times. Source: protocol, section 3."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

import kstash
from kstash import App
from kstash.core.determinants import Consumed, MergedBatch
from kstash.core.record_codec import decode_record
from kstash.core.records import Checkpoint, Segment
from kstash.errors import OperatorError, ReplayDivergedError, SkipTooLateError
from kstash.testing import TestDriver
from kstash.testing.kafka.log import Outcome, Transaction

HOUR_MS = 3_600_000
DAY = 24


class Times(kstash.Processor[str, str, str]):
    """Sends on what it gets, in the order in which it gets it, and how many came before it."""

    count = kstash.Value("count", kstash.int_text)

    def on_record(self, record: kstash.Record, context: kstash.Context[str, str]) -> None:
        """Refuses poison."""
        if record.value == "poison":
            raise ValueError(record.value)
        count = self.count.get(0)
        self.count.set(count + 1)
        context.send(f"{record.value}#{count}")


def ordered(**settings: Any) -> App:
    """Two topics as they come."""
    app = App("merging", **settings)
    both = app.stream("l", "r", key=kstash.text, value=kstash.text)
    both.process("times", Times, value=kstash.text).to("out")
    return app


def spread(**settings: Any) -> App:
    """The same, of which one comes through an internal topic."""
    app = App("merging", **settings)
    left, right = (app.stream(topic, key=kstash.text, value=kstash.text) for topic in "lr")
    through = left.repartition("spread")
    through.merge(right).process("times", Times, value=kstash.text).to("out")
    return app


def read(driver: TestDriver) -> list[str]:
    """New outputs, without their numbers, which must be dense."""
    values = [record.value.split("#") for record in driver.read("out")]
    return [value for value, _ in values]


def records_of(driver: TestDriver, kind: type) -> list[Any]:
    """What the lineage topic has of one kind."""
    records = [decode_record(r.key(), r.value()) for r in driver.kafka.read("merging-lineage")]
    return [record for record in records if isinstance(record, kind)]


def entries_of(driver: TestDriver) -> list[Any]:
    """All lineage of the last stage that was written."""
    segments = records_of(driver, Segment)
    last = max(segment.task.stage for segment in segments)
    return [e for segment in segments if segment.task.stage == last for e in segment.entries]


def send_a_day(driver: TestDriver) -> list[str]:
    """A record of each topic for each hour, one topic after the other; returns them by time."""
    for topic in ("r", "l"):
        for hour in range(DAY):
            driver.send(topic, f"{topic}{hour}", "k", timestamp_ms=1 + hour * HOUR_MS)
    return [f"{topic}{hour}" for hour in range(DAY) for topic in ("l", "r")]


@pytest.mark.parametrize("guarantee", ["exactly_once", "write_first", "at_least_once", "none"])
def test_a_topic_that_is_read_a_day_ahead_waits_for_the_other(guarantee: str) -> None:
    """Whatever the client hands out first."""
    with TestDriver(ordered(guarantee=guarantee)) as driver:
        driver.crash()
        if guarantee == "none":
            driver.rig.config = ordered(guarantee=guarantee, auto_offset_reset="earliest").config
        expected = send_a_day(driver)
        driver.kafka.fetch_max = driver.kafka.poll_max = 5
        driver.recover()
        driver.advance(1)
        assert read(driver) == expected


def test_nothing_is_waited_for_where_that_is_asked() -> None:
    """Then the order is that of what is there."""
    with TestDriver(ordered(task_idle_ms=-1)) as driver:
        driver.crash()
        expected = send_a_day(driver)
        driver.kafka.fetch_max = driver.kafka.poll_max = 5
        driver.recover()
        found = read(driver)
        assert found != expected
        assert sorted(found) == sorted(expected)


def test_a_batch_is_one_entry_and_is_replayed_as_it_was() -> None:
    """The lineage has counts and places, and no run."""
    with TestDriver(ordered()) as driver:
        driver.crash()
        expected = send_a_day(driver)
        driver.recover()
        assert read(driver) == expected
        driver.advance(0.2)
        entries = entries_of(driver)
        assert all(isinstance(entry, MergedBatch) for entry in entries)
        assert sum(entry.count for entry in entries) == 2 * DAY
        assert len(entries) < DAY
        driver.crash()
        driver.send("l", "more", "k", timestamp_ms=1)
        driver.recover()
        assert read(driver) == ["more"]
        driver.advance(2)
        assert driver.metrics.counts["replayed_records"] == 2 * DAY
        assert driver.state("times.count") == {"k": 2 * DAY + 1}


def test_what_comes_alone_is_taken_at_once() -> None:
    """Of a topic that is at its end nothing is waited for, by default."""
    with TestDriver(ordered()) as driver:
        driver.send("l", "a", "k", timestamp_ms=5)
        assert read(driver) == ["a"]
        driver.send("r", "b", "k", timestamp_ms=3)
        assert read(driver) == ["b"]


def test_a_topic_at_its_end_may_be_waited_for() -> None:
    """For `task_idle_ms` after its last record; what comes meanwhile finds its place."""
    with TestDriver(ordered(task_idle_ms=2_000)) as driver:
        driver.advance(2)
        driver.send("l", "a5", "k", timestamp_ms=5)
        driver.send("l", "a7", "k", timestamp_ms=7)
        assert read(driver) == ["a5", "a7"]
        driver.send("r", "b6", "k", timestamp_ms=6)
        assert read(driver) == []
        driver.advance(1)
        status = driver.rig.worker.status().tasks[0]
        assert (status.waits_for, round(status.waits_seconds, 1)) == (("l/0",), 1.0)
        assert driver.metrics.gauges["input_awaited_seconds"] == pytest.approx(0, abs=1.1)
        driver.send("l", "a4", "k", timestamp_ms=4)
        assert read(driver) == ["a4"]
        driver.advance(1.9)
        assert read(driver) == []
        driver.advance(0.2)
        assert read(driver) == ["b6"]
        assert driver.rig.worker.status().tasks[0].waits_for == ()


def test_a_wait_is_no_stall() -> None:
    """The probe of liveness is not about it."""
    with TestDriver(ordered(task_idle_ms=600_000)) as driver:
        driver.send("l", "a", "k")
        driver.advance(20)
        (status,) = driver.rig.worker.status().tasks
        assert (status.stalled_seconds, status.waits_for) == (0.0, ("r/0",))


def test_a_transaction_that_stays_open_holds_nobody_up() -> None:
    """The end of a topic is its last stable offset."""
    with TestDriver(ordered()) as driver:
        transaction = Transaction("another")
        driver.kafka.log(("r", 0)).append(b"k", b"open", None, 1, transaction)
        driver.send("l", "a", "k", timestamp_ms=5)
        assert read(driver) == ["a"]
        transaction.end(Outcome.COMMITTED)
        driver.advance(0.1)
        assert read(driver) == ["open"]


def test_a_bounded_run_waits_for_what_comes_through_an_internal_topic() -> None:
    """Until the END of its writers: however late they are, nothing of them is late here."""
    with TestDriver(spread()) as driver:
        driver.close()
        send_a_day(driver)
        driver.rig.start(until="end")
        consumer = driver.rig.worker.context.clients.consumer
        is_held, steps = False, 0
        while not driver.rig.worker.is_done:
            steps += 1
            if ("l", 0) in consumer._positions and not is_held:  # type: ignore[attr-defined]
                is_held, held_at = True, steps
                consumer.pause([("l", 0)])  # the first stage is far behind
            if is_held and steps == held_at + 100:
                assert driver.rig.worker.status().tasks[1].waits_for
                consumer.resume([("l", 0)])
            driver.clock.advance(0.05)
            driver.rig.worker.step(0.0)
            assert steps < 4_000
        driver.rig.close()
        # At one time the user's topic comes first: it is the first input.
        assert read(driver) == [f"{topic}{hour}" for hour in range(DAY) for topic in ("r", "l")]


def framed(driver: TestDriver, values: list[str], other: int) -> list[str]:
    """Frames of one topic, merged with another one; returns the values in their order."""
    driver.crash()
    for number, value in enumerate(values):
        driver.send("l", value, "k", timestamp_ms=10 * number + 1)
    for number in range(other):
        driver.send("r", f"r{number}", "k", timestamp_ms=10 * number + 2)
    pairs = [f"{topic}{number}" for number in range(other) for topic in ("v", "r")]
    return [*pairs, *(f"v{number}" for number in range(other, len(values)))]


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_a_checkpoint_lies_within_a_frame(guarantee: str) -> None:
    """Its place says how far: the rest of the frame is taken from there, and nothing twice."""
    settings = {"checkpoint_interval_ms": 500, "task_idle_ms": 5_000, "guarantee": guarantee}
    with TestDriver(spread(**settings)) as driver:
        values = [f"v{number}" for number in range(40)]
        expected = framed(driver, values, 10)
        driver.recover()
        driver.advance(2)
        # All of the other topic is used up, and what is left of the frame waits for it.
        found = read(driver)
        assert found == expected[: len(found)]
        (last,) = [c for c in records_of(driver, Checkpoint) if c.task.stage == 1][-1:]
        assert last.position == len(found) == 20
        assert last.places[1].taken > 0
        driver.crash()
        driver.recover()
        driver.advance(11)
        assert found + read(driver) == expected
        assert driver.state("times.count") == {"k": 50}


def test_a_record_without_a_time_goes_with_the_one_before_it() -> None:
    """Also where that one lies before the checkpoint: a replay takes it in the same turn."""
    app = App("merging", checkpoint_interval_ms=800)
    ahead = timedelta(milliseconds=100)
    left, right = (
        app.stream(
            topic,
            key=kstash.text,
            value=kstash.text,
            timestamp=lambda value: int(value[1:]),
            max_ahead=ahead,
        )
        for topic in "lr"
    )
    left.merge(right).process("times", Times, value=kstash.text).to("out")
    with TestDriver(app) as driver:
        driver.send("l", "v50", "k", timestamp_ms=50)
        driver.advance(1)
        assert [c.places[0].timestamp_ms for c in records_of(driver, Checkpoint)][-1] == 50
        driver.send("l", "v9999", "k", timestamp_ms=60)
        driver.send("r", "v60", "k", timestamp_ms=60)
        driver.advance(0.1)
        assert read(driver) == ["v50", "v60"]
        driver.crash()
        driver.recover()
        assert read(driver) == []
        assert driver.state("times.count") == {"k": 2}


def test_h13_an_input_that_was_changed_stops_the_replay() -> None:
    """A record that is gone makes others of the batch."""
    with TestDriver(ordered()) as driver:
        for number in range(3):
            driver.send("l", f"l{number}", "k", timestamp_ms=number + 1)
        driver.crash()
        driver.kafka.log(("l", 0)).compact()
        with pytest.raises(ReplayDivergedError, match="a merged batch took"):
            driver.recover()


def test_a_history_may_be_of_more_events_than_offsets() -> None:
    """A frame holds many: that is no sign of a history that somebody else wrote."""
    with TestDriver(spread(task_idle_ms=1_000)) as driver:
        expected = framed(driver, [f"v{number}" for number in range(100)], 10)
        driver.recover()
        driver.advance(4)
        assert read(driver) == expected
        driver.crash()
        driver.recover()
        assert read(driver) == []
        assert driver.state("times.count") == {"k": 110}


def test_a_record_within_a_frame_is_skipped() -> None:
    """The error names it by its index, and what was taken before of the frame stays taken."""
    settings = {"task_idle_ms": 1_000}
    values = ["v0", "v1", "poison", "v3", "v4"]
    with TestDriver(spread(**settings)) as driver:
        framed(driver, values, 2)
        driver.recover()
        with pytest.raises(OperatorError) as caught:
            driver.advance(3)
        error = caught.value
        assert error.topic == "merging-spread-repartition"
        assert error.skip is not None
        assert error.skip.endswith(f"/{error.index}")
        found = read(driver)
        assert found == ["v0", "r0", "v1", "r1"]
        # What was taken of the frame cannot be skipped any more.
        for taken in ("/0", "/all"):
            place = error.skip.rsplit("/", 1)[0] + taken
            driver.rig.config = spread(**settings, skip_records=place).config
            with pytest.raises(SkipTooLateError):
                driver.recover()
        driver.rig.config = spread(**settings, skip_records=error.skip).config
        driver.recover()
        driver.advance(3)
        found += read(driver)
        assert found == ["v0", "r0", "v1", "r1", "v3", "v4"]
        driver.crash()
        driver.recover()
        assert read(driver) == []
        assert driver.state("times.count") == {"k": 6}


def test_an_error_in_a_batch_names_the_record_of_its_topic() -> None:
    """However many records of other topics the batch has before it."""
    with TestDriver(ordered()) as driver:
        for number in range(20):  # batches grow with what went well
            driver.send("l", "x", "k", timestamp_ms=number + 1)
        driver.crash()
        for number, value in enumerate(["a", "b", "c", "poison"]):
            driver.send("lr"[number % 2], value, "k", timestamp_ms=31 + number)
        with pytest.raises(OperatorError) as caught:
            driver.recover()
        error = caught.value
        assert (error.topic, error.offset, error.skip) == ("r", 1, "r/0/1")


def test_incarnations_that_merge_and_that_do_not_follow_each_other() -> None:
    """As releases of which one merges less: each entry says how it was counted."""
    with TestDriver(spread(task_idle_ms=1_000)) as driver:
        merging = driver.rig.topology
        as_it_comes = replace(
            merging, stages=tuple(replace(stage, merges=False) for stage in merging.stages)
        )
        expected = framed(driver, [f"v{number}" for number in range(12)], 2)
        driver.recover()
        driver.advance(0.5)
        found = read(driver)
        assert found == expected[:4]  # what is left of a frame waits
        driver.crash()
        driver.rig.topology = as_it_comes
        driver.recover()
        found += read(driver)
        assert found == expected
        for topology, value in ((merging, "v97"), (as_it_comes, "v98"), (merging, "v99")):
            driver.crash()
            driver.rig.topology = topology
            driver.recover()
            assert read(driver) == []
            driver.send("l", value, "k", timestamp_ms=int(value[1:]) * 10)
            driver.advance(1)
            assert read(driver) == [value]
        kinds = [type(entry) for entry in entries_of(driver)]
        assert {*kinds} == {MergedBatch, Consumed}
        assert driver.state("times.count") == {"k": 17}
