"""A record that fails alone: where it is skipped, the others go on as if it had not been there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kstash
from kstash import App, Serde
from kstash.errors import NullKeyError, OperatorError, RecordTooLargeError, SerdeError
from kstash.operators.batch import Batch
from kstash.operators.program import StageProgram
from kstash.operators.sizes import Limit
from kstash.operators.step import Decision, RecordError
from kstash.testing.state import MemoryBackend

Keyed = kstash.KeyedStream[str, str]
Program = Callable[[Keyed], Any]


class Task:
    """A stage of a program over texts, which skips what fails and keeps its error."""

    def __init__(self, program: Program, limits: list[Limit] | None = None) -> None:
        app = App("app")
        program(app.stream("in", key=kstash.text, value=kstash.text))
        self.stage = app.topology().stages[0]
        self.state = MemoryBackend().task(self.stage.name, 0).open(self.stage.stores, base=None)
        self.errors: list[RecordError] = []
        self.program = StageProgram(
            self.stage, self.state, limits=limits or (), decide=self._skipped
        )

    def _skipped(self, error: RecordError) -> Decision:
        self.errors.append(error)
        return Decision.SKIP

    def feed(self, *values: bytes | None, keys: list[bytes | None] | None = None) -> Task:
        """Process one batch; timestamps are 100, 101 and so on."""
        times = list(range(100, 100 + len(values)))
        self.program.process(0, Batch(keys or [b"k"] * len(values), list(values), times))
        return self

    def out(self) -> list[tuple[bytes | None, bytes | None, int]]:
        """(Key, value, timestamp) of what was made, output by output."""
        return [
            record
            for _, batch, _ in self.program.take_outputs()
            for record in zip(batch.keys, batch.values, batch.timestamps, strict=True)
        ]

    def indexes(self) -> list[int]:
        """Which records of the batch were skipped."""
        return [error.record_index for error in self.errors]


def bad(value: str) -> bool:
    """Whether a value is one that functions here fail on."""
    return value.startswith("!")


def fail_on_bad(value: str) -> str:
    """Raise for bad ones."""
    if bad(value):
        raise LookupError(value)
    return value


def stop_on_bad(value: str) -> str:
    """Raise the one exception that `map` takes for its end."""
    if bad(value):
        raise StopIteration
    return value


def half(value: str) -> Iterator[str]:
    """Give something, then fail."""
    yield value
    fail_on_bad(value)
    yield value


class NoTruth:
    """An object whose truth raises for bad values."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __bool__(self) -> bool:
        return bool(fail_on_bad(self.value))


class Odd(list[str]):
    """A list of another length than it says, for bad values."""

    def __len__(self) -> int:
        return super().__len__() + (bad(self[0]) if super().__len__() else 0)


ONE_EACH = [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    ("program", "made"),
    [
        (lambda s: s.map_values(fail_on_bad).to("out", value=kstash.text), ONE_EACH),
        (lambda s: s.map_values(stop_on_bad).to("out", value=kstash.text), ONE_EACH),
        (lambda s: s.filter(fail_on_bad).to("out"), ONE_EACH),
        (lambda s: s.filter(NoTruth).to("out"), ONE_EACH),
        (lambda s: s.filter_not(lambda v: fail_on_bad(v) == "b").to("out"), [b"a", b"c"]),
        (lambda s: s.peek(fail_on_bad).to("out"), ONE_EACH),
        (
            lambda s: s.flat_map_values(half).to("out", value=kstash.text),
            [b"a", b"a", b"b", b"b", b"c", b"c"],
        ),
        (lambda s: s.flat_map_values(lambda v: Odd([v])).to("out", value=kstash.text), ONE_EACH),
        (
            lambda s: s.flat_map_values(lambda v: 1 if bad(v) else [v]).to(
                "out", value=kstash.text
            ),
            ONE_EACH,
        ),
        (lambda s: s.split(fail_on_bad)[0].to("out"), ONE_EACH),
        (
            lambda s: (
                s.map_values(lambda v: 1 if bad(v) else v)
                .distinct("d", value=kstash.text)
                .to("out")
            ),
            ONE_EACH,
        ),
        (lambda s: s.split(lambda v: v == "a", fail_on_bad)[1].to("out"), [b"b", b"c"]),
        (lambda s: s.key_by(fail_on_bad, key=kstash.text).to("out"), ONE_EACH),
        (lambda s: s.key_by(lambda v: 1 if bad(v) else v, key=kstash.text).to("out"), ONE_EACH),
        (lambda s: s.map_values(lambda v: 1 if bad(v) else v).to("o", value=kstash.text), ONE_EACH),
        (
            lambda s: s.reduce("r", lambda a, b: a + fail_on_bad(b)).to("out"),
            [b"a", b"ab", b"abc"],
        ),
        (
            lambda s: s.aggregate("g", str, lambda a, b: a + fail_on_bad(b), value=kstash.text).to(
                "out"
            ),
            [b"a", b"ab", b"abc"],
        ),
        (
            lambda s: s.map_values(lambda v: v if bad(v) else 1).sum("s").to("out"),
            [b"1", b"2", b"3"],
        ),
    ],
)
def test_each_operator_goes_on_at_the_next_record(program: Program, made: list[bytes]) -> None:
    """Its results are those of a batch without the record, which is counted and named."""
    task = Task(program).feed(b"a", b"!1", b"b", b"!2", b"!3", b"c")
    out = task.out()
    assert [value for _, value, _ in out] == made
    origins = {b"a": 100, b"b": 102, b"c": 105}
    assert [time for _, value, time in out if value in origins] == [
        origins[value] for _, value, _ in out if value in origins
    ]
    assert task.indexes() == [1, 3, 4]
    assert sum(task.program.skipped.values()) == 3


