"""What has no state is dropped; a function that fails at a tombstone is told that it got one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import kstash
from kstash import App, Context, Processor, Record, Stream, folds
from kstash.errors import OperatorError
from kstash.testing import TestDriver

HINT = (
    r"the value is None, a tombstone: .* delete of its key.* expect None, or "
    r"filter\(lambda value: value is not None\)"
)


class Measures(Processor[Any, Any, int]):
    """How long a value is."""

    def on_record(self, record: Record, context: Context[Any, int]) -> None:
        """Send it."""
        context.send(len(record.value))


def again(stream: Any) -> Any:
    """All under one key."""
    return (
        stream.records()
        .map(lambda r: r.value)
        .key_by(lambda _: "all", key=kstash.text, value=kstash.json)
    )


@pytest.mark.parametrize(
    "grow",
    [
        lambda s: s.map_values(len),
        lambda s: s.filter(lambda pages: pages[0]),
        lambda s: s.flat_map(lambda pages: pages),
        lambda s: s.records().map_values(lambda record: len(record.value)),
        lambda s: s.key_by(lambda pages: pages[0], key=kstash.text, value=kstash.json).count("n"),
        lambda s: s.process("p", Measures, value=kstash.int_text),
        lambda s: again(s).top("n", 3, by=len),
    ],
)
def test_the_null_of_a_session_that_became_part_of_another(
    grow: Callable[[Stream[Any, Any]], Stream[Any, Any]],
) -> None:
    """What fails at it says so, wherever it is."""
    app = App("nulls")
    clicks = app.stream("in", key=kstash.text, value=kstash.text)
    visits = clicks.window(kstash.session(timedelta(minutes=10)))
    grow(visits.collect("pages")).to("out", key=kstash.json, value=kstash.json)
    with TestDriver(app) as driver:
        driver.send("in", "a", key="ann", timestamp_ms=60_000)
        with pytest.raises(OperatorError, match=HINT):
            driver.send("in", "b", key="ann", timestamp_ms=120_000)


class Passes(Processor[Any, Any, Any]):
    """Sends what it is given."""

    def on_record(self, record: Record, context: Context[Any, Any]) -> None:
        """As it is."""
        context.send(record.value)


FOLDS: dict[str, Callable[[Any], Any]] = {
    "count": lambda s: s.count("n"),
    "sum": lambda s: s.sum("n"),
    "min": lambda s: s.min("n"),
    "max": lambda s: s.max("n"),
    "mean": lambda s: s.mean("n"),
    "statistics": lambda s: s.statistics("n"),
    "collect": lambda s: s.collect("n"),
    "reduce": lambda s: s.reduce("n", lambda state, value: state + value),
    "aggregate": lambda s: s.aggregate(
        "n", list, lambda state, value: [*state, value], value=kstash.json
    ),
    "aggregate_all": lambda s: s.aggregate_all("n", number=folds.count()),
}

OTHERS: dict[str, Callable[[Any], Any]] = {
    "distinct": lambda s: s.distinct("n"),
    "process": lambda s: s.process("n", Passes, value=kstash.json),
    "with_state": lambda s: s.with_state(
        "n", int, lambda state, value: (state, [value]), state=kstash.int_text, value=kstash.json
    ),
    "dedup": lambda s: s.dedup("n", id=str, within=timedelta(seconds=1)),
    "throttle": lambda s: s.throttle("n", at_most=9, within=timedelta(seconds=1)),
    "top": lambda s: s.top("n", 9, by=str),
}

KINDS: dict[str, Callable[[Any], Any]] = {
    "none": lambda s: s,
    "tumbling": lambda s: s.window(kstash.tumbling(timedelta(hours=1))),
    "session": lambda s: s.window(kstash.session(timedelta(hours=1)), emit="final"),
    "sliding": lambda s: s.window(kstash.sliding(timedelta(hours=1))),
    "counted": lambda s: s.window(kstash.tumbling_count(2)),
}


def fed(program: Callable[[Any], Any], *records: tuple[str | None, int | None]) -> Any:
    """The values that come of records, and what was dropped."""
    app = App("nulls")
    made = program(app.stream("in", key=kstash.text, value=kstash.json))
    with TestDriver(app, streams=[made]) as driver:
        driver.crash()
        for key, value in records:
            driver.send("in", value, key=key, timestamp_ms=5)
        driver.recover()
        dropped = {reason: count for (_, reason), count in driver.dropped().items()}
        return [record.value for record in driver.read(made)], dropped


MIXED: list[tuple[str | None, int | None]] = [
    (None, 1),
    ("a", 2),
    (None, None),
    ("a", None),
    ("a", 3),
    (None, 4),
]


@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize("kind", KINDS)
def test_folds_drop_nulls_and_count_them(fold: str, kind: str) -> None:
    """In one batch, with windows and without; a count is of null values too, unless they slide."""
    if (fold, kind) in (("aggregate", "session"), ("aggregate", "counted")):
        pytest.skip("it needs merge=, or another serde")

    def program(stream: Any) -> Any:
        return FOLDS[fold](KINDS[kind](stream))

    counts_nulls = fold == "count" and kind != "sliding"
    values, dropped = fed(program, *MIXED)
    assert dropped == {"null_key": 3, **({} if counts_nulls else {"null_value": 1})}
    without = [item for item in MIXED if item[0] and (counts_nulls or item[1] is not None)]
    assert fed(program, *without) == (values, {})


@pytest.mark.parametrize("operator", OTHERS)
def test_what_is_no_fold_drops_null_keys_alone(operator: str) -> None:
    """Null values are values to it."""
    values, dropped = fed(OTHERS[operator], *MIXED)
    assert dropped == {"null_key": 3}
    assert fed(OTHERS[operator], *[item for item in MIXED if item[0]]) == (values, {})
    assert values == ([[2], [None, 2], [None, 3, 2]] if operator == "top" else [2, None, 3])


def test_a_null_key_of_key_by_is_dropped_where_the_state_is() -> None:
    """It goes through the internal topic, and a sink writes it."""
    app = App("nulls")
    stream = app.stream("in", value=kstash.int_text)
    keyed = stream.key_by(lambda n: str(n) if n % 2 else None, key=kstash.text, value=kstash.json)
    keyed.count("odd").to("counts")
    keyed.to("all")
    with TestDriver(app) as driver:
        for number in (1, 2, 3, 4, 6):
            driver.send("in", number)
        assert [record.key for record in driver.read("counts")] == ["1", "3"]
        assert [record.key for record in driver.read("all")] == ["1", None, "3", None, None]
        assert driver.dropped() == {("odd", "null_key"): 3}


def test_values_are_not_asked_whether_they_are_null() -> None:
    """A type of the user's may say that it equals anything, or fail at the question."""

    class Anything(list[int]):
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("what is that?")

        __hash__ = None

    app = App("nulls")
    stream = app.stream("in", key=kstash.text, value=kstash.int_text)
    stream.map_values(lambda n: Anything([n])).aggregate(
        "n", int, lambda state, value: state + len(value), value=kstash.int_text
    ).to("out")
    with TestDriver(app) as driver:
        driver.send("in", 1, key="a")
        assert driver.read("out")[0].value == 1


def test_other_failures_have_no_such_hint() -> None:
    """A value, and an error that has nothing to do with its type."""
    app = App("nulls")
    lines = app.stream("in", key=kstash.text, value=kstash.text)
    added: Callable[[Any], Any] = lambda value: value + 1 / len(value or "")  # noqa: E731
    lines.map_values(added).to("out", value=kstash.json)
    for value, error in (("a", "TypeError"), (None, "ZeroDivisionError")):
        with pytest.raises(OperatorError, match=error) as raised, TestDriver(app) as driver:
            driver.send("in", value, key="k")
        assert "tombstone" not in str(raised.value)
    again_app = App("nulls")
    lines = again_app.stream("in", key=kstash.text, value=kstash.text)
    lines.flat_map(lambda _: iter(()) if _ else None).to("out", value=kstash.json)  # type: ignore[arg-type,return-value]
    with pytest.raises(OperatorError) as raised, TestDriver(again_app) as driver:
        driver.send("in", "", key="k")
    assert "tombstone" not in str(raised.value)
