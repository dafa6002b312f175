"""Where the days of a place begin, and which of them are closed at a time."""

from __future__ import annotations

from kstash.operators.windows.step import Bounds
from kstash.topology.days import Days


class DayGrid:
    """Windows side by side, each of which is a day; none begins before 0. As `Grid`.

    Args:
        days: of the place.
        grace: how much later than its end a window closes, in milliseconds.
    """

    def __init__(self, days: Days, grace: int) -> None:
        self._days = days
        self._grace = grace
        self._first = days.next_start(-1)

    def closed(self, time: int) -> int:
        """The bound of a time: all windows are closed that begin there or before; -1: none is."""
        at = time - self._grace
        return -1 if at < self._first else self._days.start_of(at) - 1

    def number_closed(self, time: int) -> int:
        """Another one where other windows are closed."""
        return self.closed(time)

    def next_closing(self, time: int) -> int:
        """When the next window closes after a time."""
        return self._days.next_start(max(time - self._grace, self._first)) + self._grace

    def closes_at(self, start: int) -> int:
        """When the window closes that begins there."""
        return self._days.next_start(start) + self._grace

    def last(self, stamp: int) -> int:
        """Start of the window around a timestamp; below 0: there is none."""
        return self._days.start_of(stamp)

    def first(self, stamp: int) -> int:
        """The same: there is one."""
        return self._days.start_of(stamp)

    def bounds(self, stamp: int) -> Bounds:
        """Start and end of the window around a timestamp."""
        start = self._days.start_of(stamp)
        return () if start < 0 else ((start, self._days.next_start(stamp)),)
