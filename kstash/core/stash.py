"""The stash: a task's determinants that are not yet stable.

Invariants:

- `stable <= flushed <= end` and `position <= end`; `end` is ahead of `position` only in replay.
- `entries` is the lineage of `[stable, end)`, and nothing else.
- only an acknowledgement of the lineage topic moves `stable` (protocol, H4).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from kstash.core.determinants import (
    Attachment,
    Determinant,
    covers,
    end_of,
    lineage_from,
)
from kstash.core.lineage_codec import encode_lineage

SEGMENT_ENTRIES_MAX = 2_000
"""Entries in one segment: bounds its record to some 20 KiB, far below `message.max.bytes`."""


class Stash:
    """Determinants of one task as appended, in flight to the lineage topic, and stable.

    Attributes:
        stable: everything before it is acknowledged by the lineage topic, or needs no lineage; only
            rises.
        end: end of the lineage that was appended; only rises.
    """

    __slots__ = ("_entries", "_flushed", "_implicit", "end", "stable")

    def __init__(
        self, *, implicit: bool, stable: int, end: int, entries: Sequence[Determinant] = ()
    ) -> None:
        # Nothing is logged of what is appended: it follows from the only input.
        self._implicit = implicit
        # The lineage of `[stable, end)` in order of positions, not a determinant more.
        self._entries: list[Determinant] = lineage_from(entries, stable)
        # End of what `take_segment` has handed out; between `stable` and `end`.
        self._flushed = stable
        self.stable = stable
        self.end = end
        self._release_uncovered()
        self._check()

    def __len__(self) -> int:
        return len(self._entries)

    def _check(self) -> None:
        """Assert the invariants, at the ends of `entries`."""
        assert self.stable <= self._flushed <= self.end, "stable <= flushed <= end"
        entries = self._entries
        if entries:
            assert self.stable <= entries[0].position, "lineage that is stable is kept"
            assert end_of(entries[-1]) <= self.end, "lineage beyond the end"

    def append(self, entries: Sequence[Determinant], end: int) -> None:
        """Take the lineage of the whole events up to position `end` (exclusive)."""
        assert end > self.end
        if entries:
            assert not self._implicit, "a task that logs nothing has lineage"
            assert entries[0].position >= self.end, "lineage was appended before"
            assert covers(entries, self.end, end), "lineage with a gap"
            self._entries.extend(entries)
            self.end = end
        else:
            assert self._implicit, "a task that logs runs has no lineage of its events"
            self.end = end
            self._release_uncovered()
        self._check()

    def pass_over(self, end: int) -> None:
        """Nothing is logged of the events up to position `end`: all of them count as stable."""
        assert end > self.end
        assert not self._entries, "lineage that is kept cannot be passed over"
        self.end = self._flushed = self.stable = end

    def chunk(self, start: int, end: int) -> bytes | None:
        """Encode the lineage of `[start, end)`, or None when it is empty.

        `end` is a value that `self.end` had once, so that no run lies across it.
        """
        entries = self._between(start, end)
        return encode_lineage(start, end, entries) if entries else None

    def take_segment(self) -> tuple[int, int, tuple[Determinant, ...]] | None:
        """Hand out the next lineage to append, as (start, end, entries); None when all is flushed.

        Bounded by `SEGMENT_ENTRIES_MAX`: call it until it gives None.
        """
        start = self._flushed
        entries = self._between(start, self.end)
        if not entries:
            return None
        end = self.end
        if len(entries) > SEGMENT_ENTRIES_MAX:
            cut, reached = _whole_events(entries, SEGMENT_ENTRIES_MAX)
            if cut < len(entries):
                entries, end = entries[:cut], reached
        assert start < end, "a segment of no events"
        self._flushed = end
        self._check()
        return start, end, tuple(entries)

    def mark_stable(self, end: int) -> None:
        """Drop the lineage before `end`, which the lineage topic has acknowledged."""
        assert end <= self._flushed, "acknowledged, but never flushed"
        if end <= self.stable:
            return
        self._entries = lineage_from(self._entries, end)
        self.stable = end
        self._release_uncovered()
        self._check()

    @property
    def flushed(self) -> int:
        """End of what was handed out by `take_segment`."""
        return self._flushed

    def _release_uncovered(self) -> None:
        # Of what no determinant covers there is none to be logged: whoever made these positions,
        # this incarnation or one before it, logs nothing.
        free = self._entries[0].position if self._entries else self.end
        self.stable = max(self.stable, free)
        self._flushed = max(self._flushed, self.stable)

    def _between(self, start: int, end: int) -> list[Determinant]:
        entries = self._entries
        first = bisect_left(entries, start, key=_position)
        # Those of a merged batch stand after it.
        while first and isinstance(entries[first - 1], Attachment):
            first -= 1
        if first and end_of(entries[first - 1]) > start:
            first -= 1
        last = bisect_left(entries, end, key=_position)
        return lineage_from(entries[first:last], start)


def _position(entry: Determinant) -> int:
    return entry.position


def _whole_events(entries: Sequence[Determinant], count: int) -> tuple[int, int]:
    """How many entries are whole events, `count` or the next higher number; and where they end.

    Attachments go with their event: those of a merged batch stand after it, others before it.
    """
    reached = max(map(end_of, entries[:count]))
    while count < len(entries):
        last = entries[count - 1]
        is_between = entries[count].position < reached
        if not is_between and not (isinstance(last, Attachment) and last.position >= reached):
            break
        reached = max(reached, end_of(entries[count]))
        count += 1
    return count, reached
