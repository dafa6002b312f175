"""Processors and the wall clock: timers, and what they ask; a crash anywhere changes nothing."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kstash
from kstash.core.determinants import CLOCK, SEED, Attachment
from kstash.core.record_codec import decode_record
from kstash.core.records import Segment
from kstash.runtime.task.answers import EventAnswers
from kstash.testing import TestDriver

NOW = 1_600_000_000_000
MINUTE = 60_000


class Asking(kstash.Processor[str, list[Any], list[Any]]):
    """Does what a value says, and sends what it learns."""

    count = kstash.Value("count", kstash.json)

    def on_record(self, record: kstash.Record, context: Any) -> None:
        """A list of steps."""
        for step, *how in record.value:
            match step:
                case "now":
                    context.send(["now", context.now() - NOW])
                case "chance":
                    context.send(["chance", context.random(), str(context.uuid())])
                case "at":
                    name, at, every = how
                    context.wall_timer(name, at=NOW + at, every=_every(every))
                case "event":
                    name, at, every = how
                    context.timer(name, at=NOW + at, every=_every(every))
                case "cancel":
                    context.cancel_wall_timer(how[0])
                case "soon":
                    context.wall_timer("soon", at=context.now() + how[0])
                case "many":
                    for _ in range(how[0]):
                        context.timer(f"t{_}", at=NOW - MINUTE)

    def on_timer(self, timer: kstash.FiredTimer, context: Any) -> None:
        """Send it."""
        context.send(["event", timer.name, timer.at_ms - NOW, context.time_ms - NOW])

    def on_wall_timer(self, timer: kstash.FiredTimer, context: Any) -> None:
        """Send it, and how many there were of the key."""
        count = self.count.get(0) + 1
        self.count.set(count)
        learnt = ["wall", context.key, timer.name, timer.at_ms - NOW, context.now() - NOW, count]
        context.send([*learnt, context.random()])
        if timer.name == "thrice" and count < 3:
            context.wall_timer("thrice", at=NOW)
        if timer.name == "last":
            context.cancel_wall_timer("thrice")


def _every(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def asking(**settings: Any) -> kstash.App:
    """The processor, to a topic."""
    app = kstash.App("app", **settings)
    stream = app.stream("in", key=kstash.text, value=kstash.json)
    stream.process("asking", Asking, value=kstash.json).to("out", value=kstash.json)
    return app


def sent(driver: TestDriver) -> list[Any]:
    """What readers of the sink have got."""
    return [record.value for record in driver.read("out")]


def gone(driver: TestDriver) -> list[Any]:
    """Timers of the wall clock that fired: (key, name, at, now)."""
    return [tuple(value[1:5]) for value in sent(driver) if value[0] == "wall"]


def attachments(driver: TestDriver) -> list[Attachment]:
    """Those in the lineage topic."""
    found = driver.kafka.read(driver.rig.topology.lineage_topic)
    records = [decode_record(r.key(), r.value()) for r in found if r.value() is not None]
    segments = [record for record in records if isinstance(record, Segment)]
    return [e for segment in segments for e in segment.entries if isinstance(e, Attachment)]


def test_a_wall_timer_needs_no_record() -> None:
    """It fires when the clock says so, in the order of times, keys and names."""
    with TestDriver(asking()) as driver:
        driver.send("in", [["at", "y", 200, None], ["at", "x", 200, None]], key="b")
        driver.send("in", [["at", "x", 200, None], ["at", "x", 100, None]], key="c")
        driver.send("in", [["at", "z", 200, None], ["at", "no", 300, None]], key="a")
        driver.send("in", [["cancel", "no"], ["cancel", "none"]], key="a")
        driver.advance(0.1)
        assert gone(driver) == [("c", "x", 100, 100)]
        driver.clock.advance(5.0)
        driver.rig.settle()
        assert [(key, name) for key, name, *_ in gone(driver)] == [
            ("a", "z"),
            ("b", "x"),
            ("b", "y"),
        ]


def test_more_than_one_tick_takes_comes_before_any_input() -> None:
    """A tick fires a bounded number; the next one is there at once."""
    with TestDriver(asking()) as driver:
        for number in range(3):
            steps = [["at", f"{i:03}", 100, None] for i in range(400)]
            driver.send("in", steps, key=f"k{number}")
        driver.clock.advance(1.0)
        driver.kafka.append("in", b'[["now"]]', key=b"l")
        driver.rig.settle()
        found = sent(driver)
        assert [value[0] for value in found] == ["wall"] * 1200 + ["now"]
        assert [(v[1], v[2]) for v in found[:-1]] == sorted((v[1], v[2]) for v in found[:-1])
        positions = driver.rig.worker.groups[0].tasks[0].core.position
        assert positions == 4 + 3


def test_a_repeating_timer_fires_once_for_a_jump() -> None:
    """And goes on at its next multiple; of event time as of the wall clock."""
    with TestDriver(asking()) as driver:
        driver.send("in", [["at", "w", 1_000, 1], ["event", "e", 1_000, 1]], key="k")
        driver.advance(2.0)
        assert [at for _, _, at, _ in gone(driver)] == [1_000, 2_000]
        driver.clock.advance(30.5)
        driver.rig.settle()
        driver.advance(0.5)
        assert gone(driver) == [("k", "w", 3_000, 32_500), ("k", "w", 33_000, 33_000)]
        driver.send("in", [], key="l", timestamp_ms=NOW + 5_500)
        driver.send("in", [], key="l", timestamp_ms=NOW + 6_000)
        assert sent(driver) == [["event", "e", 1_000, 1_000], ["event", "e", 6_000, 6_000]]
        driver.send("in", [["cancel", "w"]], key="k")
        driver.advance(5.0)
        assert gone(driver) == []


def test_a_timer_that_is_set_in_a_tick_is_for_a_later_one() -> None:
    """Else a tick might never end."""
    with TestDriver(asking()) as driver:
        driver.send("in", [["at", "thrice", 0, None]], key="k")
        driver.advance(1.0)
        found = gone(driver)
        assert [name for _, name, *_ in found] == ["thrice"] * 3
        assert len({now for *_, now in found}) == 3


def test_a_call_in_a_tick_may_cancel_what_is_due_too() -> None:
    """What it cancels does not fire."""
    with TestDriver(asking()) as driver:
        driver.send("in", [["at", "last", 50, None], ["at", "thrice", 60, None]], key="k")
        driver.clock.advance(1.0)
        driver.rig.settle()
        assert [name for _, name, *_ in gone(driver)] == ["last"]


def test_what_is_asked_is_logged_once_for_what_is_processed_together() -> None:
    """Equal reads cost nothing; nothing is logged where nothing is asked."""
    with TestDriver(asking()) as driver:
        driver.send("in", [["at", "w", 900, None]], key="k")
        driver.advance(0.2)
        assert attachments(driver) == []
        steps = [["now"], ["now"], ["chance"], ["chance"]]
        driver.send("in", steps, key="k")
        driver.advance(0.2)
        assert [(a.position, a.kind) for a in attachments(driver)] == [(1, CLOCK), (1, SEED)]
        first, second, *chances = sent(driver)
        assert first == second == ["now", 200]
        assert len({number for _, number, _ in chances}) == 2
        assert all(0 <= number < 1 for _, number, _ in chances)
        ids = {UUID(text) for *_, text in chances}
        assert len(ids) == 2
        assert {found.version for found in ids} == {4}


def test_times_that_are_told_do_not_go_back() -> None:
    """Not even where the clock was set back meanwhile, and a checkpoint lies between."""
    with TestDriver(asking(checkpoint_interval_ms=1_000)) as driver:
        driver.advance(10.0)
        driver.send("in", [["now"]], key="k")
        driver.advance(5.0)
        driver.crash()
        driver.clock.step(-60.0)
        driver.recover()
        driver.send("in", [["now"], ["soon", -5]], key="k")
        driver.clock.advance(60.0)
        driver.rig.settle()
        first, second, fired = sent(driver)
        assert second == first
        assert fired[3] == first[1] + 1
        assert fired[4] > fired[3]


def test_answers_stand_where_an_event_asks_in_a_later_part() -> None:
    """An event of many outputs is given both with its first part."""
    with TestDriver(asking(), lineage_delay_s=100.0) as driver:
        driver.send("in", [["many", 1_200]], key="k", timestamp_ms=NOW - 2 * MINUTE)
        driver.send("in", [["now"], ["chance"]], key="k", timestamp_ms=NOW + MINUTE)
        before = sent(driver)
        assert len(before) == 1_202
        driver.crash()
        driver.clock.advance(5.0)
        driver.recover()
        driver.send("in", [["now"], ["chance"]], key="l", timestamp_ms=NOW + MINUTE)
        now, chance = sent(driver)
        assert now[1] > before[-2][1]
        assert chance[1] != before[-1][1]


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("send"),
            st.sampled_from("abc"),
            st.lists(
                st.one_of(
                    st.just(("now",)),
                    st.just(("chance",)),
                    st.tuples(
                        st.just("at"),
                        st.sampled_from("xy"),
                        st.integers(0, 3_000),
                        st.sampled_from([None, 0.3]),
                    ),
                    st.tuples(st.just("soon"), st.integers(-100, 1_000)),
                    st.tuples(st.just("cancel"), st.sampled_from("xy")),
                ),
                max_size=3,
            ),
        ),
        st.tuples(st.just("advance"), st.integers(1, 12)),
    ),
    min_size=1,
    max_size=10,
)


@settings(max_examples=12, deadline=None)
@given(steps=STEPS, crashes=st.integers(0, 1_023), is_slow=st.booleans())
def test_a_crash_after_any_event_changes_nothing(
    steps: list[Any], crashes: int, is_slow: bool
) -> None:
    """Readers get each output once, with the same answers in it, and the state is the same."""

    def run(crashes: int) -> tuple[list[Any], Any]:
        delay_s = 0.4 if is_slow else 0.0
        with TestDriver(asking(), lineage_delay_s=delay_s) as driver:
            seen: list[Any] = []
            for number, (kind, *rest) in enumerate(steps):
                if kind == "send":
                    driver.send("in", rest[1], key=rest[0], timestamp_ms=NOW)
                else:
                    driver.advance(rest[0] / 10)
                seen += sent(driver)
                if crashes >> number & 1:
                    driver.crash()
                    driver.rig.start()
                    driver.rig.settle()
                    if not driver.rig.worker.is_live:
                        driver.rig.run_until_live()
                    seen += sent(driver)
            driver.advance(3.5)
            return seen + sent(driver), driver.state("asking.count")

    seen, state = run(crashes)
    per_key: dict[str, int] = {}
    for value in seen:
        if value[0] == "wall":
            per_key[value[1]] = per_key.get(value[1], 0) + 1
            assert value[5] == per_key[value[1]], "a timer was lost, or fired twice"
    assert state == per_key
    numbers = [value[1] for value in seen if value[0] == "chance"]
    assert len(set(numbers)) == len(numbers)
    nows = [value[1] for value in seen if value[0] == "now"]
    assert nows == sorted(nows)


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (["at", "x", -NOW - 1, None], "0 or more"),
        (["at", 5, 0, None], "the name of a timer is a text"),
        (["at", "x", 0, 0.0001], "whole milliseconds"),
        (["at", "x", 0, 0], "1 or more"),
        (["at", "x", 0.5, None], "as an integer"),
    ],
)
def test_what_is_no_timer_is_refused(step: list[Any], why: str) -> None:
    """With what is wrong."""
    with TestDriver(asking()) as driver, pytest.raises(kstash.errors.OperatorError, match=why):
        driver.send("in", [step], key="k")


class Mute(kstash.Processor[str, str, str]):
    """Has nobody to call."""

    def on_record(self, record: kstash.Record, context: Any) -> None:  # noqa: ARG002
        """Set one."""
        context.wall_timer("x", at=NOW)


class Looking(kstash.Processor[str, str, str]):
    """Looks at a record where there is none."""

    def on_record(self, record: kstash.Record, context: Any) -> None:
        """Set one."""
        assert context.record is record
        context.wall_timer("x", at=context.now())

    def on_wall_timer(self, timer: kstash.FiredTimer, context: Any) -> None:  # noqa: ARG002
        """Look."""
        context.send(context.record.value)


@pytest.mark.parametrize(
    ("processor", "why"), [(Mute, "has no on_wall_timer"), (Looking, "there is no record")]
)
def test_errors_in_a_tick_and_before_it(processor: Any, why: str) -> None:
    """They say what the processor lacks; one in a tick stops the task as any other does."""
    app = kstash.App("app")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    stream.process("p", processor, value=kstash.text).to("out", value=kstash.text)
    driver = TestDriver(app)
    driver.kafka.append("in", b"v", key=b"k")
    with pytest.raises(kstash.errors.OperatorError, match=why):
        driver.advance(1.0)


def test_draws_go_on_through_the_slices_of_a_run() -> None:
    """A replay may take a run in several batches: its numbers are counted on, not anew."""
    nothing: Any = SimpleNamespace(nodes=())
    answers = EventAnswers(nothing, lambda: bytes(16), nothing)
    drawn = []
    for run, position in ((0, 0), (0, 5), (None, 9)):
        events: Any = SimpleNamespace(run=run, is_new=True, tick_ms=None)
        answers.begin(events, position)
        drawn.append(answers.draw("p"))
    assert drawn[0] != drawn[1]
    assert drawn[0] == drawn[2]
