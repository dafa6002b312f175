"""The stash: what is appended, in flight, stable. Source: protocol, sections 2 and 4."""

from __future__ import annotations

import pytest

import kstash.core.stash as core_stash
from kstash.core.determinants import (
    Attachment,
    Consumed,
    Determinant,
    InputPlace,
    MergedBatch,
    MergedInput,
    Tick,
)
from kstash.core.lineage_codec import Lineage, decode_lineage
from kstash.core.stash import SEGMENT_ENTRIES_MAX, Stash
from kstash.errors import LineageGapError
from tests.unit.core_cases import CLOCK_READ


def explicit(stable: int = 0, end: int = 0, *entries: Determinant) -> Stash:
    """The stash of a task with several inputs."""
    return Stash(implicit=False, stable=stable, end=end, entries=entries)


def implicit(stable: int = 0, end: int = 0, *entries: Determinant) -> Stash:
    """The stash of a task with one input."""
    return Stash(implicit=True, stable=stable, end=end, entries=entries)


def chunk(stash: Stash, start: int, end: int) -> Lineage | None:
    """A chunk, decoded."""
    encoded = stash.chunk(start, end)
    return None if encoded is None else decode_lineage(encoded)


def test_appended_lineage_is_handed_out_once() -> None:
    """`take_segment` gives what is new since the last time, and None when there is nothing."""
    stash = explicit()
    stash.append([Consumed(0, 0, 3, 3)], 3)
    assert stash.take_segment() == (0, 3, (Consumed(0, 0, 3, 3),))
    assert stash.take_segment() is None
    stash.append([Consumed(3, 1, 1, 1)], 4)
    assert stash.take_segment() == (3, 4, (Consumed(3, 1, 1, 1),))
    assert (stash.stable, stash.flushed, stash.end) == (0, 4, 4)


def test_h4_flushed_is_not_stable() -> None:
    """H4: handing a segment out makes nothing stable; only its acknowledgement does."""
    stash = explicit()
    stash.append([Consumed(0, 0, 3, 3)], 3)
    stash.take_segment()
    assert stash.stable == 0
    assert chunk(stash, 0, 3) == Lineage(0, 3, (Consumed(0, 0, 3, 3),))
    stash.mark_stable(3)
    assert stash.stable == 3
    assert len(stash) == 0
    assert stash.chunk(3, 3) is None


def test_acknowledgements_repeat_and_never_go_back() -> None:
    """A late or repeated acknowledgement changes nothing."""
    stash = explicit()
    stash.append([Consumed(0, 0, 3, 3)], 3)
    stash.take_segment()
    stash.append([Consumed(3, 1, 2, 2)], 5)
    stash.take_segment()
    stash.mark_stable(5)
    stash.mark_stable(3)
    stash.mark_stable(5)
    assert stash.stable == 5


def test_what_was_never_flushed_cannot_be_acknowledged() -> None:
    """An acknowledgement beyond what was handed out is a programmer's error."""
    stash = explicit()
    stash.append([Consumed(0, 0, 3, 3)], 3)
    with pytest.raises(AssertionError):
        stash.mark_stable(3)


def test_a_chunk_begins_within_a_run() -> None:
    """A run across the start of a chunk loses its head and keeps its end offset."""
    stash = explicit()
    stash.append([Consumed(0, 0, 10, 40)], 10)
    assert chunk(stash, 4, 10) == Lineage(4, 10, (Consumed(4, 0, 6, 40),))


def test_a_chunk_ends_where_an_output_was_made() -> None:
    """What came after the output's batch is not in its chunk."""
    stash = explicit()
    stash.append([Consumed(0, 0, 2, 2)], 2)
    stash.append([Consumed(2, 1, 2, 2)], 4)
    assert chunk(stash, 0, 2) == Lineage(0, 2, (Consumed(0, 0, 2, 2),))


def test_h38_attachments_travel_with_their_event() -> None:
    """H38: an attachment at a chunk's start belongs to it; one at its end does not."""
    at_2, at_4 = (Attachment(p, 0, 0, CLOCK_READ, b"x") for p in (2, 4))
    stash = explicit()
    stash.append([Consumed(0, 0, 2, 2), at_2, Consumed(2, 0, 2, 4)], 4)
    stash.append([at_4, Consumed(4, 0, 1, 5)], 5)
    assert chunk(stash, 2, 4) == Lineage(2, 4, (at_2, Consumed(2, 0, 2, 4)))
    assert chunk(stash, 4, 5) == Lineage(4, 5, (at_4, Consumed(4, 0, 1, 5)))


