"""Operators that are flushed at intervals: when each of them is next, by the clock."""

from __future__ import annotations

from collections.abc import Callable

from kstash.operators.flushes import Flushes


class Intervals:
    """The flushes of a live task that come at multiples of an interval, where anything waits.

    Each takes a bounded part of what waits. Until nothing does the next one is due at once, before
    any record: so what has changed before an interval ends leaves once, at its end.

    Args:
        flushes: of the task.
    """

    def __init__(self, flushes: Flushes) -> None:
        self._flushes = flushes
        self._every = {
            number: flushed.after_ms
            for number, flushed in enumerate(flushes.all)
            if flushed.why == "interval"
        }
        self._due: dict[int, int] = {}

    @property
    def due_ms(self) -> int | None:
        """When the first one is due, in Unix milliseconds; None: nothing waits."""
        return min(self._due.values(), default=None)

    def first(self) -> int:
        """The number in `flushes` of the one that is due first; there is one."""
        return min(self._due, key=lambda number: (self._due[number], number))

    def look(self, time_ms: Callable[[], int]) -> None:
        """An event is over: see what waits now.

        Args:
            time_ms: the clock, in Unix milliseconds.
        """
        for number, every_ms in self._every.items():
            if not self._flushes.wants(number):
                self._due.pop(number, None)
            elif number not in self._due:
                self._due[number] = (time_ms() // every_ms + 1) * every_ms
