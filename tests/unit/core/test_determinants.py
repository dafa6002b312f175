"""Cutting and joining lineage. Source: protocol, sections 3 and 6."""

from __future__ import annotations

import pytest

from kstash.core.determinants import (
    UNKNOWN_OFFSET,
    Attachment,
    Completed,
    Consumed,
    Determinant,
    Flush,
    Idle,
    InputPlace,
    MergedBatch,
    MergedInput,
    Tick,
    contiguous_end,
    covers,
    end_of,
    lineage_from,
    lineage_until,
    merge_lineage,
)
from kstash.errors import LineageGapError
from tests.unit.core_cases import CLOCK_READ, inc

RUNS: list[Determinant] = [
    Consumed(0, 0, 4, 40),
    Consumed(4, 1, 2, 20),
    Tick(6, 99),
    Consumed(7, 0, 3, 43),
]


def note(position: int, k: int = 0) -> Attachment:
    """An attachment."""
    return Attachment(position, 0, k, CLOCK_READ, b"x")


def test_ends() -> None:
    """A run covers its count, a tick one position, an attachment none."""
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
    assert merge_lineage(copies, 0) == RUNS


def test_join_starts_at_the_base() -> None:
    """What a checkpoint covers is not replayed."""
    assert merge_lineage([RUNS], 5) == [Consumed(5, 1, 1, 20), *RUNS[2:]]


def test_join_keeps_one_copy_of_an_attachment() -> None:
    """Attachments are told apart by (position, record, k), and stand before their event."""
    copies = [[note(7), note(7, 1), RUNS[3]], [note(7), RUNS[3]]]
    assert merge_lineage(copies, 7) == [note(7), note(7, 1), RUNS[3]]


def test_join_of_nothing() -> None:
    """No copies, no lineage."""
    assert merge_lineage([], 0) == []


def test_contiguous_end() -> None:
    """I3: what follows a gap is not known history."""
    assert contiguous_end(RUNS, 0) == 10
    assert contiguous_end([RUNS[0], RUNS[2]], 0) == 4
    assert contiguous_end(RUNS, 2) == 10
    assert contiguous_end([note(3)], 3) == 3
    assert contiguous_end(RUNS[1:], 0) == 0


PLACE = InputPlace(30, 1, 500)
MERGED = MergedBatch(10, (MergedInput(0, 2, PLACE), MergedInput(1, 3, PLACE)))


def test_each_kind_of_event_covers_positions() -> None:
    """A merged batch covers its records, all others one position."""
    ones: list[Determinant] = [Tick(5, 1), Flush(5, 1), Idle(5, 1, 1), Completed(5, b"c", inc(1))]
    assert [end_of(entry) for entry in (MERGED, *ones)] == [15, 6, 6, 6, 6]


def test_a_merged_batch_is_not_cut() -> None:
    """Nothing begins or ends within it; beside it everything may."""
    assert lineage_from([MERGED], 10) == lineage_until([MERGED], 15) == [MERGED]
    assert lineage_from([MERGED], 15) == lineage_until([MERGED], 10) == []
    for cut in (lineage_from, lineage_until):
        with pytest.raises(LineageGapError, match=r"within what is one: \[10, 15\)"):
            cut([MERGED], 12)


def test_copies_of_a_merged_batch_are_one() -> None:
    """With the attachments of its events after it; what differs is no copy."""
    copies: list[list[Determinant]] = [[MERGED, note(12)], [MERGED, note(12), note(14)]]
    assert merge_lineage(copies, 10) == [MERGED, note(12), note(14)]
    with pytest.raises(LineageGapError):
        merge_lineage([(Consumed(8, 0, 4, 9),), (MERGED,)], 8)


def test_free_positions_are_known() -> None:
    """What needs no determinant is no gap, before, between and after those that are there."""
    runs: list[Determinant] = [Tick(3, 1), Consumed(4, 0, 2, 9), Tick(8, 1)]
    assert contiguous_end(runs, 0) == 0
    assert contiguous_end(runs, 0, [(0, 3)]) == 6
    assert contiguous_end(runs, 0, [(0, 3), (6, 7), (7, 8)]) == 9
    assert contiguous_end(runs, 0, [(0, 3), (6, 20)]) == 20
    assert contiguous_end([], 5, [(0, 3), (3, 9)]) == 9


def test_covers() -> None:
    """Each position has an entry, from the first to the last."""
    assert covers([Tick(3, 1)], 3, 4)
    assert covers([Tick(3, 1), Consumed(4, 0, 2, 9)], 3, 6)
    wrong: list[list[Determinant]] = [[Tick(3, 1)], [Tick(3, 1), Consumed(5, 0, 2, 9)], []]
    for entries in wrong:
        assert not covers(entries, 3, 7)
