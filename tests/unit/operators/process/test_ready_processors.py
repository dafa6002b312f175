"""Verbs that run a processor of kstash's own: with_state, dedup, throttle, top."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstash
from kstash import App, KeyedStream
from kstash.errors import ConfigError, OperatorError, SerdeError, TopologyError
from kstash.testing import TestDriver

Json = KeyedStream[str, Any]


def ms(count: int) -> timedelta:
    """Milliseconds as an interval."""
    return timedelta(milliseconds=count)


def program(grow: Callable[[Json], Json]) -> App:
    """An operator between two topics of json, and the side outputs that it may have."""
    app = App("ready")
    made = grow(app.stream("in", key=kstash.text, value=kstash.json))
    made.to("out", value=kstash.json)
    for side in getattr(made._node, "sides", ()):
        made.side(side).to("side")  # of the serde of the stream
    return app


def feed(
    driver: TestDriver, *records: tuple[int, Any], key: str = "k", restarts: bool = True
) -> list[Any]:
    """What comes of (timestamp, value), with a crash in the middle of them and a drain after."""
    for number, (timestamp, value) in enumerate(records):
        driver.send("in", value, key=key, timestamp_ms=timestamp)
        if restarts and number == len(records) // 2:
            driver.crash()
            driver.recover()
    if restarts:
        driver.drain()
        driver.recover()
    return [record.value for record in driver.read("out")]


# --- with_state -----------------------------------------------------------------------------------


def pairs_of(state: list[Any], value: Any) -> tuple[Any, list[Any]]:
    """Sends two values together; `end` sends what is left, and forgets the key."""
    if value == "end":
        return kstash.DELETE, state
    state.append(value)
    return ([], [state]) if len(state) == 2 else (state, [])


def test_a_function_of_state_and_value() -> None:
    """Gives the new state and any number of results; the state has the name of the operator."""
    app = program(
        lambda s: s.with_state("pairs", list, pairs_of, state=kstash.json, value=kstash.json)
    )
    with TestDriver(app) as driver:
        assert feed(driver, (1, "a"), (2, "b"), (3, "c")) == [["a", "b"]]
        assert driver.state("pairs") == {"k": ["c"]}
        assert feed(driver, (4, "end"), (5, "d")) == ["c"]
        assert driver.state("pairs") == {"k": ["d"]}


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda _, value: value, OperatorError, "return a pair"),
        (lambda _, value: (None, [value]), SerdeError, "delete what is to be forgotten"),
        (lambda state, _: (state, None), OperatorError, "return a list of results"),
    ],
)
def test_functions_of_state_that_return_something_else(
    function: Callable[[Any, Any], Any], error: type[Exception], message: str
) -> None:
    """An error at the record that says what it wants."""
    app = program(lambda s: s.with_state("f", list, function, state=kstash.json, value=kstash.json))
    with TestDriver(app) as driver, pytest.raises(error, match=message):
        driver.send("in", "x", key="k")


# --- dedup ----------------------------------------------------------------------------------------


def test_a_repeat_is_left_out() -> None:
    """For so long after the one that passed, whatever repeats came; then the next one passes."""
    app = program(lambda s: s.dedup("once", id=lambda v: v["id"], within=ms(10)))
    with TestDriver(app) as driver:
        records = [(t, {"id": i, "t": t}) for t, i in ((100, 1), (101, 2), (105, 1), (109, 1))]
        assert [v["t"] for v in feed(driver, *records)] == [100, 101]
        assert [v["t"] for v in feed(driver, (110, {"id": 1, "t": 110}))] == [110]
        assert feed(driver, (110, {"id": 1, "t": 0}), key="l") == [{"id": 1, "t": 0}]
        assert [record.value["t"] for record in driver.read("side")] == [105, 109]
        assert set(driver.state("once.seen")) == {("k", 1), ("k", 2), ("l", 1)}
        feed(driver, (500, {"id": 9, "t": 500}))
        assert set(driver.state("once.seen")) == {("k", 9)}


def test_records_pass_as_they_are() -> None:
    """With their time, headers and serde."""
    app = App("ready")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    stream.dedup("once", id=str, within=ms(5)).throttle("few", at_most=1, within=ms(5)).to("out")
    with TestDriver(app) as driver:
        driver.send("in", "a", key="k", timestamp_ms=7, headers=[("h", b"1")])
        (record,) = driver.read("out")
    assert (record.value, record.timestamp_ms, record.headers) == ("a", 7, [("h", b"1")])


# --- throttle -------------------------------------------------------------------------------------


def test_so_many_records_pass_in_an_interval() -> None:
    """Of each key; the others go to the side output."""
    app = program(lambda s: s.throttle("few", at_most=2, within=ms(10)))
    with TestDriver(app) as driver:
        times = [100, 105, 106, 109, 110, 114, 115, 300]
        assert feed(driver, *((t, t) for t in times)) == [100, 105, 110, 115, 300]
        assert feed(driver, (300, "l"), key="l") == ["l"]
        assert [record.value for record in driver.read("side")] == [106, 109, 114]


@given(
    times=st.lists(st.integers(1, 30), max_size=12),
    at_most=st.integers(1, 3),
    within=st.integers(1, 8),
)
def test_no_interval_has_more(times: list[int], at_most: int, within: int) -> None:
    """As the obvious model has it, which looks at all that have passed, in stream time."""
    passed: list[int] = []
    expected = []
    for index, time in enumerate(times):
        now = max(times[: index + 1])
        if sum(now - within < one <= now for one in passed) < at_most:
            passed.append(now)
            expected.append([index, time])
    app = program(lambda s: s.throttle("few", at_most=at_most, within=ms(within)))
    with TestDriver(app) as driver:
        records = [(time, [index, time]) for index, time in enumerate(times)]
        assert feed(driver, *records, restarts=False) == expected


# --- top ------------------------------------------------------------------------------------------


def test_the_largest_values() -> None:
    """The largest first; a record that changes nothing sends nothing; of equal ones the earlier."""
    app = program(lambda s: s.top("best", 2, by=lambda v: v[1]))
    with TestDriver(app) as driver:
        records = [(n, v) for n, v in enumerate([["a", 5], ["b", 7], ["c", 5], ["d", 6]], 1)]
        assert feed(driver, *records) == [
            [["a", 5]],
            [["b", 7], ["a", 5]],
            [["b", 7], ["d", 6]],
        ]
        assert driver.state("best") == {"k": [["b", 7], ["d", 6]]}


def test_a_newer_value_of_an_id_takes_the_place_of_the_older_one() -> None:
    """It may rise and fall; the list has each id once."""
    app = program(lambda s: s.top("best", 2, by=lambda v: v[1], id=lambda v: v[0]))
    with TestDriver(app) as driver:
        values = [["a", 5], ["b", 7], ["a", 8], ["c", 1], ["a", 6], ["c", 9], ["c", 9]]
        assert feed(driver, *enumerate(values, 1)) == [
            [["a", 5]],
            [["b", 7], ["a", 5]],
            [["a", 8], ["b", 7]],
            [["b", 7], ["a", 6]],
            [["c", 9], ["b", 7]],
        ]


@pytest.mark.parametrize(
    ("declare", "error"),
    [
        (lambda s: s.dedup("d", id=lambda _: None, within=ms(1)), "None, which is no id of dedup"),
        (lambda s: s.top("t", 1, by=lambda _: None), "None as by=, which compares to nothing"),
    ],
)
def test_none_is_no_id_and_no_measure(declare: Any, error: str) -> None:
    """It is an error at the first record that has it, with the function's line."""
    with TestDriver(program(declare)) as driver, pytest.raises(OperatorError, match=error) as found:
        driver.send("in", ["a", 1], key="k")
    assert "test_ready_processors.py" in str(found.value.cause)
    with pytest.raises(ConfigError):
        driver.state("d")


