"""Cutting and joining lineage. Source: protocol, sections 3 and 6."""

from __future__ import annotations

from kstash.core.determinants import (
    CLOCK_READ,
    UNKNOWN_OFFSET,
    Attachment,
    Consumed,
    Determinant,
    Fired,
    contiguous_end,
    end_of,
    join,
    lineage_from,
    lineage_until,
)

RUNS: list[Determinant] = [
    Consumed(0, 0, 4, 40),
    Consumed(4, 1, 2, 20),
    Fired(6, 1, 99),
    Consumed(7, 0, 3, 43),
]


def note(position: int, k: int = 0) -> Attachment:
    """An attachment."""
    return Attachment(position, 0, k, CLOCK_READ, b"x")


def test_ends() -> None:
    """A run covers its count, a timer one position, an attachment none."""
    assert [end_of(entry) for entry in (*RUNS, note(5))] == [4, 6, 7, 10, 5]


def test_lineage_from() -> None:
    """The head of a run across the start is cut off; an attachment at the start is kept."""
    assert lineage_from([*RUNS[:1], note(4), *RUNS[1:]], 4) == [note(4), *RUNS[1:]]
    assert lineage_from(RUNS, 5) == [Consumed(5, 1, 1, 20), *RUNS[2:]]
    assert lineage_from([note(3), *RUNS], 4) == RUNS[1:]
    assert lineage_from(RUNS, 10) == []


def test_lineage_until() -> None:
    """The tail of a run across the end is cut off, and then where it ends is not known."""
    assert lineage_until(RUNS, 8) == [*RUNS[:3], Consumed(7, 0, 1, UNKNOWN_OFFSET)]
    assert lineage_until([*RUNS, note(10)], 10) == RUNS
    assert lineage_until(RUNS, 0) == []


def test_join_of_overlapping_copies() -> None:
    """Copies that overlap and leave gaps to each other become one history."""
    copies = [RUNS[2:], [Consumed(2, 0, 2, 40), *RUNS[1:2]], RUNS[:1]]
    assert join(copies, 0) == RUNS


def test_join_starts_at_the_base() -> None:
    """What a checkpoint covers is not replayed."""
    assert join([RUNS], 5) == [Consumed(5, 1, 1, 20), *RUNS[2:]]


def test_join_keeps_one_copy_of_an_attachment() -> None:
    """Attachments are told apart by (position, record, k), and stand before their event."""
    copies = [[note(7), note(7, 1), RUNS[3]], [note(7), RUNS[3]]]
    assert join(copies, 7) == [note(7), note(7, 1), RUNS[3]]


def test_join_of_nothing() -> None:
    """No copies, no lineage."""
    assert join([], 0) == []


def test_contiguous_end() -> None:
    """I3: what follows a gap is not known history."""
    assert contiguous_end(RUNS, 0) == 10
    assert contiguous_end([RUNS[0], RUNS[2]], 0) == 4
    assert contiguous_end(RUNS, 2) == 10
    assert contiguous_end([note(3)], 3) == 3
    assert contiguous_end(RUNS[1:], 0) == 0