def test_skipped_records_are_counted_by_operator() -> None:
    """What operators before it did stays."""
    seen: list[str] = []
    task = Task(
        lambda s: (
            s.peek(seen.append).count("n").map_values(fail_on_two).to("out", value=kstash.int_text)
        )
    )
    task.feed(b"a", b"b", b"c")
    assert [value for _, value, _ in task.out()] == [b"1", b"3"]
    assert seen == ["a", "b", "c"]
    assert task.state.store("n").items() == [(b"k", 3)]
    ((title, count),) = task.program.skipped.items()
    assert title.startswith("map_values(fail_on_two) at ")
    assert count == 1


def fail_on_two(count: int) -> int:
    """Raise for one of the counts."""
    if count == 2:
        raise LookupError
    return count


def test_all_records_may_fail() -> None:
    """Nothing is left for whoever comes after."""
    task = Task(lambda s: s.map_values(fail_on_bad).filter(len).to("out", value=kstash.text))
    assert task.feed(b"!1", b"!2").out() == []
    assert task.indexes() == [0, 1]
    assert task.feed(b"a").out() == [(b"k", b"a", 100)]


def test_bytes_that_are_no_value_or_key_are_skipped() -> None:
    """At the input; each field is one error."""
    task = Task(lambda s: s.map_values(str.upper).to("out", value=kstash.text))
    task.feed(b"a", b"\xff", b"c", b"d", keys=[b"1", b"2", b"\xff", b"4"])
    assert task.out() == [(b"1", b"A", 100), (b"4", b"D", 103)]
    assert [(type(error), error.record_index) for error in task.errors] == [
        (SerdeError, 1),
        (SerdeError, 2),
    ]
    assert dict(task.program.skipped) == {"input in": 2}


def test_records_without_a_key_have_no_state() -> None:
    """They are dropped, which is no error: there is nothing to skip."""
    task = Task(lambda s: s.count("n").to("out"))
    task.feed(b"", b"", b"", b"", keys=[b"x", None, None, b"x"])
    assert [value for _, value, _ in task.out()] == [b"1", b"2"]
    assert task.indexes() == []
    assert task.program.dropped == {("count(n)", "null_key"): 2}


def test_what_a_topic_does_not_take_is_skipped() -> None:
    """Too large, without a key, or not to be encoded: each at the output."""
    limit = Limit("out", record_bytes_max=1100, needs_keys=True)
    task = Task(lambda s: s.to("out", value=kstash.text), [limit])
    task.feed(b"a", b"b" * 2000, b"c", b"d" * 2000, b"e", keys=[b"k", b"k", None, b"k", b"k"])
    assert [value for _, value, _ in task.out()] == [b"a", b"e"]
    assert sorted((error.record_index, type(error)) for error in task.errors) == [
        (1, RecordTooLargeError),
        (2, NullKeyError),
        (3, RecordTooLargeError),
    ]


def append(state: list[str], value: str) -> list[str]:
    """Change the state in place, and only then fail."""
    state.append(value)
    fail_on_bad(value)
    return state


def test_a_state_that_was_changed_in_place_is_as_before() -> None:
    """Whether it is of this batch, of an earlier one, or new."""
    task = Task(lambda s: s.aggregate("g", list, append, value=kstash.json).to("out"))
    task.feed(b"!0", b"a", b"!1", b"b")
    task.feed(b"!2", b"c", b"!3")
    assert [value for _, value, _ in task.out()] == [b'["a"]', b'["a","b"]', b'["a","b","c"]']
    assert task.state.store("g").items() == [(b"k", ["a", "b", "c"])]
    assert task.indexes() == [0, 2, 0, 2]


@pytest.mark.parametrize("serde", [kstash.text, kstash.json])
def test_a_state_that_its_serde_refuses_was_never_there(serde: Serde[Any]) -> None:
    """The next record of the key finds the state before, not one that no checkpoint could keep."""
    seen: list[str] = []

    def follow(state: str, value: str) -> str:
        seen.append(state)
        return "\ud800" if bad(value) else state + value

    task = Task(lambda s: s.aggregate("g", str, follow, value=serde).to("out"))
    task.feed(b"a", b"!", b"b")
    assert seen == ["", "a", "a"]
    assert task.state.store("g").items() == [(b"k", "ab")]
    assert [type(error) for error in task.errors] == [SerdeError]


def test_an_error_of_two_branches_is_one_of_each() -> None:
    """Each operator decides about its own call."""
    task = Task(
        lambda s: (
            s.map_values(fail_on_bad)
            .merge(s.map_values(stop_on_bad), s)
            .to("out", value=kstash.text)
        )
    )
    task.feed(b"a", b"!")
    assert [value for _, value, _ in task.out()] == [b"a", b"a", b"a", b"!"]
    assert task.indexes() == [1, 1]
    assert [type(error) for error in task.errors] == [OperatorError, OperatorError]


def test_a_decision_to_fail_stops_at_the_record() -> None:
    """What was decided before it stays so."""
    app = App("app")
    app.stream("in", value=kstash.text).map(fail_on_bad).to("out", value=kstash.text)
    (stage,) = app.topology().stages
    asked: list[int] = []

    def decide(error: RecordError) -> Decision:
        asked.append(error.record_index)
        return Decision.SKIP if len(asked) < 2 else Decision.FAIL

    state = MemoryBackend().task(stage.name, 0).open((), base=None)
    program = StageProgram(stage, state, decide=decide)
    with pytest.raises(OperatorError, match="LookupError: !2") as caught:
        program.process(0, Batch([None] * 4, [b"!1", b"a", b"!2", b"!3"], [1, 2, 3, 4]))
    assert caught.value.record_index == 2
    assert asked == [0, 2]
    assert sum(program.skipped.values()) == 1
