"""The time of the records of a source: by a function of the value, held back, and bounded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

import kstash
from kstash import App
from kstash.errors import OperatorError, ProgramChangedError, TimestampError, TopologyError
from kstash.operators.batch import Batch
from kstash.operators.event_time import LATEST_MS
from kstash.operators.flow import Flow
from kstash.operators.program import StageProgram
from kstash.operators.step import Decision, Scope, Surroundings
from kstash.operators.steps import STEPS
from kstash.testing import TestDriver
from kstash.testing.state import MemoryBackend
from kstash.topology.keyed_nodes import Count
from kstash.topology.traits import ColumnSet, KeyedStore, time_store

MINUTE = timedelta(minutes=1)


def timed(function: Callable[[Any], Any] | None = None, **times: Any) -> App:
    """A program that passes on what it reads, with the times that it has."""
    app = App("app")
    app.stream("in", key=kstash.text, value=kstash.json, timestamp=function, **times).to("out")
    return app


class Task:
    """The only stage of a program, which skips what fails and keeps its error."""

    def __init__(self, app: App) -> None:
        (self.stage,) = app.topology().stages
        state = MemoryBackend().task(self.stage.name, 0).open(self.stage.stores, base=None)
        self.errors: list[Any] = []
        self.program = StageProgram(self.stage, state, decide=self._skipped)

    def _skipped(self, error: Any) -> Decision:
        self.errors.append(error)
        return Decision.SKIP

    def feed(
        self, values: list[bytes], timestamps: list[int], *, is_new: bool = True
    ) -> list[tuple[bytes | None, int]]:
        """(Value, timestamp) of what comes of records, in order."""
        batch = Batch([b"k"] * len(values), values, timestamps)
        self.program.process(0, batch, is_new=is_new)
        return [
            record
            for _, made, _ in self.program.take_outputs()
            for record in zip(made.values, made.timestamps, strict=True)
        ]


@pytest.mark.parametrize(
    ("made", "timestamp"),
    [
        (1_700_000_000_000, 1_700_000_000_000),
        (1, 1),
        (0, 1),  # a producer takes 0 for "now"
        (LATEST_MS, LATEST_MS),
        (datetime(2023, 11, 14, 22, 13, 20, 123_999, tzinfo=UTC), 1_700_000_000_123),
        (datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 1),
        (datetime.max.replace(tzinfo=UTC), LATEST_MS),
    ],
)
def test_what_a_function_makes_is_the_timestamp(made: Any, timestamp: int) -> None:
    """Unix milliseconds, or a moment with a time zone, to the millisecond."""
    assert Task(timed(lambda _: made)).feed([b"1", b"2"], [5, 6]) == [
        (b"1", timestamp),
        (b"2", timestamp),
    ]


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (-1, "before 1970"),
        (LATEST_MS + 1, "after the year 9999: Unix time counts in milliseconds"),
        (datetime(2023, 1, 1), "without a time zone: give it one"),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), "before 1970"),
        (1.5, "of type float: return Unix milliseconds"),
        (True, "of type bool"),
        (None, "of type NoneType"),
        ("2023-01-01", "of type str"),
    ],
)
def test_what_is_no_time_is_an_error_of_its_record(made: Any, why: str) -> None:
    """The error says what was made; the records beside it go on."""
    task = Task(timed(lambda value: made if value == 2 else value))
    assert task.feed([b"1", b"2", b"3"], [5, 6, 7]) == [(b"1", 1), (b"3", 3)]
    (error,) = task.errors
    assert isinstance(error, TimestampError)
    assert error.record_index == 1
    assert why in str(error)
    assert error.operator.startswith("event_time(in) at ")


def test_a_function_that_raises_is_an_error_of_its_record() -> None:
    """As those of all operators."""
    task = Task(timed(lambda value: 1 // value))
    assert task.feed([b"0", b"1"], [5, 6]) == [(b"1", 1)]
    assert isinstance(task.errors[0], OperatorError)


def test_an_error_names_the_record() -> None:
    """Its topic, partition and offset; the task does not go on after it."""
    with TestDriver(timed(lambda value: value), partitions=2) as driver:
        driver.send("in", 7, partition=1)
        with pytest.raises(TimestampError, match="made 'x', which is of type str") as caught:
            driver.send("in", "x", partition=1)
        assert (caught.value.topic, caught.value.partition, caught.value.offset) == ("in", 1, 1)
        assert [record.timestamp_ms for record in driver.read("out")] == [7]


def test_a_record_that_is_too_far_ahead_is_dropped_and_counted() -> None:
    """The bound is measured from the Kafka record, so that a replay drops the same."""
    task = Task(timed(lambda value: value, max_ahead=timedelta(milliseconds=10)))
    assert task.feed([b"15", b"16", b"1"], [5, 5, 5]) == [(b"15", 15), (b"1", 1)]
    assert task.feed([b"99"], [5]) == []
    assert task.feed([b"99"], [5], is_new=False) == []
    assert task.program.dropped == {("event_time(in)", "ahead"): 2}
    assert task.errors == []


def test_a_bound_needs_a_timestamp_of_the_record() -> None:
    """One that has none cannot be compared, and is none that is too far ahead either."""
    task = Task(timed(lambda value: value, max_ahead=MINUTE))
    assert task.feed([b"1", b"2", b"3"], [5, -1, 5]) == [(b"1", 1), (b"3", 3)]
    assert "the Kafka record has the timestamp -1, which is none" in str(task.errors[0])
    assert task.program.dropped == {}


class Timing(Count):
    """A count that has a stream time; it keeps the times that it was given."""

    verb = "timing"
    reads = ColumnSet.KEY | ColumnSet.TIME

    @property
    def stores(self) -> tuple[KeyedStore, ...]:
        """With the time."""
        return (*Count.stores.__get__(self), time_store(self.name))


def seen_by_an_operator(monkeypatch: pytest.MonkeyPatch, **times: Any) -> tuple[Task, list[Flow]]:
    """A program with an operator of time after others, and the flows that reach it."""
    seen: list[Flow] = []

    class Spy:
        label = "spy"

        def run(self, _side: int, flow: Flow, _scope: Scope) -> None:
            seen.append(flow)

    def spied(_: Any, __: Surroundings) -> Spy:
        return Spy()

    monkeypatch.setitem(STEPS, Timing, spied)
    app = App("app")
    stream = app.stream("in", key=kstash.text, value=kstash.json, **times)
    passed = stream.filter(lambda value: value != 2).flat_map_values(lambda value: [value, value])
    passed._graph.add(
        lambda index: Timing(index, (passed._node,), "here:1", "n", kstash.text, kstash.msgpack)
    )
    return Task(app), seen


def test_a_source_holds_its_time_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its records say of time is less than their timestamps, wherever they go in the stage."""
    task, seen = seen_by_an_operator(monkeypatch, out_of_order=timedelta(milliseconds=3))
    task.feed([b"1", b"2", b"3"], [5, 6, 2])
    assert (seen[0].timestamps, seen[0].times) == ([5, 5, 2, 2], [2, 2, -1, -1])


