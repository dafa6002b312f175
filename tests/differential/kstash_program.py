"""A case as a program of kstash, run by its test driver."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import kstash
from kstash.testing import TestDriver
from tests.differential.cases import Case

Keyed = kstash.KeyedStream[Any, Any]

RESULT: kstash.Serde[Any] = kstash.Serde(
    "value of a record",
    lambda record: kstash.int_text.serialize(record.value),
    kstash.int_text.deserialize,
)
"""What travels between two windows: the key is made of the one of the record."""


def covers(case: Case) -> bool:
    """Whether kstash has all of its windows, and what is between them."""
    return all(kind(spec) is not None for spec in case["ops"]) and all(
        spec.get("between") != "stage" for spec in case["ops"]
    )


def kind(spec: dict[str, Any]) -> kstash.Windows | None:
    """The windows of an operator; None where there are no such ones yet."""

    def ms(name: str, default: int = 0) -> timedelta:
        return timedelta(milliseconds=spec.get(name, default))

    match spec["window"]:
        case "tumbling":
            return kstash.tumbling(ms("size"), offset=ms("offset"))
        case "hopping":
            return kstash.hopping(ms("size"), ms("advance"), offset=ms("offset"))
    return None


def folded(stream: Keyed, spec: dict[str, Any], name: str) -> kstash.WindowResults[Any, Any, Any]:
    """The results of an operator."""
    windows = kind(spec)
    assert windows is not None
    windowed = stream.window(
        windows,
        grace=timedelta(milliseconds=spec["grace"]),
        emit="update" if spec["emit"] == "update" else "final",
    )
    match spec["fold"]:
        case "sum":
            return windowed.sum(name, value=kstash.int_text)
        case "reduce":
            return windowed.reduce(name, lambda old, new: old + new, value=kstash.int_text)
        case "list":
            return windowed.collect(name, value=kstash.int_text)
        case "min":
            return windowed.min(name, value=kstash.int_text)
        case "max":
            return windowed.max(name, value=kstash.int_text)
    return windowed.count(name)


def program(case: Case) -> kstash.App:
    """From `in` to `out`."""
    app = kstash.App("app")
    stream: Keyed = app.stream("in", key=kstash.text, value=kstash.int_text)
    for number, spec in enumerate(case["ops"]):
        if number and spec.get("between") != "stage":
            stream = rekeyed(stream, spec.get("key", "same"))
        stream = folded(stream, spec, f"windows-{number}")
    stream.to("out", value=kstash.json)
    return app


def rekeyed(stream: Keyed, key: str) -> Keyed:
    """Results by their inner key, or all under one, through a repartition topic."""

    def key_of(record: kstash.Record) -> str:
        return str(record.key.key) if key == "same" else key

    return stream.records().key_by(key_of, key=kstash.text, value=RESULT)


def outputs(case: Case, *, crashes: bool = False) -> tuple[list[Any], list[int]]:
    """What leaves for each input, and how much was dropped at each; see `comparing.said`.

    Args:
        case: the case.
        crashes: whether the worker is killed after each input.
    """
    made: list[Any] = []
    dropped: list[int] = []
    with TestDriver(program(case)) as driver:
        for record in case["in"]:
            before = drops(driver)
            if record == "restart":
                driver.crash()
                driver.recover()
                made.append([])
                dropped.append(0)
                continue
            key, value, timestamp = record
            driver.send("in", value, key=key, timestamp_ms=timestamp)
            dropped.append(drops(driver) - before)
            if crashes:
                driver.crash()
                driver.recover()
            made.append(
                [[*inner(out.key), out.value, out.timestamp_ms] for out in driver.read("out")]
            )
    return made, dropped


def inner(key: Any) -> list[Any]:
    """The key of a record, and the bounds of its last window."""
    return [key.key, key.start_ms, key.end_ms]


def drops(driver: TestDriver) -> int:
    """What the operators of the worker have dropped so far."""
    groups = driver.rig.worker.groups.values()
    tasks = [task for group in groups for task in group.tasks.values()]
    return sum(sum(task.program.dropped.values()) for task in tasks)