def test_records_of_one_input_need_no_lineage() -> None:
    """Section 0, idea 6: a task with one input has nothing to log for records."""
    stash = implicit()
    stash.append([], 5)
    assert (stash.stable, stash.flushed, stash.end) == (5, 5, 5)
    assert stash.take_segment() is None
    assert stash.chunk(0, 5) is None


def test_who_logs_takes_over_from_who_did_not() -> None:
    """Up to the first determinant that was adopted all is stable; so it is between two of them."""
    stash = explicit(2, 9, Tick(4, 100), Consumed(6, 0, 3, 9))
    assert stash.stable == 4
    assert stash.take_segment() == (4, 9, (Tick(4, 100), Consumed(6, 0, 3, 9)))
    stash.append([Tick(9, 200)], 10)
    stash.mark_stable(5)
    assert stash.stable == 6
    stash.mark_stable(9)
    assert stash.take_segment() == (9, 10, (Tick(9, 200),))


def test_who_logs_nothing_takes_over_from_who_did() -> None:
    """What was adopted is logged again; after it nothing is."""
    stash = implicit(0, 9, Tick(4, 100))
    stash.append([], 12)
    assert (stash.stable, stash.end) == (4, 12)
    assert stash.take_segment() == (4, 12, (Tick(4, 100),))
    stash.mark_stable(12)
    assert (stash.stable, len(stash)) == (12, 0)


def test_what_is_appended_is_whole() -> None:
    """A task logs every event, or none."""
    wrong: list[tuple[Stash, list[Determinant]]] = [
        (explicit(), [Tick(1, 5)]),
        (explicit(), [Tick(0, 5), Consumed(2, 0, 1, 9)]),
        (explicit(), []),
        (implicit(), [Consumed(0, 0, 3, 3)]),
    ]
    for stash, entries in wrong:
        with pytest.raises(AssertionError):
            stash.append(entries, 3)


def test_a_merged_batch_stays_whole() -> None:
    """Attachments within it stand after it; no chunk and no segment begins between them."""
    place = InputPlace(8, 0, 50)
    batch = MergedBatch(0, (MergedInput(0, 2, place), MergedInput(1, 3, place)))
    notes = [Attachment(at, 0, 0, CLOCK_READ, b"x") for at in (1, 4)]
    stash = explicit()
    stash.append([batch, *notes], 5)
    stash.append([Tick(5, 9)], 6)
    assert chunk(stash, 0, 5) == Lineage(0, 5, (batch, *notes))
    assert chunk(stash, 5, 6) == Lineage(5, 6, (Tick(5, 9),))
    with pytest.raises(LineageGapError, match=r"position 3 lies within what is one: \[0, 5\)"):
        stash.chunk(3, 6)
    stash.mark_stable(0)
    assert stash.take_segment() == (0, 6, (batch, *notes, Tick(5, 9)))


def test_h38_a_segment_ends_after_the_notes_of_a_merged_batch() -> None:
    """H38: the bound gives way to the attachments of a batch that is one."""
    batch = MergedBatch(0, (MergedInput(0, SEGMENT_ENTRIES_MAX + 9, InputPlace(9, 0, 5)),))
    end = batch.count
    notes = [Attachment(at, 0, 0, CLOCK_READ, b"x") for at in range(end)]
    stash = explicit()
    stash.append([batch, *notes, Tick(end, 1), Tick(end + 1, 1)], end + 2)
    taken = stash.take_segment()
    assert taken is not None
    assert (taken[:2], taken[2][-1]) == ((0, end), notes[-1])


def test_h29_adopted_lineage_is_flushed_again() -> None:
    """H29: lineage that only headers held is in the first segments of the new incarnation."""
    stash = explicit(4, 10, Consumed(0, 0, 8, 8), Consumed(8, 1, 2, 2))
    assert stash.take_segment() == (4, 10, (Consumed(4, 0, 4, 8), Consumed(8, 1, 2, 2)))


