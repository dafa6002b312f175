"""A clock that tests move by hand."""

from __future__ import annotations


class ManualClock:
    """A `kstash.ports.process.Clock` that stands still until a test moves it.

    Args:
        start_ms: Unix time in milliseconds at which it starts.
    """

    def __init__(self, start_ms: int = 1_600_000_000_000) -> None:
        self._start_ms = start_ms
        # Whole microseconds: a sum of floats would make equal schedules differ in the last digit.
        self._elapsed_us = 0

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._elapsed_us / 1_000_000

    def time_ms(self) -> int:
        """Unix time in milliseconds."""
        return self._start_ms + self._elapsed_us // 1000

    def step(self, seconds: float) -> None:
        """Set the Unix time forward, or back with a negative number; `monotonic` does not move."""
        self._start_ms += round(seconds * 1000)

    def advance(self, seconds: float) -> None:
        """Move the clock forward by `seconds`, 0 or more."""
        if seconds < 0:
            raise ValueError(f"a clock cannot go back by {-seconds:g} s")
        self._elapsed_us += round(seconds * 1_000_000)
