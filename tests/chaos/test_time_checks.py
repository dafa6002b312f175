"""The checkers of what goes by time: each violation they are there for is seen."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest

from tests.chaos.checkers import Output, Outputs
from tests.chaos.time_checks import (
    check_chained,
    check_closed_by_silence,
    check_intervals,
    hops,
    once,
    pauses,
    slides,
)
from tests.chaos.window_checks import Click, window_key

CLICKS: list[Click] = [
    ("a", 100, 0),
    ("b", 200, 1),
    ("a", 900, 2),
    ("a", 1_100, 3),  # the windows from 0 close: at 1,000, by the grace of 100
    ("b", 1_200, 4),
    ("a", 1_300, 5),
]
"""Windows of a second, with a grace of 100 ms, of which the clock may have closed some."""


def results(*windows: tuple[str, int, object], partition: int = 0) -> Outputs:
    """Results of windows: key, start, value."""
    return {
        partition: [
            Output(partition, n, window_key(key.encode(), at), json.dumps(value).encode(), ())
            for n, (key, at, value) in enumerate(windows)
        ]
    }


def numbers(*late: int) -> Outputs:
    """What is late."""
    return {0: [Output(0, n, b"k", b"%d" % number, ()) for n, number in enumerate(late)]}


def closed(windows: Sequence[tuple[str, int, object]], late: Sequence[int]) -> None:
    """Check these results of `CLICKS`."""
    check_closed_by_silence(
        results(*windows), numbers(*late), {0: CLICKS}, 1_000, 100, what="closed"
    )


FIRST = ("a", 0, [0, 2]), ("b", 0, [1])
SECOND = ("a", 1_000, [3, 5]), ("b", 1_000, [4])


@pytest.mark.parametrize(
    ("windows", "late"),
    [
        ((*FIRST, *SECOND), ()),
        # Silence after the second record, and after the fourth.
        ((("a", 0, [0]), ("b", 0, [1]), ("a", 1_000, [3])), (2, 4, 5)),
    ],
)
def test_silence_may_close_windows_or_not(
    windows: Sequence[tuple[str, int, object]], late: Sequence[int]
) -> None:
    """Whatever the clock has closed, all of a partition together."""
    closed(windows, late)


@pytest.mark.parametrize(
    ("windows", "late", "message"),
    [
        ((*FIRST, SECOND[0]), (), "late"),  # one is lost
        ((*FIRST, *SECOND), (5,), "late"),  # one is in a window, and late
        ((*FIRST, *SECOND, SECOND[1]), (), "out of order or twice"),
        ((FIRST[1], FIRST[0], *SECOND), (), "out of order or twice"),
        ((("a", 0, [2, 0]), FIRST[1], *SECOND), (), "not"),
        ((("a", 0, [0, 3]), FIRST[1], *SECOND), (), "not"),
        ((("a", 0, [0, 2]), *SECOND), (1,), "was late, and is taken"),
        # Windows close for all keys: what b has missed, a cannot have.
        ((*FIRST, SECOND[0]), (4,), "was late, and is taken"),
    ],
)
def test_windows_that_close_by_the_clock(
    windows: Sequence[tuple[str, int, object]], late: Sequence[int], message: str
) -> None:
    """What is lost, doubled, out of order, or of no single time."""
    with pytest.raises(AssertionError, match=message):
        closed(windows, late)


def test_what_stream_time_has_closed_is_late() -> None:
    """Though nobody says that there was a silence."""
    late = [*CLICKS, ("b", 300, 6)]
    with pytest.raises(AssertionError, match="was late, and is taken"):
        check_closed_by_silence(
            results(("a", 0, [0, 2]), ("b", 0, [1, 6]), *SECOND),
            numbers(),
            {0: late},
            1_000,
            100,
            what="closed",
        )


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ([("a", 0, 1), ("a", 0, 2), ("b", 0, 1), ("a", 1_000, 2), ("b", 1_000, 1)], ""),
        ([("a", 0, 2), ("b", 0, 1), ("a", 1_000, 2)], "other counts"),
        ([("a", 0, 2), ("b", 0, 1), ("a", 1_000, 1), ("b", 1_000, 1)], "other counts"),
        ([("a", 0, 2), ("a", 0, 2), ("b", 0, 1)], "2 after 2"),
        ([("a", 0, 2), ("a", 0, 1)], "1 after 2"),
    ],
)
def test_results_at_intervals(windows: list[tuple[str, int, object]], message: str) -> None:
    """Each window's counts rise, up to the last one."""
    if not message:
        check_intervals(results(*windows), {0: CLICKS}, 1_000, 100)
        return
    with pytest.raises(AssertionError, match=message):
        check_intervals(results(*windows), {0: CLICKS}, 1_000, 100)


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        # By their last clicks' times, 900, 200, 1,300 and 1,200, in windows of 1,300 ms.
        ([("group-0", 0, [[0, 2]]), ("group-1", 0, [[1]])], "not the same"),
        (
            [("group-0", 0, [[0, 2], [4]]), ("group-1", 0, [[1]]), ("group-1", 1_300, [[3, 6]])],
            "not",
        ),
        ([("group-1", 1_300, [[3, 5]]), ("group-0", 0, [[0, 2], [4]])], "twice, or out of order"),
        (
            [("group-0", 0, [[0, 2], [4]]), ("group-1", 0, [[1]]), ("group-1", 1_300, [[3, 5]])],
            "",
        ),
    ],
)
def test_windows_in_a_chain(windows: list[tuple[str, int, object]], message: str) -> None:
    """Each list once, in the window of its time."""
    firsts = results(*FIRST, *SECOND)
    if not message:
        check_chained(firsts, results(*windows), CLICKS, 1_300, 2)
        return
    with pytest.raises(AssertionError, match=message):
        check_chained(firsts, results(*windows), CLICKS, 1_300, 2)


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        # Windows of 600 ms each 300 ms, with a grace of 100.
        (
            lambda: hops([("a", 3_100, 1), ("a", 3_400, 2), ("a", 4_400, 4)], 600, 300, 100),
            [("a", 2_700, 1), ("a", 3_000, 3), ("a", 3_300, 2)],
        ),
        # One ends at each record, and one begins after the first two.
        (
            lambda: slides([("a", 1_000, 1), ("a", 1_400, 2), ("a", 9_000, 3)], 500, 100),
            [("a", 500, 1), ("a", 900, 2), ("a", 1_001, 1)],
        ),
        # The one that is late is in the window that begins after it, and not in that up to it.
        (
            lambda: slides([("a", 2_000, 1), ("a", 1_800, 2), ("a", 9_000, 3)], 500, 100),
            [("a", 1_500, 2), ("a", 1_801, 1)],
        ),
    ],
)
def test_windows_that_overlap(
    model: Callable[[], list[tuple[bytes, bytes]]], sent: list[tuple[str, int, int]]
) -> None:
    """By hand."""
    assert model() == [(window_key(key.encode(), at), b"%d" % value) for key, at, value in sent]


def test_what_passes_once_and_what_ends_with_a_pause() -> None:
    """By hand."""
    clicks = [("a", 100, 0), ("a", 200, 1), ("a", 1_000, 2), ("b", 1_100, 3), ("a", 150, 4)]
    assert once(clicks, 1_000, 1_000) == [(b"a", b"0"), (b"a", b"2"), (b"b", b"3"), (b"a", b"4")]
    assert once(clicks, 1_000, 1_001) == [(b"a", b"0"), (b"a", b"2"), (b"b", b"3")]
    assert pauses([*clicks, ("b", 1_650, 5)], 550) == [(b"a", b"2"), (b"a", b"2"), (b"b", b"1")]
