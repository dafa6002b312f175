"""Windows by days and by the number of records against obvious models, whatever ends where."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstash
from kstash import App, KeyedStream
from kstash.operators.windows import aligned
from kstash.topology.window_nodes import Emit
from tests.differential.reference import Aligned, Chain
from tests.property.test_unaligned_windows import Cut, cuts, run_stage

HOUR = 3_600_000
ZONES = ["Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Asia/Tokyo"]
TURNS = [
    round(datetime(2026, month, day, tzinfo=ZoneInfo("UTC")).timestamp() * 1000)
    for month, day in ((3, 28), (10, 24), (11, 1), (4, 4))
]
"""Days at which clocks of these zones change are near."""

keys = st.sampled_from(["a", "b", "ab"])
days_apart = st.lists(
    st.tuples(keys, st.one_of(st.integers(-30, 30), st.sampled_from([99, 999])).map(HOUR.__mul__)),
    min_size=1,
    max_size=14,
)


class Days(Aligned):
    """Days of a zone, each as its calendar says: every hour of two days is asked for its date."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec | {"size": 0})
        self.zone = ZoneInfo(spec["zone"])

    def bounds(self, timestamp: int) -> list[tuple[int, int]]:
        """From the first moment of a date to the first one of the next."""
        half = HOUR // 2
        first = timestamp // half * half - 30 * HOUR
        moments = range(first, first + 60 * HOUR, half)
        dates = [datetime.fromtimestamp(at / 1000, self.zone).date() for at in moments]
        starts = [
            at
            for at, one, before in zip(moments[1:], dates[1:], dates, strict=False)
            if one > before
        ]
        start = max(start for start in starts if start <= timestamp)
        return [(start, min(end for end in starts if end > timestamp))]

    def held(self) -> int:
        """Nobody asks for it."""
        return 0


def rows_of(turn: int, gaps: list[tuple[str, int]]) -> list[tuple[str, int, int]]:
    """(Key, value, timestamp) of records that lie so far apart, and of one far after all."""
    rows, now = [], turn
    for number, (key, gap) in enumerate(gaps):
        now += gap
        rows.append((key, number, now))
    return [*rows, ("end", 0, now + 10**10)]


@given(
    zone=st.sampled_from(ZONES),
    turn=st.sampled_from(TURNS),
    gaps=days_apart,
    grace=st.sampled_from([0, 1, 5 * HOUR]),
    emit=st.sampled_from(["update", "final"]),
    cut=cuts,
)
def test_days_meet_the_model_wherever_a_batch_ends(
    zone: str, turn: int, gaps: list[tuple[str, int]], grace: int, emit: Emit, cut: Cut
) -> None:
    """Results, their order, what is dropped, and the state in the end."""
    spec = {"window": "daily", "zone": zone, "grace": grace, "emit": emit, "fold": "sum"}
    rows, chain = rows_of(turn, gaps), Chain([spec], {"daily": Days})
    expected = [list(result[:5]) for row in rows for result in chain.take(*row)]

    def program(source: KeyedStream[Any, Any]) -> KeyedStream[Any, Any]:
        late = timedelta(milliseconds=grace)
        return source.window(kstash.daily(zone), grace=late, emit=emit).sum("n", value=kstash.json)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aligned, "PART_RECORDS", cut.part)
        made, dropped, _ = run_stage(program, rows, cut)
    assert made == expected
    assert dropped == chain.dropped


@given(
    size=st.integers(1, 5),
    step=st.integers(1, 5),
    gaps=days_apart,
    fold=st.sampled_from(["count", "list", "max", "until"]),
    cut=cuts,
)
def test_counted_windows_hold_what_came(
    size: int, step: int, gaps: list[tuple[str, int]], fold: str, cut: Cut
) -> None:
    """Those of each key in their order, whatever their times; a deleted state sends nothing."""
    step = min(size, step)
    rows = rows_of(TURNS[0], gaps)
    windows = kstash.tumbling_count(size) if step == size else kstash.hopping_count(size, step)

    def program(source: KeyedStream[Any, Any]) -> KeyedStream[Any, Any]:
        windowed = source.window(windows)
        folds: dict[str, Callable[[], Any]] = {
            "count": lambda: windowed.count("n"),
            "list": lambda: windowed.collect("n", value=kstash.json),
            "max": lambda: windowed.max("n", value=kstash.json),
            "until": lambda: windowed.aggregate("n", list, until_third, value=kstash.json),
        }
        made: KeyedStream[Any, Any] = folds[fold]()
        return made

    made, dropped, _ = run_stage(program, rows, cut)
    assert dropped == 0
    expected, taken = [], dict[str, list[tuple[int, int]]]()
    for key, value, stamp in rows:
        came = taken.setdefault(key, [])
        came.append((value, stamp))
        if len(came) >= size and (len(came) - size) % step == 0:
            held = came[-size:]
            result = folded(fold, [each for each, _ in held])
            if result is not None:
                expected.append([key, result, max(at for _, at in held)])
    assert made == expected


def until_third(state: list[int], value: int) -> Any:
    """All values; each third number deletes them."""
    return kstash.DELETE if value % 3 == 2 else [*state, value]


def folded(fold: str, values: list[int]) -> Any:
    """What a window of these values sends."""
    if fold == "until":
        state: Any = None
        for value in values:
            made = until_third(state or [], value)
            state = None if made is kstash.DELETE else made
        return state
    folds: dict[str, Callable[[list[int]], Any]] = {"count": len, "list": list, "max": max}
    return folds[fold](values)


def test_the_key_of_a_counted_window_is_that_of_its_records() -> None:
    """So that a state by key follows without a topic in between; `late()` there is none."""
    app = App("app")
    stream = app.stream("in", key=kstash.text, value=kstash.json)
    stream.window(kstash.tumbling_count(2)).sum("pairs").sum("all").to("out")
    assert [stage.name for stage in app.topology().stages] == ["pairs"]
