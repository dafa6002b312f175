"""No result depends on where a checkpoint fell and what was restored from it (H55).

One stateful operator under each serde is given values that serdes lose, refuse or change: not a
number, infinities, signed zeros, integers of any size, lone surrogates, None, keys that Python
calls equal and whose bytes differ. A run that restores its state from a checkpoint at random
places makes the outputs of one that never did, and stops at the same record with the same error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

import kstash
from kstash import App, KeyedStream, KstashError, Serde
from kstash.operators.batch import Batch
from kstash.operators.program import StageProgram
from kstash.testing.state import MemoryBackend

THIRDS: Serde[Any] = Serde(
    "thirds", lambda value: b"%.3f" % value, lambda data: float(data) / 3 if data != b"0.000" else 0
)
"""A serde that is no inverse of itself: what comes back becomes other bytes."""

NULLABLE: Serde[Any] = Serde(
    "nullable", lambda value: b"x" if value else b"", lambda data: data.decode() or None
)
"""A serde that gives None back for some values."""

SERDES: list[Serde[Any]] = [
    kstash.text,
    kstash.raw,
    kstash.int_text,
    kstash.float_text,
    kstash.number_text,
    kstash.json,
    kstash.msgpack,
    THIRDS,
    NULLABLE,
]


class Odd:
    """No serde takes it."""

    def __repr__(self) -> str:
        return "Odd()"


VALUES: list[Any] = [
    *(None, kstash.DELETE, Odd()),
    *(0, 1, -1, True, False, 2**64, 10**4200, 10**5000),
    *(0.0, -0.0, 1.0, 1e308, -1e308, math.inf, -math.inf, math.nan),
    *("", "a", "nan", "\ud800", b"", b"\xff", bytearray(b"x")),
    *([1], (1, 2.0), [math.nan], {"a": math.inf}, {"a": None}, {1: 2}, {2, 1}),
]

KEYS = [b"0.0", b"-0.0", b"0", b"1", b"1.0", b"1e0"]
"""Five keys or six, as the serde has it; Python knows two."""


def _newest(_: Any, value: Any) -> Any:
    return value


def _first(state: Any, _: Any) -> Any:
    return state


def _pair(state: Any, value: Any) -> Any:
    return value, (state if type(state) in (int, float, str) else None)


def _seen(state: Any, _: Any) -> Any:
    # States are compared as they are shown here.
    return repr(state)[-20:]


def _in_place(state: Any, value: Any) -> Any:
    if isinstance(state, list):
        state.append(value)
    return state


FOLDS: list[Callable[[Any, Any], Any]] = [_newest, _first, _pair, _seen, _in_place]


def grow(
    stream: KeyedStream[Any, Any], verb: str, fold: Callable[[Any, Any], Any], serde: Serde[Any]
) -> KeyedStream[Any, Any]:
    """One stateful operator after a stream."""
    match verb:
        case "count":
            return stream.count("s")
        case "sum":
            return stream.sum("s", value=serde)
        case "reduce":
            return stream.reduce("s", fold, value=serde)
    return stream.aggregate("s", list, fold, value=serde)


class Run:
    """A program on one task, with a state that can be restored."""

    def __init__(self, app: App) -> None:
        (self.stage,) = app.topology().stages
        self.backend = MemoryBackend()
        self.outputs: list[tuple[bytes | None, str]] = []
        self.number = 0
        self._open(None)

    def _open(self, base: str | None) -> None:
        self.state = self.backend.task("s", 0).open(self.stage.stores, base=base)
        self.program = StageProgram(self.stage, self.state)

    def restore(self) -> None:
        """Go on from a checkpoint of this moment."""
        self.number += 1
        self.state.checkpoint(str(self.number), self.number)
        self._open(str(self.number))

    def feed(self, records: list[tuple[bytes, int]]) -> None:
        """Process a batch."""
        keys: list[Any] = [key for key, _ in records]
        values: list[Any] = [b"%d" % value for _, value in records]
        self.program.process(0, Batch(keys, values, [1] * len(records)))
        for _, batch, _ in self.program.take_outputs():
            self.outputs += zip(batch.keys, map(str, batch.values), strict=True)

    def entries(self) -> list[str]:
        """All state, as a restore would find it."""
        self.restore()
        return [repr(entry) for entry in self.state.store("s").items()]


def follow(app: App, records: list[tuple[bytes, int]], restores: list[bool]) -> list[Any]:
    """Outputs, and the state or the error that ended it; the record before each restore alone."""
    run = Run(app)
    for number, record in enumerate(records):
        try:
            run.feed([record])
        except KstashError as error:
            return [*run.outputs, (number, type(error).__name__, str(error))]
        if restores[number]:
            run.restore()
    return [*run.outputs, run.entries()]


@st.composite
def records_of_few(draw: st.DrawFn) -> list[tuple[bytes, int]]:
    """Of few keys and values, so that they meet."""
    keys = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=2))
    values = draw(st.lists(st.sampled_from(range(len(VALUES))), min_size=1, max_size=3))
    record = st.tuples(st.sampled_from(keys), st.sampled_from(values))
    return draw(st.lists(record, min_size=2, max_size=8))


CUTS = st.lists(st.booleans(), min_size=8, max_size=8)


def case(
    verb: str,
    serde: Serde[Any],
    *values: Any,
    fold: Callable[[Any, Any], Any] = _newest,
    is_cut: bool = True,
) -> example:
    """A case that was wrong once: all of one key, with a restore after each record or none."""
    return example(
        verb=verb,
        fold=fold,
        serde=serde,
        key=kstash.raw,
        records=[(b"1", VALUES.index(value)) for value in values],
        restores=[True] * 8,
        cuts=[is_cut] * 8,
    )


@given(
    verb=st.sampled_from(["count", "sum", "reduce", "aggregate"]),
    fold=st.sampled_from(FOLDS),
    serde=st.sampled_from(SERDES),
    key=st.sampled_from([kstash.raw, kstash.number_text, kstash.float_text, kstash.json]),
    records=records_of_few(),
    restores=CUTS,
    cuts=CUTS,
)
@case("sum", kstash.json, 1e308, 1e308, 1)  # JSON wrote null for the overflow
@case("sum", NULLABLE, 0, 1)  # absent until a restore only
@case("reduce", THIRDS, 1e308, 1.0, fold=_seen)
@case("reduce", THIRDS, 1.0, 1.0, fold=_first)  # other bytes at each restore
@case("reduce", kstash.text, "\ud800", "a")  # fails at a checkpoint, if it is there then
@case("sum", kstash.int_text, 10**5000, 1)
@case("sum", kstash.number_text, 10**5000, 1)  # came back as an infinity
@case("reduce", kstash.raw, b"", kstash.DELETE, b"\xff")
def test_a_restore_changes_nothing(
    verb: str,
    fold: Callable[[Any, Any], Any],
    serde: Serde[Any],
    key: Serde[Any],
    records: list[tuple[bytes, int]],
    restores: list[bool],
    cuts: list[bool],
) -> None:
    """Outputs, errors and their records, and the state; and no checkpoint fails for a value."""
    app = App("app")
    stream = app.stream("in", key=key, value=kstash.int_text).map_values(VALUES.__getitem__)
    grow(stream, verb, fold, serde).map_values(repr).to("out", value=kstash.text)
    expected = follow(app, records, [False] * 8)
    assert follow(app, records, restores) == expected

    batches: list[list[tuple[bytes, int]]] = []
    for record, is_cut in zip(records, cuts, strict=False):
        if is_cut or not batches:
            batches.append([])
        batches[-1].append(record)
    run = Run(app)
    try:
        for batch in batches:
            run.feed(batch)
    except KstashError:
        # Another operator may fail first, of what a batch is given whole.
        assert isinstance(expected[-1], tuple)
    else:
        assert [*run.outputs, run.entries()] == expected
