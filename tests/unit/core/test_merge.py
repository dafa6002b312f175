"""The order of merged records. Source: protocol, section 3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstash.core import merge
from kstash.core.merge import MergeOrder

TIMES = st.lists(st.none() | st.integers(0, 9), max_size=8)


def test_the_smallest_head_comes_first_and_ties_go_by_input() -> None:
    """Heads are merged: a record that is early in its log waits for those before it."""
    order = MergeOrder({1: [5, 1, 7], 0: [5, 6]}, {})
    assert order.take(100) == [0, 1, 1, 0, 1]
    assert (order.counts, order.times) == ({0: 2, 1: 3}, {0: 6, 1: 7})
    assert order.take(100) == []


def test_a_record_without_a_time_takes_its_predecessors() -> None:
    """Also that of a batch before, and 0 where there was none."""
    assert MergeOrder({0: [3], 1: [None, None, 4]}, {1: 2}).take(9) == [1, 1, 0, 1]
    assert MergeOrder({0: [3], 1: [None, 2]}, {1: 4}).take(9) == [0, 1, 1]
    assert MergeOrder({0: [3, None], 1: [3, 3]}, {}).take(9) == [0, 0, 1, 1]
    assert MergeOrder({0: [-1], 1: [None]}, {}).take(9) == [0, 1]


def test_a_batch_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is for the next snapshot."""
    monkeypatch.setattr(merge, "MERGED_RECORDS_MAX", 3)
    order = MergeOrder({0: [1, 1, 1], 1: [2, 2]}, {})
    assert (order.take(2), order.take(2), order.take(2)) == ([0, 0], [0], [])


@given(st.tuples(TIMES, TIMES, TIMES), st.integers(0, 24), st.lists(st.integers(1, 5)))
def test_counts_say_the_order(
    times: tuple[list[int | None], ...], end: int, pauses: list[int]
) -> None:
    """A batch that ended anywhere is made again from its counts, with pauses anywhere."""
    waiting = dict(enumerate(times))
    live = MergeOrder(waiting, {2: 4})
    taken = live.take(end)
    again = MergeOrder({i: waiting[i][:count] for i, count in live.counts.items()}, {2: 4})
    made = [source for pause in [*pauses, 100] for source in again.take(pause)]
    assert (made, again.counts, again.times) == (taken, live.counts, live.times)


def test_a_batch_ends_where_more_is_to_come() -> None:
    """The next record of that input may come before all that is left of the others."""
    order = MergeOrder({0: [1, 4], 1: [2, 3, 5]}, {}, awaited={0})
    assert (order.take(9), order.take(9)) == ([0, 1, 1, 0], [])
    assert MergeOrder({0: [1, 4], 1: [2, 3, 5]}, {}, awaited={1}).take(9) == [0, 1, 1, 0, 1]
    assert MergeOrder({0: [1], 1: [0]}, {}, awaited={0, 1}).take(9) == [1]
