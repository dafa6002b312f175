"""`context.origin`: where a record was read, in whatever batch it comes, and again in a replay."""

from __future__ import annotations

from typing import Any

import pytest

import kstash
from kstash import App, Context, FiredTimer, Processor, Record, RecordOrigin
from kstash.operators.batch import Batch
from kstash.operators.program import StageProgram
from kstash.testing import TestDriver
from kstash.testing.state import MemoryBackend


class Places(Processor[str, str, Any]):
    """Says where each record is from, and a millisecond later where the one is that moved time."""

    def on_record(self, record: Record, context: Context[str, Any]) -> None:
        """Say it."""
        context.send([record.value, context.origin])
        if record.value == "timed":
            context.timer("next", at=record.timestamp_ms + 1)

    def on_timer(self, timer: FiredTimer, context: Context[str, Any]) -> None:
        """Say it, of a record that comes next."""
        context.send([timer.name, context.origin])


def build(*, is_wide: bool = False) -> App:
    """Words of lines, which make one or several records."""
    app = App("app")
    stream = app.stream("lines", key=kstash.text, value=kstash.text).flat_map_values(str.split)
    if is_wide:
        stream = stream.repartition("words", value=kstash.text)
    stream.process("places", Places, value=kstash.json).to("out")
    return app


def test_each_record_of_a_batch_has_its_own() -> None:
    """Also where several are made of one, and where they come together after a crash."""
    with TestDriver(build(), partitions=2) as driver:
        driver.crash()
        for number, line in enumerate(("a b", "c timed", "d")):
            driver.send("lines", line, key="k", partition=1, timestamp_ms=10 + number)
        driver.recover()
        for _ in range(2):
            driver.crash()
            driver.recover()
        driver.send("lines", "e", key="k", partition=1, timestamp_ms=20)
        assert [record.value for record in driver.read("out")] == [
            ["a", ["lines", 1, 0, 0]],
            ["b", ["lines", 1, 0, 0]],
            ["c", ["lines", 1, 1, 0]],
            ["timed", ["lines", 1, 1, 0]],
            ["next", ["lines", 1, 2, 0]],
            ["d", ["lines", 1, 2, 0]],
            ["e", ["lines", 1, 3, 0]],
        ]


def test_after_a_repartition_it_is_a_place_there() -> None:
    """A frame of the internal topic, and the record in it; a replay finds the same."""
    with TestDriver(build(is_wide=True), lineage_delay_s=1) as driver:
        driver.send("lines", "a b", key="k")
        driver.crash()
        driver.recover()
        driver.send("lines", "c", key="k")
        driver.crash()
        driver.recover()
        made = {
            value: RecordOrigin(*origin) for value, origin in (r.value for r in driver.read("out"))
        }
        assert {origin.topic for origin in made.values()} == {"app-words-repartition"}
        assert made["a"].offset == made["b"].offset < made["c"].offset
        assert [made[word].number for word in "abc"] == [0, 1, 0]


@pytest.mark.parametrize("first", [0, 2])
def test_it_is_asked_for_by_the_number_in_the_batch(first: int) -> None:
    """Of what a stage was given, wherever its records begin; where nobody knows it is None."""
    asked: list[int] = []

    def origin_of(index: int) -> RecordOrigin:
        asked.append(index)
        return RecordOrigin("t", 0, 100 + first + index, 0)

    (stage,) = build().topology().stages
    state = MemoryBackend().task(stage.name, 0).open(stage.stores, base=None)
    program = StageProgram(stage, state)
    program.process(0, Batch([b"k"] * 2, [b"a b", b"c"], [1, 2]), origin_of=origin_of)
    assert asked == [0, 0, 1]
    program.take_outputs()
    program.process(0, Batch([b"k"], [b"d"], [3]))
    ((_, made, _),) = program.take_outputs()
    assert made.values == [b'["d",null]']


def test_records_that_are_skipped_do_not_count() -> None:
    """The next one has its own place."""
    app = build()
    app.configure(skip_records=["lines/0/0"])
    with TestDriver(app) as driver:
        driver.send("lines", "a", key="k")
        driver.send("lines", "b", key="k")
        assert [record.value for record in driver.read("out")] == [["b", ["lines", 0, 1, 0]]]
