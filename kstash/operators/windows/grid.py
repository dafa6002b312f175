"""Where aligned windows begin, and which of them are closed at a time."""

from __future__ import annotations

from dataclasses import dataclass

from kstash.operators.windows.step import Bounds


@dataclass(frozen=True, slots=True)
class Grid:
    """Windows of one size that begin at multiples of a step; none begins before 0.

    All in milliseconds. Of a time *closed* is the bound at which all windows are closed that begin
    there or before; -1: none is.

    Attributes:
        size: of a window.
        advance: from one start to the next.
        offset: the first start.
        grace: how much later than its end a window closes.
    """

    size: int
    advance: int
    offset: int
    grace: int

    def closed(self, time: int) -> int:
        """The bound of a time."""
        return max(time - self.size - self.grace, -1)

    def number_closed(self, time: int) -> int:
        """The number of the last window that is closed at a time; -1: none is."""
        return max((time - self.size - self.grace - self.offset) // self.advance, -1)

    def next_closing(self, time: int) -> int:
        """When the next window closes after a time."""
        start = (self.number_closed(time) + 1) * self.advance + self.offset
        return start + self.size + self.grace

    def closes_at(self, start: int) -> int:
        """When the window closes that begins there."""
        return start + self.size + self.grace

    def last(self, stamp: int) -> int:
        """Start of the last window around a timestamp; below 0: there is none at all."""
        return stamp - (stamp - self.offset) % self.advance

    def first(self, stamp: int, closed: int = -1) -> int:
        """Start of the first window around a timestamp that is open."""
        lowest = max(closed, stamp - self.size) + 1
        return lowest + (self.offset - lowest) % self.advance

    def starts(self, stamp: int, closed: int = -1) -> range:
        """Starts of all windows around a timestamp that are open."""
        return range(self.first(stamp, closed), self.last(stamp) + 1, self.advance)

    def bounds(self, stamp: int) -> Bounds:
        """Start and end of all windows around a timestamp."""
        return tuple((start, start + self.size) for start in self.starts(stamp))
