"""How much of a turn goes into writing state, over all tasks of a worker."""

from __future__ import annotations

from math import inf

from kstash.ports.process import Clock

WRITE_S = 0.05
"""Of a turn, beside up to 0.1 s of batches: a third of the time, and no pause that anybody sees."""


class WriteTime:
    """The share of a turn in which checkpoints are prepared; shared by all groups of a worker."""

    def __init__(self) -> None:
        self._turn = -inf
        self._end = 0.0

    def is_left(self, turn: float, clock: Clock) -> bool:
        """Whether there is time for another part: always for the first one of a turn.

        Args:
            turn: monotonic seconds at which it began, the same for all groups.
            clock: time.
        """
        now = clock.monotonic()
        if turn != self._turn:
            self._turn, self._end = turn, now + WRITE_S
            return True
        return now < self._end
