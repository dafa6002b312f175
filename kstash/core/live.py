"""What may come next of a live task (protocol, section 3); in a replay the lineage says it.

Invariants:

- what no record decides (ticks, flushes, idle inputs) waits until each input was read to the end
  that was listed when the task went live, and never comes once the inputs are at the ends of a
  bounded run: an END that counts fixes the history, and a successor may not have read it yet;
- nothing at all comes after the checkpoint that a group is given up with;
- times that are logged never go back, whatever the clocks of the workers say.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from kstash.core.ids import UNBOUNDED


class MayCome(enum.Enum):
    """Which events may be next."""

    NOTHING = "nothing"
    RECORDS = "records"
    ANY = "any"


class LiveRules:
    """What one incarnation of a task may do since it went live.

    Attributes:
        logged_ms: the greatest time that was logged; only rises.
    """

    __slots__ = ("_ends", "_is_closed", "logged_ms")

    def __init__(self, ends: Mapping[int, int], logged_ms: int) -> None:
        """Go live.

        Args:
            ends: of the inputs, listed now; one that is empty has 0, one that is listed later
                `UNBOUNDED` until then.
            logged_ms: the greatest time in the history so far; 0 when it has none.
        """
        # Of inputs that were not read to there yet; once empty, it stays.
        self._ends = dict(ends)
        # Set once.
        self._is_closed = False
        self.logged_ms = logged_ms

    def list_ends(self, ends: Mapping[int, int]) -> None:
        """Inputs end there, of some whose end was `UNBOUNDED` as long as nobody had listed it."""
        self._ends.update((s, end) for s, end in ends.items() if self._ends.get(s) == UNBOUNDED)

    def read(self, source: int, next_offset: int) -> None:
        """An input was read up to before this offset; what was read and dropped counts."""
        if next_offset >= self._ends.get(source, next_offset + 1):
            del self._ends[source]

    @property
    def has_caught_up(self) -> bool:
        """Whether all inputs were read once to where they ended when the task went live."""
        return not self._ends

    def may_come(self, *, is_at_end: bool) -> MayCome:
        """What may be next.

        Args:
            is_at_end: all inputs are at the ends of a bounded run, whether END was said or not.
        """
        if self._is_closed:
            return MayCome.NOTHING
        return MayCome.ANY if self.has_caught_up and not is_at_end else MayCome.RECORDS

    def due_ms(self, wanted_ms: int) -> int:
        """When a tick that is wanted at a time is due by the clock: at once (0) if it was logged.

        Args:
            wanted_ms: Unix time in milliseconds; the clock may be behind what was logged.
        """
        return wanted_ms if wanted_ms > self.logged_ms else 0

    def time_ms(self, clock_ms: int) -> int:
        """The time of an event that is logged now.

        Args:
            clock_ms: what the worker's clock says; it may be behind the one of its predecessor.
        """
        self.logged_ms = max(self.logged_ms, clock_ms)
        return self.logged_ms

    def close(self) -> None:
        """The group is given up: the checkpoint taken now is the last one."""
        self._is_closed = True
