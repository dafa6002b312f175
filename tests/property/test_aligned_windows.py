"""Tumbling and hopping windows against the obvious model: offsets, grace, order, any batches."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

import kstash
from kstash.operators.batch import Batch
from kstash.operators.program import StageProgram
from kstash.operators.step import Decision, always_fail
from kstash.operators.windows import aligned
from kstash.testing.state import MemoryBackend, MemoryTaskState
from kstash.topology import aligned_nodes
from tests.differential.reference import KINDS, Record

Rows = list[tuple[str, int, int]]

CASES = 60
PART = 2
FAR_MS = 10**6


def ms(count: int) -> timedelta:
    """So many milliseconds."""
    return timedelta(milliseconds=count)


def spec_of(source: random.Random) -> dict[str, Any]:
    """An operator as the model knows it, and how much its source holds back."""
    size = source.randint(2, 30)
    kind = source.choice(["tumbling", "hopping"])
    advance = source.randint(1, size) if kind == "hopping" else size
    return {
        "window": kind,
        "size": size,
        "advance": advance,
        "offset": source.choice([0, source.randrange(advance)]),
        "grace": source.choice([0, source.randint(1, 20)]),
        "fold": source.choice(["count", "sum", "list"]),
        "emit": source.choice(["update", "final"]),
        "held": source.choice([0, 0, source.randint(1, 15)]),
    }


def rows_of(source: random.Random) -> Rows:
    """Records (key, value, timestamp) that lie near each other or far apart, and a last one."""
    rows, now = [], source.choice([0, 100])
    for number in range(source.randint(5, 60)):
        gaps = [source.randint(0, 3), source.randint(-12, 12), source.randint(-40, 60)]
        now = max(0, now + source.choice(gaps))
        rows.append((source.choice("abc"), number, now))
    return [*rows, ("z", 1, FAR_MS)]


def program_of(spec: dict[str, Any], *, may_skip: bool) -> tuple[StageProgram, MemoryTaskState]:
    """The operator of a stage, and its state, which is empty."""
    app = kstash.App("app")
    source = app.stream("in", key=kstash.text, value=kstash.int_text, out_of_order=ms(spec["held"]))
    offset = ms(spec["offset"])
    windows = kstash.hopping(ms(spec["size"]), ms(spec["advance"]), offset=offset)
    if spec["window"] == "tumbling":
        windows = kstash.tumbling(ms(spec["size"]), offset=offset)
    windowed = source.window(windows, grace=ms(spec["grace"]), emit=spec["emit"])
    fold = {"count": "count", "sum": "sum", "list": "collect"}[spec["fold"]]
    getattr(windowed, fold)("n").to("out", value=kstash.json)
    (stage,) = app.topology().stages
    state = MemoryBackend().task("n", 0).open(stage.stores, base=None)
    decide = (lambda _: Decision.SKIP) if may_skip else always_fail
    return StageProgram(stage, state, decide=decide), state


def run(spec: dict[str, Any], rows: Rows, lengths: list[int], *, may_skip: bool) -> Any:
    """Of batches so long: what leaves at each and how much is kept after it; what was dropped."""
    program, state = program_of(spec, may_skip=may_skip)
    serde = kstash.windowed(kstash.text, ms(spec["size"]))
    steps: list[Any] = []
    at = 0
    while at < len(rows):
        length = lengths[at % len(lengths)]
        keys, values, stamps = zip(*rows[at : at + length], strict=True)
        columns = [key.encode() for key in keys], [b"%d" % value for value in values]
        made: list[Any] = []
        sent = 0
        program.process(0, Batch(*columns, list(stamps)))
        while True:
            for _, batch, _ in program.take_outputs():
                for key, value, stamp in zip(
                    batch.keys, batch.values, batch.timestamps, strict=True
                ):
                    assert key is not None
                    assert value is not None
                    made.append([*serde.deserialize(key), kstash.json.deserialize(value), stamp])
            # A record that may be in more windows sends its updates by itself, and in parts.
            is_wide = spec["size"] > PART * spec["advance"]
            is_bounded = is_wide and spec["emit"] == "update"
            assert not is_bounded or len(made) - sent <= PART
            sent = len(made)
            if not program.has_work:
                break
            program.go_on()
        steps.append((made, len(state.store("n").items())))
        at += length
    return steps, sum(program.dropped.values())


def modelled(spec: dict[str, Any], rows: Rows) -> Any:
    """What the model says."""
    operator = KINDS[spec["window"]](spec)
    steps = []
    for key, value, stamp in rows:
        results = operator.take(Record(key, value, stamp, stamp - spec["held"]))
        is_open = [not operator.closed(window.end, operator.time) for window in operator.windows]
        steps.append(([list(result[:5]) for result in results], sum(is_open)))
    no_window = sum(1 for late in operator.late if not late.windows)
    return steps, operator.pairs_missed + no_window


def joined(steps: list[Any]) -> list[Any]:
    """What leaves in all of them."""
    return [row for made, _ in steps for row in made]


@pytest.mark.parametrize("may_skip", [False, True])
def test_the_model_is_met_in_any_batches(may_skip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results with their timestamps, in order, and what is dropped; the case says its number."""
    monkeypatch.setattr(aligned, "PART_RECORDS", PART)
    monkeypatch.setattr(aligned_nodes, "PART_RECORDS", PART)
    monkeypatch.setattr(aligned, "FORGOTTEN_AT_ONCE", 2)
    for number in range(CASES):
        source = random.Random(number)
        spec, rows = spec_of(source), rows_of(source)
        expected, dropped = modelled(spec, rows)
        assert run(spec, rows, [1], may_skip=may_skip) == (expected, dropped), number
        for lengths in ([source.randint(1, 9) for _ in range(7)], [len(rows)]):
            steps, missed = run(spec, rows, lengths, may_skip=may_skip)
            assert joined(steps) == joined(expected), (number, lengths)
            assert (steps[-1][1], missed) == (expected[-1][1], dropped), (number, lengths)
