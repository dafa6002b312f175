"""Measures of processors may change, as the grace of windows may: after a drain, and with state."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import kstash
from kstash import App, Context, KeyedStream, Processor, Record
from kstash.errors import ProgramChangedError
from kstash.testing import TestDriver
from kstash.topology.model import program_of

Texts = KeyedStream[str, str]
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
PAGE = Path(__file__).parents[4] / "docs" / "operating" / "upgrading.md"


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
    assert kstash.Value("v", kstash.text)._canonical() == ["value", "v", "text"]
    assert kstash.Map("m", key=kstash.text, value=kstash.json)._canonical() == [
        *("map", "m", "json", "text")
    ]


def timed(out_of_order: timedelta = MINUTE, max_ahead: timedelta = MINUTE) -> App:
    """A source with bounds of its own."""
    app = App("measures")
    stream = app.stream(
        "in", value=kstash.text, timestamp=int, out_of_order=out_of_order, max_ahead=max_ahead
    )
    stream.to("out", value=kstash.json)
    return app


def throttled(at_most: int = 1, within: timedelta = HOUR) -> App:
    """A throttle."""
    return program(lambda stream: stream.throttle("p", at_most=at_most, within=within))


def test_the_page_says_which_measures_a_start_compares() -> None:
    """Each by its argument, and no other: programs that differ in it alone are not the same."""

    def rare(within: timedelta) -> App:
        return program(lambda stream: stream.dedup("p", id=len, within=within))

    def first(n: int) -> App:
        return program(lambda stream: stream.top("p", n, by=str))

    pairs = {
        ("`dedup`", "within"): (rare(HOUR), rare(MINUTE)),
        ("`throttle`", "at_most"): (throttled(), throttled(at_most=2)),
        ("`throttle`", "within"): (throttled(), throttled(within=MINUTE)),
        ("`top`", "n"): (first(1), first(2)),
        ("a processor's states", "ttl"): (program(counting(HOUR)), program(counting(MINUTE))),
        ("a source", "out_of_order"): (timed(), timed(out_of_order=HOUR)),
        ("a source", "max_ahead"): (timed(), timed(max_ahead=HOUR)),
    }
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    said = re.search(r"needs a drain: (.*), and of windows", text)
    assert said is not None
    clauses = re.findall(r"((?:`\w+=?`(?: and )?)+) of (.+?)(?:, |$)", said[1])
    named = {(whose, word) for words, whose in clauses for word in re.findall(r"`(\w+)=?`", words)}
    assert named == pairs.keys()
    for measure, (one, other) in pairs.items():
        stages = [program_of(app.topology()).stages for app in (one, other)]
        assert stages[0] != stages[1], measure