def test_a_record_without_a_timestamp_is_an_error_where_time_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a function nobody asks for it, nor where no operator has a stream time."""
    task, seen = seen_by_an_operator(monkeypatch)
    task.feed([b"1", b"3", b"4"], [5, -1, 6])
    assert [error.record_index for error in task.errors] == [1]
    assert task.errors[0].operator == "input in"
    assert (seen[0].values, seen[0].times) == ([1, 1, 4, 4], [5, 5, 6, 6])
    task, seen = seen_by_an_operator(monkeypatch, out_of_order=MINUTE)
    task.feed([b"1", b"3"], [5, -1])
    assert [error.record_index for error in task.errors] == [1]
    task, seen = seen_by_an_operator(monkeypatch, timestamp=lambda value: value)
    task.feed([b"1", b"3"], [-1, -1])
    assert (task.errors, seen[0].times) == ([], [1, 1, 3, 3])
    assert Task(timed()).feed([b"1"], [-1]) == [(b"1", -1)]


def test_a_topic_has_one_time() -> None:
    """It may be declared again alike, and not otherwise."""
    app = App("app")

    def at(value: Any) -> int:
        return int(value)

    first = app.stream("in", timestamp=at, out_of_order=MINUTE)
    assert app.stream("in", timestamp=at, out_of_order=timedelta(seconds=60))._node is first._node
    for other in ({}, {"timestamp": at}, {"timestamp": int, "out_of_order": MINUTE}):
        with pytest.raises(TopologyError, match="topic 'in' was declared otherwise at"):
            app.stream("in", **other)


@pytest.mark.parametrize(
    ("times", "why"),
    [
        ({"max_ahead": MINUTE}, "there is none: .* message.timestamp.after.max.ms"),
        ({"out_of_order": timedelta(microseconds=1)}, "it takes whole milliseconds"),
        ({"out_of_order": -MINUTE}, "-0:01:00: it takes whole milliseconds, 0 or more"),
        ({"timestamp": lambda: 1}, "timestamp= calls its function as f"),
    ],
)
def test_times_that_cannot_be(times: dict[str, Any], why: str) -> None:
    """Refused where they are declared."""
    with pytest.raises(TopologyError, match=why) as caught:
        App("app").stream("in", **times)
    assert str(caught.value.location).startswith(__file__)


def test_bounds_change_after_a_drain() -> None:
    """They decide about results, so a replay of the old lineage would not make the same."""
    with TestDriver(timed(out_of_order=MINUTE)) as driver:
        driver.send("in", 1)
        driver.crash()
        with pytest.raises(ProgramChangedError, match="out_of_order=1000 ms of stage from-in"):
            driver.recover(timed(out_of_order=timedelta(seconds=1)))
        driver.recover(timed(out_of_order=MINUTE))
        driver.drain()
        driver.recover(timed(out_of_order=timedelta(seconds=1)))
        driver.send("in", 2)
        assert [record.value for record in driver.read("out")] == [1, 2]


def test_no_bound_is_no_operator() -> None:
    """The topology, and with it the hash, is that of a program that says nothing of times."""
    assert timed(out_of_order=timedelta(0)).topology().hash == timed().topology().hash
    assert timed(lambda value: value).topology().hash != timed().topology().hash
