"""What Kafka Streams cannot judge of the model of windows: properties and examples of its own."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.differential.reference import Chain, Record, Result
from tests.differential.sentences import final, hopping, session, sliding, tumbling

FAR = 10**9

gaps = st.one_of(
    st.integers(-2, 2),
    st.integers(-30, 30),
    st.integers(0, 500),
    st.sampled_from([10_000, 100_000]),
)
inputs = st.lists(st.tuples(st.sampled_from("abc"), gaps), min_size=1, max_size=15)
lengths = st.integers(1, 12)
graces = st.integers(0, 15)


@st.composite
def windows(draw: st.DrawFn) -> dict[str, Any]:
    """A window of any kind that sends updates."""
    length, grace = draw(lengths), draw(graces)
    hop = draw(st.integers(1, length))
    return draw(
        st.sampled_from(
            [
                tumbling(length, grace),
                hopping(length, hop, grace),
                sliding(length, grace),
                session(length, grace),
            ]
        )
    )


def steps(windows: Chain, moves: list[tuple[str, int]]) -> list[list[Result]]:
    """The results of records that lie so far apart, and of one far behind them all."""
    now = 100
    results = []
    for number, (key, move) in enumerate(moves):
        now = max(0, now + move)
        results.append(windows.take(key, number, now))
    return [*results, windows.take("end", 0, FAR)]


@given(window=windows(), moves=inputs)
def test_each_opened_window_gives_one_final_result(
    window: dict[str, Any], moves: list[tuple[str, int]]
) -> None:
    """After gaps of any length: the last update of each window, once; swallowed sessions none."""
    updates: dict[tuple[str, int, int], Result] = {}
    for result in chain.from_iterable(steps(Chain([window]), moves)):
        updates[result[:3]] = result
    finals = chain.from_iterable(steps(Chain([final(window)]), moves))
    expected = [r for r in updates.values() if r.value is not None and r.key != "end"]
    assert sorted(r[:5] for r in finals) == sorted(r[:5] for r in expected)


@given(window=windows(), moves=inputs)
def test_windows_that_close_together_leave_in_order(
    window: dict[str, Any], moves: list[tuple[str, int]]
) -> None:
    """By end, start and key, for whatever one record closes; their time never goes back."""
    told = steps(Chain([final(window)]), moves)
    for step in told:
        assert step == sorted(step, key=lambda r: (r.end, r.start, r.key))
    times = [r.time for step in told for r in step]
    assert times == sorted(times)


@example(first=sliding(5), second=tumbling(1), moves=[("a", 0), ("a", 1)])  # why + 1 ms
@given(first=windows(), second=windows(), moves=inputs)
def test_nothing_is_late_in_a_second_window(
    first: dict[str, Any], second: dict[str, Any], moves: list[tuple[str, int]]
) -> None:
    """Two windows in a stage, both final: the second misses no result of the first."""
    specs = [final(first) | {"fold": "sum"}, final(second) | {"between": "stage"}]
    both = Chain(specs)
    steps(both, moves)
    assert not both.operators[1].late
    assert not both.operators[1].pairs_missed


def test_windows_with_an_offset() -> None:
    """Windows begin at the offset and multiples of the advance from it, none before zero."""
    hops = Chain([hopping(10, 5) | {"offset": 3}])
    assert [r[1:3] for r in hops.take("a", 1, 14)] == [(8, 18), (13, 23)]
    assert [r[1:3] for r in Chain([tumbling(10) | {"offset": 3}]).take("a", 1, 14)] == [(13, 23)]
    assert Chain([tumbling(10) | {"offset": 3}]).take("a", 1, 2) == []


@pytest.mark.parametrize(
    ("window", "missed"),
    [
        (tumbling(10), [(0, 10)]),
        (hopping(10, 4), [(0, 10), (4, 14)]),
        (sliding(10), [(5, 15)]),
        (session(10), [(5, 5)]),
    ],
    ids=lambda given: given["window"] if isinstance(given, dict) else "",
)
def test_a_late_record_says_what_it_missed(
    window: dict[str, Any], missed: list[tuple[int, int]]
) -> None:
    """The side stream has the record and all windows that it would have been in."""
    one = Chain([window])
    one.take("a", 1, 50)
    assert one.take("a", 2, 5) == []
    assert one.operators[0].late == [(Record("a", 2, 5, 5), missed)]
