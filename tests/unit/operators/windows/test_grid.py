"""Where aligned windows begin and close, each against the obvious."""

from __future__ import annotations

import pytest

from kstash.operators.windows.grid import Grid


@pytest.mark.parametrize(
    "grid", [Grid(10, 10, 0, 0), Grid(10, 10, 3, 5), Grid(10, 4, 1, 7), Grid(7, 3, 2, 0)], ids=str
)
def test_a_grid(grid: Grid) -> None:
    """Starts around a timestamp, the bound of those that are closed, and when the next one is."""
    starts = [start for start in range(200) if (start - grid.offset) % grid.advance == 0]

    def closing(start: int) -> int:
        return start + grid.size + grid.grace

    for at in range(120):
        around = [start for start in starts if start <= at < start + grid.size]
        assert list(grid.starts(at)) == around
        assert grid.bounds(at) == tuple((start, start + grid.size) for start in around)
        assert (grid.last(at) if around else -1) == max(around, default=-1)
        closed = [start for start in starts if closing(start) <= at]
        assert [start for start in starts if start <= grid.closed(at)] == closed
        assert grid.number_closed(at) == len(closed) - 1
        assert grid.next_closing(at) == closing(starts[len(closed)])
        assert list(grid.starts(at, 20)) == [start for start in around if start > 20]
