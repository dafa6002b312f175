"""Since when things have not moved, as far as was seen by looking at them again and again."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Still:
    """Where something was when it moved last, and when that was, in monotonic seconds."""

    at: object
    since_s: float


class Stillness:
    """What was seen in one look after the other; a thing that one leaves out begins anew."""

    def __init__(self) -> None:
        self._now = 0.0
        # By thing: as of the look before, and of this one so far.
        self._before: dict[Hashable, _Still] = {}
        self._seen: dict[Hashable, _Still] = {}

    def begin_look(self, now: float) -> None:
        """Look at all things once more.

        Args:
            now: monotonic seconds.
        """
        self._now = now
        self._before, self._seen = self._seen, {}

    def look_at(self, thing: Hashable, at: object, *, should_move: bool = True) -> float:
        """See whether a thing has moved since the last look.

        Args:
            thing: that is looked at.
            at: where it is: anything that is not equal to what it was, once it moves.
            should_move: False: it has nothing to do, so that it does not stand still either.

        Returns:
            Seconds for which it has stood still.
        """
        still = self._before.get(thing)
        if still is None or still.at != at or not should_move:
            still = _Still(at, self._now)
        self._seen[thing] = still
        return self._now - still.since_s

    def seconds(self, thing: Hashable) -> float:
        """Seconds for which a thing has stood still, as of this look; 0 if it was not looked at."""
        still = self._seen.get(thing)
        return self._now - still.since_s if still is not None else 0.0
