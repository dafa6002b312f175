"""The cases through kstash itself: its own operators, in the application of a `TestDriver`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import kstash
from kstash import App, KeyedStream, Windowed
from kstash.testing import OutputRecord, TestDriver
from tests.differential.cases import Case
from tests.differential.comparing import counted, ordered, shifted

SOURCE, SINK = "in", "out"


def made(case: Case, *, crashes: bool = False) -> tuple[list[Any], list[int]]:
    """What kstash does, as it is compared with what `comparing.modelled` says."""
    outputs, dropped = outputs_of(shifted(case), crashes=crashes)
    return ordered(case, outputs), counted(case, dropped)


def outputs_of(case: Case, *, crashes: bool = False) -> tuple[list[Any], list[int]]:
    """What leaves for each input of a case, and how much was dropped at each.

    Args:
        case: one without records of time 0.
        crashes: whether the worker dies after each record, and not only where the case says so.
    """
    outputs: list[Any] = []
    dropped: list[int] = []
    with TestDriver(application(case)) as driver:
        for record in case["in"]:
            before = sum(driver.dropped().values())
            if record != "restart":
                key, value, timestamp = record
                driver.send(SOURCE, value, key=key, timestamp_ms=timestamp)
            dropped.append(sum(driver.dropped().values()) - before)
            if crashes or record == "restart":
                driver.crash()
                driver.recover()
            outputs.append([row_of(made) for made in driver.read(SINK)])
    return outputs, dropped


def row_of(record: OutputRecord) -> list[Any]:
    """An output as cases have it."""
    window: Windowed[str] = record.key
    return [window.key, window.start_ms, window.end_ms, record.value, record.timestamp_ms]


def application(case: Case) -> App:
    """The operators of a case, from one topic to another."""
    app = App("case")
    stream: KeyedStream[Any, Any] = app.stream(SOURCE, key=kstash.text, value=kstash.json)
    for number, spec in enumerate(case["ops"]):
        if number:
            stream = between(stream, spec)
        stream = folded(stream, spec, f"op-{number}")
    stream.to(SINK, value=kstash.json)
    return app


def folded(stream: KeyedStream[Any, Any], spec: dict[str, Any], name: str) -> KeyedStream[Any, Any]:
    """The results of one operator."""
    windowed = stream.window(
        windows_of(spec),
        grace=timedelta(milliseconds=spec["grace"]),
        emit="update" if spec["emit"] == "update" else "final",
    )
    folds: dict[str, Callable[[], Any]] = {
        "count": lambda: windowed.count(name),
        "sum": lambda: windowed.sum(name),
        "reduce": lambda: windowed.reduce(name, lambda old, new: old + new, value=kstash.json),
        "list": lambda: windowed.aggregate(
            name,
            list,
            append,
            merge=(lambda one, other: one + other) if spec["window"] == "session" else None,
            value=kstash.json,
            values=kstash.json,
        ),
        "min": lambda: windowed.min(name, value=kstash.json),
        "max": lambda: windowed.max(name, value=kstash.json),
        "all": lambda: windowed.aggregate_all(
            name,
            values=kstash.json,
            number=kstash.folds.count(),
            total=kstash.folds.sum(),
            first=kstash.folds.first(),
            last=kstash.folds.last(),
            values_=kstash.folds.collect(),
            least=kstash.folds.min(),
        ),
    }
    return cast("KeyedStream[Any, Any]", folds[spec["fold"]]())


def append(state: list[Any], value: Any) -> list[Any]:
    """Fold into a list, in place."""
    state.append(value)
    return state


def windows_of(spec: dict[str, Any]) -> kstash.Windows:
    """Windows as users declare them."""

    def of(name: str) -> timedelta:
        return timedelta(milliseconds=spec[name])

    made: dict[str, Callable[[], kstash.Windows]] = {
        "tumbling": lambda: kstash.tumbling(of("size")),
        "hopping": lambda: kstash.hopping(of("size"), of("advance")),
        "sliding": lambda: kstash.sliding(of("size")),
        "session": lambda: kstash.session(of("gap")),
    }
    return made[spec["window"]]()


def between(stream: KeyedStream[Any, Any], spec: dict[str, Any]) -> KeyedStream[Any, Any]:
    """Results as records of another operator: in the same stage, or by a topic, under a key."""
    if spec.get("between") == "stage":
        return stream.inner_key()
    same = spec.get("key", "same") == "same"
    pairs = stream.records().map_values(lambda r: (r.key.key if same else spec["key"], r.value))
    keyed = pairs.key_by(lambda pair: pair[0], key=kstash.text, value=kstash.json)
    return keyed.map_values(lambda pair: pair[1])
