"""Pauses between lines about something that may be over at once, or take hours."""

from __future__ import annotations

FIRST_S = 4.0
"""What is over before that needs no line."""

LONGEST_S = 60.0


class Pauses:
    """The first pause, and then each twice as long as the one before, up to a minute.

    Args:
        now: monotonic seconds at which it begins.
        first_s: the first pause, in seconds.
    """

    def __init__(self, now: float, first_s: float = FIRST_S) -> None:
        self._pause_s = first_s
        self._due = now + first_s

    def is_over(self, now: float) -> bool:
        """Whether the pause is over; then the next one begins."""
        if now < self._due:
            return False
        self._pause_s = min(2 * self._pause_s, LONGEST_S)
        self._due = now + self._pause_s
        return True
