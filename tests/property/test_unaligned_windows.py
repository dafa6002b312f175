"""Sessions and sliding windows against the obvious model, whatever ends or is kept where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstash
from kstash import App, KeyedStream
from kstash.operators.batch import Batch
from kstash.operators.program import StageProgram
from kstash.operators.windows import queue
from kstash.testing.state import MemoryBackend
from kstash.topology.model import Stage
from kstash.topology.traits import PART_RECORDS
from tests.differential.driving import folded
from tests.differential.reference import Chain
from tests.differential.sentences import final, session, sliding

FAR = 10**9
NO_ROOM = 1

moves = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "ab"]),
        st.one_of(st.integers(-12, 12), st.integers(-40, 40), st.sampled_from([1000, 10**6])),
    ),
    min_size=1,
    max_size=14,
)
folds = st.sampled_from(["count", "sum", "list", "max", "all"])


@st.composite
def windows(draw: st.DrawFn) -> dict[str, Any]:
    """An operator of either emission."""
    kind = draw(st.sampled_from([session, sliding]))
    spec = kind(draw(st.integers(1, 12)), draw(st.integers(0, 15)), draw(folds))
    return draw(st.sampled_from([spec, final(spec)]))


@dataclass(frozen=True, slots=True)
class Cut:
    """How a run is cut.

    Attributes:
        lengths: of batches, the last one for all that follow; 1 or more.
        part: how many windows are closed before the rest is left.
        memory_bytes: of the state.
        restarts: whether the state is written and opened anew after each batch.
    """

    lengths: tuple[int, ...]
    part: int
    memory_bytes: int
    restarts: bool


cuts = st.builds(
    Cut,
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple),
    part=st.integers(1, 4),
    memory_bytes=st.sampled_from([NO_ROOM, 1 << 30]),
    restarts=st.booleans(),
)


def rows_of(gaps: list[tuple[str, int]]) -> list[tuple[str, int, int]]:
    """(Key, value, timestamp) of records that lie so far apart, and of one far after all."""
    rows, now = [], 100
    for number, (key, gap) in enumerate(gaps):
        now = max(1, now + gap)
        rows.append((key, number, now))
    return [*rows, ("end", 0, FAR)]


def run(spec: dict[str, Any], rows: list[tuple[str, int, int]], cut: Cut) -> tuple[Any, ...]:
    """The rows that leave, how many records were dropped, and what is kept in the end."""
    return run_stage(lambda source: folded(source, spec, "n"), rows, cut)


def run_stage(
    build: Callable[[KeyedStream[Any, Any]], KeyedStream[Any, Any]],
    rows: list[tuple[str, int, int]],
    cut: Cut,
) -> tuple[Any, ...]:
    """The same of any operators of one stage."""
    app = App("app")
    source: KeyedStream[Any, Any] = app.stream("in", key=kstash.text, value=kstash.json)
    build(source).to("out", value=kstash.json)
    (stage,) = app.topology().stages
    folder = MemoryBackend(cut.memory_bytes).task("n", 0)
    state = folder.open(stage.stores, base=None)
    program = StageProgram(stage, state)
    made: list[Any] = []
    dropped = start = number = 0
    while start < len(rows):
        length = cut.lengths[min(number, len(cut.lengths) - 1)]
        keys, values, stamps = map(list, zip(*rows[start : start + length], strict=True))
        encoded = [kstash.json.serialize(value) for value in values]
        program.process(0, Batch([key.encode() for key in keys], encoded, stamps))
        made += taken(stage, program)
        while program.has_work:
            program.go_on()
            made += taken(stage, program)
        number, start = number + 1, start + length
        if cut.restarts:
            state.checkpoint(str(number), number)
            dropped += sum(program.dropped.values())
            state = folder.open(stage.stores, base=str(number))
            program = StageProgram(stage, state)
    dropped += sum(program.dropped.values())
    return made, dropped, {spec.name: repr(state.store(spec.name).items()) for spec in stage.stores}


def taken(stage: Stage, program: StageProgram) -> list[Any]:
    """What leaves, as the model has it, without times."""
    rows: list[Any] = []
    for index, batch, _ in program.take_outputs():
        for key, value, stamp in zip(batch.keys, batch.values, batch.timestamps, strict=True):
            assert key is not None
            read = None if value is None else kstash.json.deserialize(value)
            live = stage.outputs[index].key.deserialize(key)
            rows.append([*(live if isinstance(live, tuple) else (live,)), read, stamp])
    return rows


@given(spec=windows(), gaps=moves, cut=cuts)
def test_the_model_is_met_wherever_a_batch_ends(
    spec: dict[str, Any], gaps: list[tuple[str, int]], cut: Cut
) -> None:
    """Results, their order, what is dropped, and the state in the end."""
    rows, chain = rows_of(gaps), Chain([spec])
    expected = [list(result[:5]) for row in rows for result in chain.take(*row)]
    one_by_one = run(spec, rows, Cut((1,), PART_RECORDS, 1 << 30, restarts=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "PART_RECORDS", cut.part)
        made = run(spec, rows, cut)
    assert made == one_by_one
    assert made[0] == expected
    if spec["window"] == "sliding":
        # A record that misses some of its windows counts once: the others are not known any more.
        dropped = [took(chain, row) for chain in [Chain([spec])] for row in rows]
        assert made[1] == sum(map(bool, dropped))
    else:
        assert made[1] == chain.dropped


def took(chain: Chain, row: tuple[str, int, int]) -> int:
    """How many windows a record missed."""
    before = chain.dropped
    chain.take(*row)
    return chain.dropped - before
