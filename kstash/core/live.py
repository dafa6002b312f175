"""What may come next of a live task (protocol, section 3); in a replay the lineage says it.

Invariants:

- what no record decides (ticks, flushes, idle inputs) waits until each input was read to the end
  that was listed when the task went live, and never comes once the inputs are at the ends of a
  bounded run: an END that counts fixes the history, and a successor may not have read it yet;
- but for the flushes of the end itself, which are a function of the state and of the run alone:
  they come before END, and END only when none is left, so that no successor finds any more;
- nothing at all begins after the checkpoint that a group is given up with is taken;
- times that are logged never go back, whatever the clocks of the workers say.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from kstash.core.ids import UNBOUNDED


class MayCome(enum.Enum):
    """Which events may be next."""

    RECORDS = "records"
    ANY = "any"


class Admission:
    """What the tasks of a group may begin.

    Attributes:
        is_closed: the group is given up: what waits is for the next owner; set once.
    """

    __slots__ = ("is_closed",)

    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        """Begin no more; events that are under way are finished."""
        self.is_closed = True

    def may_begin(self, *, waits_for_rest: bool, may_leave_work: bool) -> bool:
        """Whether a task may begin an event.

        Args:
            waits_for_rest: a commit or a checkpoint waits until no event of the group is under way.
            may_leave_work: events of the task may be under way for long, so there might be one at
                any time.
        """
        return not (self.is_closed or (waits_for_rest and may_leave_work))


def may_flush_at_end(*, has_read_all: bool, has_said_end: bool) -> bool:
    """Whether what waits in a task may be flushed as a bounded run ends.

    Args:
        has_read_all: the task has read its inputs to the ends of the run.
        has_said_end: it has said END, after which nothing comes.
    """
    return has_read_all and not has_said_end


def may_say_end(*, has_read_all: bool, waits: bool, is_durable: bool) -> bool:
    """Whether a task may say END.

    Args:
        has_read_all: as of `may_flush_at_end`.
        waits: something in it is to be flushed before.
        is_durable: its outputs and its lineage would allow a checkpoint. Else a successor could
            find another history after an END that was counted.
    """
    return has_read_all and not waits and is_durable


class LiveRules:
    """What one incarnation of a task may do since it went live.

    Attributes:
        logged_ms: the greatest time that was logged; only rises.
    """

    __slots__ = ("_ends", "logged_ms")

    def __init__(self, ends: Mapping[int, int], logged_ms: int) -> None:
        """Go live.

        Args:
            ends: of the inputs, listed now; one that is empty has 0, one that is listed later
                `UNBOUNDED` until then.
            logged_ms: the greatest time in the history so far; 0 when it has none.
        """
        # Of inputs that were not read to there yet; once empty, it stays.
        self._ends = dict(ends)
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
