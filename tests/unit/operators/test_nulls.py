"""A function that fails at a tombstone is told that it was given one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import kstash
from kstash import App, Context, Processor, Record, Stream
from kstash.errors import OperatorError
from kstash.testing import TestDriver

HINT = r"the value is None, a tombstone.*filter\(lambda value: value is not None\)"


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
        lambda s: again(s.map_values(lambda v: v and len(v))).sum("n"),
        lambda s: again(s).min("n"),
        lambda s: again(s).top("n", 3, by=len),
        lambda s: again(s).aggregate("n", int, lambda n, v: n + len(v), value=kstash.int_text),
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
