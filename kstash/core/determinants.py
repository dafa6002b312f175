"""Determinants: what event `position` of a task was, and lists of them as lineage.

Invariants of a lineage (a list of determinants in order):

- events cover positions, one or more from their own on, and never overlap; an `Attachment` covers
  nothing, and stands in front of its own event;
- records can be cut at any position. A `MergedBatch` cannot: where it ended decides what it took,
  so no checkpoint, committed position, chunk, segment or adopted end lies within one;
- positions covered by nothing are what follows by itself, where the incarnation that made them
  logs nothing (protocol, section 3): records of the only input.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kstash.core.ids import Incarnation
from kstash.errors import LineageGapError

UNKNOWN_OFFSET = -1
"""End offset of the head of a cut run: the offset at the cut was not logged."""


@dataclass(frozen=True, slots=True)
class Consumed:
    """Events `[position, position + count)`: records of one input, ending before `end_offset`.

    The end is logged beside the count because offsets have gaps (transaction markers, compaction).

    Attributes:
        position: of the first event.
        input: index of the input.
        count: of events, 1 or more.
        end_offset: of the Kafka record after the last one's, or `UNKNOWN_OFFSET`.
    """

    position: int
    input: int
    count: int
    end_offset: int


@dataclass(frozen=True, slots=True)
class InputPlace:
    """Where a task that merges goes on in one input.

    Attributes:
        offset: of the Kafka record to go on with.
        taken: how many of its logical records lie before the one to go on with: those that the
            reader rule or a setting passes over, and those that were taken; 0 unless some of it
            were taken.
        timestamp_ms: of the last record taken; one without a time of its own takes it over.
    """

    offset: int
    taken: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class MergedInput:
    """What a merged batch took of one input.

    Attributes:
        input: index of the input.
        count: of logical records, 1 or more.
        place: where the input goes on after them.
    """

    input: int
    count: int
    place: InputPlace


@dataclass(frozen=True, slots=True)
class MergedBatch:
    """Logical records of several inputs, in the order that `core.merge` makes of their times.

    Attributes:
        position: of the first event.
        parts: in order of the inputs, each at most once.
    """

    position: int
    parts: tuple[MergedInput, ...]

    @property
    def count(self) -> int:
        """Logical records of all inputs, each an event."""
        return sum(part.count for part in self.parts)


@dataclass(frozen=True, slots=True)
class Tick:
    """The wall clock said a time; what the state has due by then fires.

    Attributes:
        position: of the event.
        now_ms: Unix time in milliseconds.
    """

    position: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class Flush:
    """An operator sends what it has held back.

    Attributes:
        position: of the event.
        operator: its number in the stage.
    """

    position: int
    operator: int


@dataclass(frozen=True, slots=True)
class Idle:
    """An input has been at its end for long.

    Attributes:
        position: of the event.
        input: index of the input.
        now_ms: Unix time in milliseconds at which that was found.
    """

    position: int
    input: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class Completed:
    """Event `position`: a call has an answer, which lies in the lineage topic.

    Attributes:
        position: of the event.
        call: identifies the call among all others of the task.
        incarnation: the one whose answer was taken; others may have written one too.
    """

    position: int
    call: bytes
    incarnation: Incarnation


CLOCK, SEED = 1, 4
"""Kinds of attachments: a time in Unix milliseconds (8 bytes, big-endian), and 16 random bytes."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A clock read, seed of chance, call result or error decision made within an event.

    Attributes:
        position: of the event.
        index: of the logical record within the event.
        k: how many attachments the record has before this one.
        kind: the maker's (kinds: wire-format.md).
        payload: likewise.
    """

    position: int
    index: int
    k: int
    kind: int
    payload: bytes


EventEntry = Consumed | MergedBatch | Tick | Flush | Idle | Completed
"""What one event was, or several."""

Determinant = EventEntry | Attachment


def end_of(determinant: Determinant) -> int:
    """Return the position after what a determinant covers (its own for an attachment)."""
    if isinstance(determinant, Consumed):  # most of them; the union below takes far longer
        return determinant.position + determinant.count
    if isinstance(determinant, MergedBatch):
        return determinant.position + determinant.count
    if isinstance(determinant, Attachment):
        return determinant.position
    return determinant.position + 1


def _tail_of(entry: Determinant, start: int) -> Determinant:
    """What is left of an entry from a position within it on."""
    if isinstance(entry, Consumed):
        left = entry.position + entry.count - start
        return Consumed(start, entry.input, left, entry.end_offset)
    raise _cut_error(entry, start)


def _head_of(entry: Determinant, end: int) -> Determinant:
    """What an entry says of the positions before one that lies within it."""
    if isinstance(entry, Consumed):
        return Consumed(entry.position, entry.input, end - entry.position, UNKNOWN_OFFSET)
    raise _cut_error(entry, end)


def _cut_error(entry: Determinant, position: int) -> LineageGapError:
    return LineageGapError(
        f"position {position} lies within what is one: [{entry.position}, {end_of(entry)})"
    )


def lineage_from(entries: Sequence[Determinant], start: int) -> list[Determinant]:
    """Return the lineage from position `start` on; what lies across `start` loses its head.

    An attachment belongs to the event at its position, so one at `start` is kept.

    Raises:
        LineageGapError: `start` lies within a merged batch.
    """
    kept: list[Determinant] = []
    for entry in entries:
        if entry.position >= start:
            kept.append(entry)
        elif end_of(entry) > start:
            kept.append(_tail_of(entry, start))
    return kept


def lineage_until(entries: Sequence[Determinant], end: int) -> list[Determinant]:
    """Return the lineage of the events before position `end`; what lies across it loses its tail.

    The head of a cut run has an unknown end offset, so its end cannot be verified on replay.

    Raises:
        LineageGapError: `end` lies within a merged batch.
    """
    kept: list[Determinant] = []
    for entry in entries:
        if entry.position >= end:
            continue
        kept.append(_head_of(entry, end) if end_of(entry) > end else entry)
    return kept


def merge_lineage(pieces: Iterable[Sequence[Determinant]], start: int) -> list[Determinant]:
    """Merge copies of one history, each sorted by position, into one lineage from `start` on.

    Copies of the same history agree wherever they overlap; what is already covered is cut off.
    """
    events: list[Determinant] = []
    attachments: dict[tuple[int, int, int], Attachment] = {}
    for piece in pieces:
        for entry in lineage_from(piece, start):
            if isinstance(entry, Attachment):
                attachments[entry.position, entry.index, entry.k] = entry
            else:
                events.append(entry)
    # At equal positions the longer run first, so that the shorter copy is covered by it.
    events.sort(key=lambda entry: (entry.position, -end_of(entry)))
    merged: list[Determinant] = []
    covered = start
    for entry in events:
        if end_of(entry) <= covered:
            continue
        if entry.position < covered:
            entry = _tail_of(entry, covered)
        merged.append(entry)
        covered = end_of(entry)
    merged.extend(attachments.values())
    merged.sort(key=_order)
    return merged


def contiguous_end(
    entries: Iterable[Determinant], start: int, free: Sequence[tuple[int, int]] = ()
) -> int:
    """Return the end of the events known without a gap from `start` on.

    Args:
        entries: in order.
        start: a position.
        free: ranges `[first, end)` of positions that need no determinant, ascending.
    """
    end = _past_free(start, free)
    for entry in entries:
        if isinstance(entry, Attachment):
            continue
        if entry.position > end:
            break
        end = _past_free(max(end, end_of(entry)), free)
    return end


def covers(entries: Sequence[Determinant], start: int, end: int) -> bool:
    """Whether lineage says of each position of `[start, end)` what the event was."""
    if len(entries) == 1:  # a run, mostly
        return entries[0].position == start and end_of(entries[0]) == end
    return contiguous_end(entries, start) == end


def _past_free(position: int, free: Sequence[tuple[int, int]]) -> int:
    for first, end in free:
        if first <= position < end:
            position = end
    return position


def _order(entry: Determinant) -> tuple[int, int, int, int]:
    # Attachments stand before the determinant of their own event: they are looked up by position.
    if isinstance(entry, Attachment):
        return (entry.position, 0, entry.index, entry.k)
    return (entry.position, 1, 0, 0)