# --- declarations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("within", [timedelta(0), timedelta(microseconds=1), ms(-5)])
def test_intervals_that_are_none(within: timedelta) -> None:
    """Whole milliseconds, one or more, with the line."""
    stream = App("ready").stream("in", key=kstash.text, value=kstash.json)
    with pytest.raises(TopologyError, match=r"dedup\(within=\) is ") as caught:
        stream.dedup("d", id=str, within=within)
    assert "test_ready_processors.py" in str(caught.value.location)
    with pytest.raises(TopologyError, match=r"throttle\(within=\) is "):
        stream.throttle("t", at_most=1, within=within)


@pytest.mark.parametrize(
    ("declare", "error"),
    [
        (lambda s: s.throttle("t", at_most=1.5, within=ms(1)), r"at_most=\) is a whole number"),
        (lambda s: s.throttle("t", at_most=1, within=ms(-1)), r"^[^']*within=\) is -0:00:00"),
        (lambda s: s.dedup("d", id=str, within=ms(-1)), r"dedup\(within=\) is -0:00:00"),
        (lambda s: s.dedup("d", id="a", within=ms(1)), r"dedup\(id=\) needs .* value\['a'\]"),
        (lambda s: s.top("t", 1, by="a"), r"top\(by=\) needs .* lambda value: value\['a'\]"),
        (lambda s: s.top("t", 1, by=str, id=1), r"top\(id=\) needs a function, not 1"),
        (lambda s: s.top("t", 1, by=str).side("over"), r"dedup\(\) or throttle\(\)|top\('t'\) has"),
        (
            lambda s: s.dedup("d", id=str, within=ms(1)).side("o"),
            r"dedup\('d'\) has no side .*'repe",
        ),
        (lambda s: s.count("c").side("o"), r"process\(\), dedup\(\) or throttle\(\) returned"),
    ],
)
def test_errors_name_the_argument_that_users_gave(declare: Any, error: str) -> None:
    """And not what it becomes."""
    with pytest.raises(TopologyError, match=error):
        program(declare)


def test_what_they_are_is_part_of_the_program() -> None:
    """Each has a verb of its own in its label and in the hash."""
    app = App("ready")
    stream = app.stream("in", key=kstash.text, value=kstash.json)
    stream.dedup("a", id=str, within=ms(1)).throttle("b", at_most=1, within=ms(1)).top(
        "c", 1, by=str
    ).with_state("d", list, pairs_of, state=kstash.json, value=kstash.json)
    labels = [node.label() for node in app.topology().stages[0].inner_nodes]
    assert labels == ["dedup(a)", "throttle(b)", "top(c)", "with_state(d)"]
