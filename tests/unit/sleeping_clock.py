"""A stand-in for the module `time`, for code that waits by sleeping."""

from __future__ import annotations


class SleepingClock:
    """Time that passes while somebody sleeps, and at once.

    Attributes:
        now: seconds since it was made.
    """

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let them pass."""
        self.now += seconds
