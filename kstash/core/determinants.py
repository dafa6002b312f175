"""Determinants: what event `position` of a task was, and lists of them as lineage.

Invariants of a lineage (a list of determinants in order):

- `Consumed` and `Fired` cover `span` positions from `position` on; they never overlap.
- An `Attachment` covers nothing; it stands behind the events before its own position.
- A task with one input partition is *implicit*: positions covered by nothing are records of that
  input, so only `Fired` and `Attachment` appear.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

UNKNOWN_OFFSET = -1
"""End offset of the head of a cut run: the offset at the cut was not logged."""

CLOCK_READ = 1
CALL_RESULT = 2
ERROR_DECISION = 3


@dataclass(frozen=True, slots=True)
class Consumed:
    """Events `[position, position + count)`: records of one input, ending before `end_offset`.

    The end is logged beside the count because offsets have gaps (transaction markers, compaction).
    """

    position: int
    input: int
    count: int
    end_offset: int


@dataclass(frozen=True, slots=True)
class Fired:
    """Event `position`: a timer fired at `now_ms`."""

    position: int
    timer: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class Attachment:
    """A clock read, call result or error decision made within event `position`.

    `index` is the record within a frame, `k` counts the attachments of that record.
    """

    position: int
    index: int
    k: int
    kind: int
    payload: bytes


Determinant = Consumed | Fired | Attachment


def end_of(determinant: Determinant) -> int:
    """Return the position behind what a determinant covers (its own for an attachment)."""
    if isinstance(determinant, Consumed):
        return determinant.position + determinant.count
    if isinstance(determinant, Fired):
        return determinant.position + 1
    return determinant.position


def lineage_from(entries: Sequence[Determinant], start: int) -> list[Determinant]:
    """Return the lineage from position `start` on; a run across `start` loses its head.

    An attachment belongs to the event at its position, so one at `start` is kept.
    """
    kept: list[Determinant] = []
    for entry in entries:
        if entry.position >= start:
            kept.append(entry)
        elif isinstance(entry, Consumed) and entry.position + entry.count > start:
            skipped = start - entry.position
            kept.append(Consumed(start, entry.input, entry.count - skipped, entry.end_offset))
    return kept


def lineage_until(entries: Sequence[Determinant], end: int) -> list[Determinant]:
    """Return the lineage of the events before position `end`; a run across `end` loses its tail.

    The head of a cut run has an unknown end offset, so its end cannot be verified on replay.
    """
    kept: list[Determinant] = []
    for entry in entries:
        if entry.position >= end:
            continue
        if isinstance(entry, Consumed) and entry.position + entry.count > end:
            kept.append(Consumed(entry.position, entry.input, end - entry.position, UNKNOWN_OFFSET))
        else:
            kept.append(entry)
    return kept


def join(pieces: Iterable[Sequence[Determinant]], start: int) -> list[Determinant]:
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
    joined: list[Determinant] = []
    covered = start
    for entry in events:
        if end_of(entry) <= covered:
            continue
        if entry.position < covered:
            entry = lineage_from([entry], covered)[0]
        joined.append(entry)
        covered = end_of(entry)
    joined.extend(attachments.values())
    joined.sort(key=_order)
    return joined


def contiguous_end(entries: Iterable[Determinant], start: int) -> int:
    """Return the end of the events covered without a gap from `start` on (explicit lineage)."""
    end = start
    for entry in entries:
        if isinstance(entry, Attachment):
            continue
        if entry.position > end:
            break
        end = max(end, end_of(entry))
    return end


def first_missing(known: Iterable[Determinant], logged: Iterable[Determinant], end: int) -> int:
    """Return the position of the first determinant that is not logged too, `end` at most.

    Of an implicit task: positions without a determinant need no lineage.
    """
    held = set(map(_identity, logged))
    for entry in known:
        if _identity(entry) not in held:
            return min(entry.position, end)
    return end


def _identity(entry: Determinant) -> tuple[int, ...]:
    if isinstance(entry, Attachment):
        return (entry.position, entry.index, entry.k)
    return (entry.position, end_of(entry))


def _order(entry: Determinant) -> tuple[int, int, int, int]:
    # Attachments stand before the determinant of their own event: they are looked up by position.
    if isinstance(entry, Attachment):
        return (entry.position, 0, entry.index, entry.k)
    return (entry.position, 1, 0, 0)
