"""The stream time of an operator: how far the records that it took say that time has come.

It is state of the operator, in a store of its own, so that a restart does not make records early
that were late. It is a running maximum, record by record, and never goes back. The operator says
which records move it: those that it took, and none that had no key, came too late or failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import ClassVar

from kstash.core.watermark import BEFORE_ALL_MS
from kstash.operators.step import Stores
from kstash.topology.traits import time_store

_ENTRY = b""
_OPEN = b"open"
_GRACE = b"grace"
_LAST = b"last"


def time_of(stores: Stores, name: str) -> int | None:
    """The stream time that a store of times holds, of whom nobody is in the turn; None: none yet.

    Args:
        stores: of the task.
        name: of the store.
    """
    time_ms: int | None = stores.store(name).peek((_ENTRY,)).get(_ENTRY)
    return time_ms


def windows_of(stores: Stores, name: str) -> int:
    """How many windows a store of times says are open; see `CountedTime`.

    Args:
        stores: of the task.
        name: of the store.
    """
    count: int = stores.store(name).peek((_OPEN,)).get(_OPEN, 0)
    return count


def last_of(stores: Stores, operator: str) -> tuple[int, int] | None:
    """The stream time of windows, and the last of them; of whom nobody is in the turn.

    Args:
        stores: of the task.
        operator: name of the operator.

    Returns:
        (Stream time, the greatest number that `WindowTime.note_last` was given); None: there was
        none yet. Of records alone there need not be a stream time: in watermark mode they come
        without one until all inputs have said theirs. Then it is `BEFORE_ALL_MS`.
    """
    entries = stores.store(time_store(operator).name).peek((_ENTRY, _LAST))
    return (entries.get(_ENTRY, BEFORE_ALL_MS), entries[_LAST]) if _LAST in entries else None


class StreamTime:
    """An operator's stream time during one call of its logic: made anew for each.

    Args:
        stores: of the task.
        operator: name of the operator, whose node has `time_store` among its stores.

    Attributes:
        now_ms: in Unix milliseconds; `BEFORE_ALL_MS` before the first record.
    """

    __slots__ = ("_live", "now_ms")

    _ENTRIES: ClassVar[tuple[bytes, ...]] = (_ENTRY,)

    def __init__(self, stores: Stores, operator: str) -> None:
        self._live = stores.store(time_store(operator).name).load(self._ENTRIES)
        self.now_ms: int = self._live.get(_ENTRY, BEFORE_ALL_MS)

    def take(self, time_ms: int) -> int:
        """A record of this time was taken; returns the stream time after it."""
        if time_ms > self.now_ms:
            self.now_ms = self._live[_ENTRY] = time_ms
        return self.now_ms

    def take_all(self, times_ms: Sequence[int]) -> int:
        """Records were taken, in any order; returns the stream time after the last one.

        Args:
            times_ms: one or more.
        """
        return self.take(max(times_ms))

    def running(self, times_ms: list[int]) -> list[int]:
        """Records were taken, one after the other.

        Args:
            times_ms: any number; not changed.

        Returns:
            The stream time after each; it may be the list that was given.
        """
        if not times_ms:
            return []
        before = self.now_ms
        latest = self.take_all(times_ms)
        if latest == before:
            return [before] * len(times_ms)
        if times_ms[0] >= before and sorted(times_ms) == times_ms:
            return times_ms
        made = list(accumulate(times_ms, max, initial=before))
        del made[0]
        return made


class WindowTime(StreamTime):
    """The stream time of windows, beside the grace by which it has closed some.

    What is closed stays closed: after an upgrade that gives windows a longer grace, their time is
    later by so much, and what was closed under the shorter one opens no more. All that goes by
    time and grace, so what leaves the operator, and when the next window closes, is as before.
    After one that gives a shorter grace, windows may be due that no record has closed yet.

    Args:
        stores: of the task.
        operator: name of the operator.
        grace_ms: of its windows, as declared now.

    Attributes:
        has_shorter_grace: whether a longer grace was kept until now: said once, to whoever asks
            first.
    """

    __slots__ = ("has_shorter_grace",)

    _ENTRIES: ClassVar[tuple[bytes, ...]] = (_ENTRY, _GRACE, _LAST)

    def __init__(self, stores: Stores, operator: str, grace_ms: int) -> None:
        super().__init__(stores, operator)
        self.has_shorter_grace = False
        # States that were written before graces were kept have none: as if it were the same.
        before_ms = self._live.get(_GRACE)
        if before_ms != grace_ms:
            self._live[_GRACE] = grace_ms
            if before_ms is None or self.now_ms == BEFORE_ALL_MS:
                return
            self.has_shorter_grace = before_ms > grace_ms
            if not self.has_shorter_grace:
                self.take(self.now_ms + grace_ms - before_ms)

    def note_last(self, last_ms: int) -> None:
        """Records were taken: keep what says when the last of their windows closes.

        Args:
            last_ms: the greatest timestamp, start or end, from which that follows for windows of
                this kind, in Unix milliseconds; the greatest of all counts.
        """
        if last_ms > self._live.get(_LAST, BEFORE_ALL_MS):
            self._live[_LAST] = last_ms


class CountedTime(WindowTime):
    """The time of windows that are entries of no store: beside it stands their number."""

    __slots__ = ()

    _ENTRIES: ClassVar[tuple[bytes, ...]] = (*WindowTime._ENTRIES, _OPEN)

    def add_windows(self, more: int) -> None:
        """So many more windows are open; below 0, so many less."""
        if more:
            self._live[_OPEN] = self._live.get(_OPEN, 0) + more