def test_segments_are_bounded() -> None:
    """A long stash goes out as several segments without gap or overlap."""
    count = SEGMENT_ENTRIES_MAX * 2 + 10
    stash = explicit()
    stash.append([Consumed(i, i % 2, 1, i // 2 + 1) for i in range(count)], count)
    bounds = []
    while (taken := stash.take_segment()) is not None:
        assert len(taken[2]) <= SEGMENT_ENTRIES_MAX
        bounds.append(taken[:2])
    assert bounds == [
        (0, SEGMENT_ENTRIES_MAX),
        (SEGMENT_ENTRIES_MAX, 2 * SEGMENT_ENTRIES_MAX),
        (2 * SEGMENT_ENTRIES_MAX, count),
    ]


def test_h38_a_segment_never_ends_within_an_event() -> None:
    """H38: the cut of a long stash lies before an event's attachments, not after them."""
    stash = explicit()
    runs: list[Determinant] = [Consumed(i, 0, 1, i + 1) for i in range(SEGMENT_ENTRIES_MAX - 1)]
    at = SEGMENT_ENTRIES_MAX - 1
    notes = [Attachment(at, 0, k, CLOCK_READ, b"x") for k in range(3)]
    stash.append(
        [*runs, *notes, Consumed(at, 0, 1, at + 1), Consumed(at + 1, 0, 1, at + 2)], at + 2
    )
    first = stash.take_segment()
    assert first is not None
    start, end, entries = first
    assert (start, end) == (0, at + 1)
    assert entries[-4:] == (*notes, Consumed(at, 0, 1, at + 1))
    assert stash.take_segment() == (at + 1, at + 2, (Consumed(at + 1, 0, 1, at + 2),))


def test_h38_an_event_larger_than_a_segment_stays_whole() -> None:
    """H38: the bound gives way to an event with more attachments than it allows."""
    stash = explicit()
    notes = [Attachment(0, 0, k, CLOCK_READ, b"x") for k in range(SEGMENT_ENTRIES_MAX + 5)]
    stash.append([*notes, Consumed(0, 0, 1, 1), Consumed(1, 0, 1, 2)], 2)
    assert stash.take_segment() == (0, 1, (*notes, Consumed(0, 0, 1, 1)))
    assert stash.take_segment() == (1, 2, (Consumed(1, 0, 1, 2),))
    assert stash.take_segment() is None


def test_without_lineage_all_that_is_passed_over_is_stable() -> None:
    """`pass_over` moves the three ends together, so that the invariants hold there too."""
    stash = explicit(2, 2)
    stash.pass_over(5)
    assert (stash.stable, stash.flushed, stash.end) == (5, 5, 5)
    stash.append([Consumed(5, 0, 1, 1)], 6)
    with pytest.raises(AssertionError, match="cannot be passed over"):
        stash.pass_over(7)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("_flushed", 0, "stable <= flushed"),
        ("_flushed", 7, "stable <= flushed"),
        ("stable", 3, "stable is kept"),
        ("end", 4, "beyond the end"),
    ],
)
def test_a_broken_invariant_is_found_at_the_next_change(
    name: str, value: int, message: str
) -> None:
    """`stable <= flushed <= end`, and nothing is kept but the lineage between."""
    stash = explicit(1, 1)
    stash.append([Consumed(1, 0, 4, 4)], 5)
    setattr(stash, name, value)
    if name == "stable":
        stash._flushed = value
    with pytest.raises(AssertionError, match=message):
        stash._check()


def test_lineage_is_appended_once() -> None:
    """What lies before the end was appended already."""
    stash = explicit()
    stash.append([Consumed(0, 0, 3, 3)], 3)
    with pytest.raises(AssertionError, match="appended before"):
        stash.append([Consumed(2, 0, 2, 4)], 4)


def test_h38_each_merged_batch_keeps_its_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    """H38: also where one follows the notes of another (found by the simulator, seed 224)."""
    monkeypatch.setattr(core_stash, "SEGMENT_ENTRIES_MAX", 2)
    entries: list[Determinant] = []
    for at in (0, 2):
        part = MergedInput(0, 2, InputPlace(at + 2, 0, 5))
        note = Attachment(at + 1, 0, 0, CLOCK_READ, b"x")
        entries += [MergedBatch(at, (part,)), note]
    stash = explicit()
    stash.append([*entries, Tick(4, 1)], 5)
    assert stash.take_segment() == (0, 2, tuple(entries[:2]))
    assert stash.take_segment() == (2, 4, tuple(entries[2:]))
    assert stash.take_segment() == (4, 5, (Tick(4, 1),))
