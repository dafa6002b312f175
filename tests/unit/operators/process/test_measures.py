"""Measures of processors may change, as the grace of windows may: after a drain, and with state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import kstash
from kstash import App, Context, KeyedStream, Processor, Record
from kstash.errors import ProgramChangedError
from kstash.testing import TestDriver

Texts = KeyedStream[str, str]
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def program(grow: Callable[[Texts], KeyedStream[str, Any]]) -> App:
    """One operator between two topics."""
    app = App("measures")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    grow(stream).to("out", value=kstash.json)
    return app


def counting(ttl: timedelta | None) -> Callable[[Texts], KeyedStream[str, int]]:
    """A processor that counts its records, as long as the count lives."""

    class Counts(Processor[str, str, int]):
        """How many there were."""

        number = kstash.Value("number", kstash.int_text, ttl=ttl)

        def on_record(self, record: Record, context: Context[str, int]) -> None:  # noqa: ARG002
            """Count it."""
            self.number.set(self.number.get(0) + 1)
            context.send(self.number.get())

    return lambda stream: stream.process("p", Counts, value=kstash.int_text)


@pytest.mark.parametrize(
    ("before", "after", "was", "made"),
    [
        (
            lambda s: s.throttle("p", at_most=1, within=HOUR),
            lambda s: s.throttle("p", at_most=2, within=HOUR),
            "throttle(p) at_most=1 within=3600 s",
            ["a", "c"],
        ),
        (
            lambda s: s.throttle("p", at_most=1, within=HOUR),
            lambda s: s.throttle("p", at_most=1, within=MINUTE),
            "throttle(p) at_most=1 within=3600 s",
            ["a", "c"],
        ),
        (
            lambda s: s.dedup("p", id=len, within=HOUR),
            lambda s: s.dedup("p", id=len, within=MINUTE),
            "dedup(p) within=3600 s",
            ["a", "c"],
        ),
        (
            lambda s: s.top("p", 1, by=str),
            lambda s: s.top("p", 2, by=str),
            "top(p) n=1",
            [["a"], ["b"], ["c", "b"]],
        ),
        (counting(HOUR), counting(MINUTE), "process(p) number.ttl=3600 s", [1, 2, 1]),
    ],
)
def test_a_measure_may_be_another_after_a_drain(
    before: Callable[[Texts], Any], after: Callable[[Texts], Any], was: str, made: list[Any]
) -> None:
    """And not before: a replay would make other results than are out."""
    with TestDriver(program(before)) as driver:
        driver.send("in", "a", key="k", timestamp_ms=1_000)
        driver.send("in", "b", key="k", timestamp_ms=2_000)
        driver.crash()
        with pytest.raises(ProgramChangedError) as raised:
            driver.recover(program(after))
        assert any(was in change for change in raised.value.changes)
        assert not raised.value.refused
        driver.recover(program(before))
        driver.drain()
        driver.recover(program(after))
        driver.send("in", "c", key="k", timestamp_ms=100_000)
        assert [record.value for record in driver.read("out")] == made


def test_a_state_that_has_no_end_is_as_it_was() -> None:
    """Programs without a time to live keep their hash."""
    hashes = {program(counting(ttl)).topology().hash for ttl in (None, HOUR, MINUTE)}
    assert len(hashes) == 3
    assert kstash.Value("v", kstash.text).canonical() == ["value", "v", "text"]
    assert kstash.Map("m", key=kstash.text, value=kstash.json).canonical() == [
        *("map", "m", "json", "text")
    ]
