"""What is of another type than an argument of a public name takes: one typed error, at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import kstash
from kstash import App, ConfigError, KeyedStream, KstashError, WindowedStream
from kstash.errors import TopologyError
from kstash.testing import TestDriver

HERE = Path(__file__).name

WRONG: tuple[Any, ...] = (5, 0, 1.5, True, b"x", b"", "", "no such name!", [1], [], {}, object())
"""Of no type that any argument below takes; the empty ones are easily taken for none given."""


MINUTE = timedelta(minutes=1)
MINUTES = kstash.tumbling(MINUTE)


def one(value: Any) -> Any:
    """A function of one value."""
    return value


def fold(state: Any, value: Any) -> Any:
    """A function of a state and a value."""
    return state or value


JSON = kstash.json
MINUTE = timedelta(minutes=1)


class Nothing(kstash.Processor[Any, Any, Any]):
    """Does nothing, and has a side output."""

    sides = ("s",)

    def on_record(self, record: kstash.Record, context: kstash.Context[Any, Any]) -> None:
        """Nothing."""


Declare = Callable[[App, Any, Any], object]
DECLARATIONS: dict[str, Declare] = {
    "stream(topic)": lambda app, _, x: app.stream(x),
    "stream(a, topic)": lambda app, _, x: app.stream("a", x),
    "stream(key)": lambda app, _, x: app.stream("a", key=x),
    "stream(value)": lambda app, _, x: app.stream("a", value=x),
    "stream(immediate_of)": lambda app, _, x: app.stream("a", immediate_of=x),
    "stream(timestamp)": lambda app, _, x: app.stream("a", timestamp=x),
    "stream(out_of_order)": lambda app, _, x: app.stream("a", out_of_order=x),
    "stream(max_ahead)": lambda app, _, x: app.stream("a", timestamp=one, max_ahead=x),
    "map": lambda _, s, x: s.map(x),
    "map_values": lambda _, s, x: s.map_values(x),
    "flat_map": lambda _, s, x: s.flat_map(x),
    "flat_map_values": lambda _, s, x: s.flat_map_values(x),
    "filter": lambda _, s, x: s.filter(x),
    "filter_not": lambda _, s, x: s.filter_not(x),
    "peek": lambda _, s, x: s.peek(x),
    "map_records(function)": lambda _, s, x: s.map_records(x),
    "map_records(key)": lambda _, s, x: s.map_records(one, key=x),
    "flat_map_records(function)": lambda _, s, x: s.flat_map_records(x),
    "flat_map_records(key)": lambda _, s, x: s.flat_map_records(one, key=x),
    "merge": lambda _, s, x: s.merge(x),
    "merge(s, other)": lambda _, s, x: s.merge(s, x),
    "split": lambda _, s, x: s.split(x),
    "split(f, predicate)": lambda _, s, x: s.split(one, x),
    "key_by(function)": lambda _, s, x: s.key_by(x, key=kstash.text),
    "key_by(key)": lambda _, s, x: s.key_by(one, key=x),
    "key_by(value)": lambda _, s, x: s.key_by(one, key=kstash.text, value=x),
    "key_by(name)": lambda _, s, x: s.key_by(one, key=kstash.text, name=x),
    "repartition(name)": lambda _, s, x: s.repartition(x),
    "repartition(value)": lambda _, s, x: s.repartition("r", value=x),
    "count(name)": lambda _, s, x: s.count(x),
    "sum(name)": lambda _, s, x: s.sum(x),
    "sum(value)": lambda _, s, x: s.sum("n", value=x),
    "reduce(name)": lambda _, s, x: s.reduce(x, fold),
    "reduce(function)": lambda _, s, x: s.reduce("n", x),
    "reduce(value)": lambda _, s, x: s.reduce("n", fold, value=x),
    "distinct(name)": lambda _, s, x: s.distinct(x),
    "distinct(value)": lambda _, s, x: s.distinct("n", value=x),
    "aggregate(name)": lambda _, s, x: s.aggregate(x, dict, fold, value=kstash.json),
    "aggregate(initial)": lambda _, s, x: s.aggregate("n", x, fold, value=kstash.json),
    "aggregate(function)": lambda _, s, x: s.aggregate("n", dict, x, value=kstash.json),
    "aggregate(value)": lambda _, s, x: s.aggregate("n", dict, fold, value=x),
    "process(name)": lambda _, s, x: s.process(x, Nothing, value=kstash.text),
    "process(processor)": lambda _, s, x: s.process("n", x, value=kstash.text),
    "process(value)": lambda _, s, x: s.process("n", Nothing, value=x),
    "process(key)": lambda _, s, x: s.process("n", Nothing, value=kstash.text, key=x),
    "side(name)": lambda _, s, x: s.process("n", Nothing, value=kstash.text).side(x),
    "side(value)": lambda _, s, x: s.process("n", Nothing, value=kstash.text).side("s", value=x),
    "min(name)": lambda _, s, x: s.min(x),
    "min(value)": lambda _, s, x: s.min("n", value=x),
    "max(name)": lambda _, s, x: s.max(x),
    "max(value)": lambda _, s, x: s.max("n", value=x),
    "mean(name)": lambda _, s, x: s.mean(x),
    "collect(name)": lambda _, s, x: s.collect(x),
    "collect(value)": lambda _, s, x: s.collect("n", value=x),
    "statistics(name)": lambda _, s, x: s.statistics(x),
    "aggregate_all(name)": lambda _, s, x: s.aggregate_all(x, a=kstash.folds.sum()),
    "aggregate_all(value)": lambda _, s, x: s.aggregate_all("n", value=x, a=kstash.folds.sum()),
    "aggregate_all(part)": lambda _, s, x: s.aggregate_all("n", a=x),
    "folds.sum(of)": lambda _, s, x: s.aggregate_all("n", a=kstash.folds.sum(x)),
    "folds.reduce(function)": lambda _, s, x: s.aggregate_all("n", a=kstash.folds.reduce(x)),
    "window.statistics(name)": lambda _, s, x: s.window(MINUTES).statistics(x),
    "window.aggregate_all(name)": lambda _, s, x: s.window(MINUTES).aggregate_all(
        x, a=kstash.folds.sum()
    ),
    "window.aggregate_all(value)": lambda _, s, x: s.window(MINUTES).aggregate_all(
        "n", value=x, a=kstash.folds.sum()
    ),
    "window.aggregate_all(values)": lambda _, s, x: s.window(kstash.sliding(MINUTE)).aggregate_all(
        "n", values=x, a=kstash.folds.sum()
    ),
    "window.aggregate_all(part)": lambda _, s, x: s.window(MINUTES).aggregate_all("n", a=x),
    "window(windows)": lambda _, s, x: s.window(x),
    "window(grace)": lambda _, s, x: s.window(MINUTES, grace=x),
    "window(emit)": lambda _, s, x: s.window(MINUTES, emit=x),
    "window.count(name)": lambda _, s, x: s.window(MINUTES).count(x),
    "window.sum(name)": lambda _, s, x: s.window(MINUTES).sum(x),
    "window.sum(value)": lambda _, s, x: s.window(MINUTES).sum("n", value=x),
    "window.reduce(name)": lambda _, s, x: s.window(MINUTES).reduce(x, fold),
    "window.reduce(function)": lambda _, s, x: s.window(MINUTES).reduce("n", x),
    "window.reduce(value)": lambda _, s, x: s.window(MINUTES).reduce("n", fold, value=x),
    "window.aggregate(name)": lambda _, s, x: s.window(MINUTES).aggregate(
        x, dict, fold, value=kstash.json
    ),
    "window.aggregate(initial)": lambda _, s, x: s.window(MINUTES).aggregate(
        "n", x, fold, value=kstash.json
    ),
    "window.aggregate(function)": lambda _, s, x: s.window(MINUTES).aggregate(
        "n", dict, x, value=kstash.json
    ),
    "window.aggregate(value)": lambda _, s, x: s.window(MINUTES).aggregate(
        "n", dict, fold, value=x
    ),
    "window.aggregate(merge)": lambda _, s, x: s.window(kstash.session(MINUTE)).aggregate(
        "n", dict, fold, value=kstash.json, merge=x
    ),
    "window.min(name)": lambda _, s, x: s.window(MINUTES).min(x),
    "window.min(value)": lambda _, s, x: s.window(MINUTES).min("n", value=x),
    "window.max(name)": lambda _, s, x: s.window(MINUTES).max(x),
    "window.max(value)": lambda _, s, x: s.window(MINUTES).max("n", value=x),
    "window.mean(name)": lambda _, s, x: s.window(MINUTES).mean(x),
    "window.collect(name)": lambda _, s, x: s.window(MINUTES).collect(x),
    "window.collect(value)": lambda _, s, x: s.window(MINUTES).collect("n", value=x),
    "tumbling(size)": lambda _, s, x: s.window(kstash.tumbling(x)),
    "tumbling(offset)": lambda _, s, x: s.window(kstash.tumbling(MINUTE, offset=x)),
    "hopping(size)": lambda _, s, x: s.window(kstash.hopping(x, MINUTE)),
    "hopping(advance)": lambda _, s, x: s.window(kstash.hopping(MINUTE, x)),
    "hopping(offset)": lambda _, s, x: s.window(kstash.hopping(MINUTE, MINUTE, offset=x)),
    "window.aggregate(values)": lambda _, s, x: s.window(kstash.sliding(MINUTE)).aggregate(
        "n", dict, fold, value=kstash.json, values=x
    ),
    "daily(zone)": lambda _, s, x: s.window(kstash.daily(x)),
    "sliding(size)": lambda _, s, x: s.window(kstash.sliding(x)),
    "session(gap)": lambda _, s, x: s.window(kstash.session(x)),
    "windowed(serde)": lambda app, _, x: app.stream("a", key=kstash.windowed(x, MINUTE)),
    "windowed(size)": lambda app, _, x: app.stream("a", key=kstash.windowed(kstash.text, x)),
    "with_state(name)": lambda _, s, x: s.with_state(x, list, fold, state=JSON, value=JSON),
    "with_state(initial)": lambda _, s, x: s.with_state("n", x, fold, state=JSON, value=JSON),
    "with_state(function)": lambda _, s, x: s.with_state("n", list, x, state=JSON, value=JSON),
    "with_state(state)": lambda _, s, x: s.with_state("n", list, fold, state=x, value=JSON),
    "with_state(value)": lambda _, s, x: s.with_state("n", list, fold, state=JSON, value=x),
    "dedup(name)": lambda _, s, x: s.dedup(x, id=one, within=MINUTE),
    "dedup(id)": lambda _, s, x: s.dedup("n", id=x, within=MINUTE),
    "dedup(within)": lambda _, s, x: s.dedup("n", id=one, within=x),
    "throttle(name)": lambda _, s, x: s.throttle(x, at_most=1, within=MINUTE),
    "throttle(within)": lambda _, s, x: s.throttle("n", at_most=1, within=x),
    "top(name)": lambda _, s, x: s.top(x, 1, by=one),
    "top(by)": lambda _, s, x: s.top("n", 1, by=x),
    "top(id)": lambda _, s, x: s.top("n", 1, by=one, id=x),
    "top(value)": lambda _, s, x: s.top("n", 1, by=one, value=x),
    "to(topic)": lambda _, s, x: s.to(x),
    "to(key)": lambda _, s, x: s.to("out", key=x),
    "to(value)": lambda _, s, x: s.to("out", value=x),
    "to(delivery)": lambda _, s, x: s.to("out", delivery=x),
    "Serde(serialize)": lambda app, _, x: app.stream("a", value=kstash.Serde("s", x, one)),
    "Serde(deserialize)": lambda app, _, x: app.stream("a", value=kstash.Serde("s", one, x)),
}
NEEDED = {
    *("stream(topic)", "stream(a, topic)", "map", "map_values", "flat_map", "flat_map_values"),
    *("filter", "filter_not", "peek", "merge", "merge(s, other)", "split", "split(f, predicate)"),
    *("key_by(function)", "key_by(key)", "repartition(name)", "count(name)", "sum(name)"),
    *("reduce(name)", "reduce(function)", "distinct(name)", "aggregate(name)"),
    *("with_state(name)", "with_state(initial)", "with_state(function)", "with_state(state)"),
    *("with_state(value)", "dedup(name)", "dedup(id)", "dedup(within)", "throttle(name)"),
    *("throttle(within)", "top(name)", "top(by)", "top(value)"),
    *("process(name)", "process(processor)", "process(value)", "side(name)"),
    *("aggregate(initial)", "aggregate(function)", "aggregate(value)", "to(topic)", "to(delivery)"),
    *("Serde(serialize)", "Serde(deserialize)", "min(name)", "max(name)", "mean(name)"),
    *("collect(name)", "window(windows)", "window(grace)", "window.count(name)"),
    *("window.sum(name)", "window.reduce(name)", "window.reduce(function)", "window.min(name)"),
    *("window.aggregate(name)", "window.aggregate(initial)", "window.aggregate(function)"),
    *("window.aggregate(value)", "window.max(name)", "window.mean(name)", "window.collect(name)"),
    *("map_records(function)", "flat_map_records(function)"),
    *("statistics(name)", "aggregate_all(name)", "aggregate_all(value)", "aggregate_all(part)"),
    *("window.statistics(name)", "window.aggregate_all(name)", "window.aggregate_all(value)"),
    *("window.aggregate_all(part)", "folds.reduce(function)"),
    *("tumbling(size)", "tumbling(offset)", "hopping(size)", "hopping(advance)"),
    *(
        "hopping(offset)",
        "windowed(serde)",
        "session(gap)",
        "sliding(size)",
        "daily(zone)",
        "window.aggregate(merge)",
    ),
}
"""Where None is none either."""


@pytest.mark.parametrize("name", DECLARATIONS)
def test_each_argument_of_each_verb(name: str) -> None:
    """Refused as it is declared, with the line, and nothing is declared by it."""
    for wrong in (*WRONG, None) if name in NEEDED else WRONG:
        app = App("types")
        stream = app.stream("in", key=kstash.text, value=kstash.text)
        with pytest.raises(TopologyError) as caught:
            DECLARATIONS[name](app, stream, wrong)
        assert HERE in str(caught.value.location), wrong


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "1", None, [1]])
def test_numbers_of_records(wrong: Any) -> None:
    """One or more."""
    stream = App("types").stream("in", key=kstash.text, value=kstash.text)
    with pytest.raises(TopologyError, match="a whole number, 1 or more"):
        stream.throttle("n", at_most=wrong, within=MINUTE)
    with pytest.raises(TopologyError, match="a whole number, 1 or more"):
        stream.top("n", wrong, by=one)
    for declare in (kstash.tumbling_count, partial(kstash.hopping_count, 9)):
        with pytest.raises(TopologyError, match="a whole number, 1 or more"):
            stream.window(declare(wrong))


def test_each_verb_is_here() -> None:
    """One that is added has its arguments above."""
    verbs = {name for name in dir(KeyedStream) if name[0] != "_"}
    declared = {name.partition("(")[0] for name in DECLARATIONS}
    assert verbs - {"records", "inner_key"} <= declared
    folds = {f"window.{name}" for name in dir(WindowedStream) if name[0] != "_"}
    assert folds <= declared


@pytest.mark.parametrize("wrong", [5, 0, 1.5, b"x", "", None, [], {}])
def test_the_name_of_a_serde(wrong: Any) -> None:
    """It is in hashes and errors."""
    with pytest.raises(TopologyError, match="value= has a serde named"):
        App("types").stream("a", value=kstash.Serde(wrong, one, one))


@pytest.mark.parametrize("wrong", ["2", "", 1.5, 1.0, True, False, 0, -1, b"2", [2], object()])
def test_workers_of_run(wrong: Any) -> None:
    """A number of processes; True is none."""
    app = App("types")
    app.stream("in").to("out")
    with pytest.raises(ConfigError, match=r"workers is .*: give a number of processes"):
        app.run(workers=wrong)


@pytest.mark.parametrize("wrong", WRONG)
def test_arguments_of_run(wrong: Any) -> None:
    """None of them gets as far as a cluster."""
    app = App("types")
    app.stream("in").to("out")
    for name in ("until", "closes_windows", "on_ready", "on_end"):
        with pytest.raises(KstashError, match=name):
            app.run(**{name: wrong})


@pytest.mark.parametrize("wrong", [5, 1.5, True, [1], {}, object(), None, "", "a b"])
def test_the_id_of_an_application(wrong: Any) -> None:
    """A name."""
    with pytest.raises(ConfigError, match="application_id"):
        App(wrong)


@pytest.mark.parametrize("wrong", [*WRONG, None])
def test_the_program_of_a_test_driver(wrong: Any) -> None:
    """At its start, or for an upgrade."""
    with pytest.raises(ConfigError, match="takes an App"):
        TestDriver(wrong)
    if wrong is not None:
        app = App("types")
        app.stream("in").to("out")
        with TestDriver(app) as driver:
            driver.crash()
            with pytest.raises(ConfigError, match="takes an App"):
                driver.recover(wrong)
            driver.recover()
