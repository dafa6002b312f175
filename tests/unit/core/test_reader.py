"""Each clause of the reader rule. Source: protocol, section 7; invariants I2, I4, I5."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kstash.core.ids import NO_INCARNATION, TaskId
from kstash.core.reader import ReaderState
from kstash.core.wire import End, Fence, Identity
from kstash.errors import SequenceGapError
from tests.unit.core_cases import APP, GENERATION, TASK, fenced, identity, inc

WRITER = APP, TASK
GROUP = APP, TASK.partition
NEIGHBOUR = TaskId(2, TASK.partition)
OTHER_TASK = TaskId(TASK.stage, TASK.partition + 1)


def accept(table: ReaderState, record: Identity) -> int:
    """Give a reader a record of an incarnation; its FENCE lies before its first one."""
    table.mark(Fence(record.application, ((record.task.partition, record.incarnation),)))
    return table.accept(record)


def taken(table: ReaderState, offset: int, first_seq: int, count: int = 1) -> bool:
    """Whether the reader takes a record of the incarnation with the CLAIM at `offset` whole."""
    return accept(table, identity(inc(offset), first_seq, count)) == 0


def fence(*groups: tuple[int, int]) -> Fence:
    """A FENCE of (group, CLAIM offset) pairs."""
    return Fence(APP, tuple((group, inc(offset)) for group, offset in groups))


def test_outputs_are_taken_in_their_order() -> None:
    """I4: dense sequences pass, one by one and as frames."""
    table = fenced()
    assert taken(table, 5, 1)
    assert taken(table, 5, 2, 3)
    assert taken(table, 5, 5)
    assert table.last_seq == {WRITER: 5}


def test_h46_a_frame_before_any_fence_is_void() -> None:
    """H46: in a topic that a reset made anew a zombie writes on; its FENCE lies in the old one.

    Neither its first sequence nor a later one counts, nor its END; what is after the FENCE of the
    first incarnation that claimed there does. Sinks hold no FENCE, and guarantees without recovery
    write none.
    """
    table = ReaderState()
    for first in (1, 101):
        assert table.accept(identity(inc(5, GENERATION - 1), first, 2)) == 2
    table.mark(End(APP, 1, TASK, inc(5, GENERATION - 1), 0, 0))
    assert (table.last_seq, table.max_incarnation, table.ends) == ({}, {}, {})
    table.mark(fence((TASK.partition, 2)))
    assert taken(table, 2, 1)
    assert not taken(table, 1, 2)
    assert ReaderState(is_internal=False).accept(identity(inc(5), 7)) == 0
    assert unfenced().accept(identity(NO_INCARNATION, 7)) == 0


def test_h45_a_fence_of_another_incarnation_is_not_enough() -> None:
    """H45: one that was on its way at a reset lands in the new topic, then a zombie's frames."""
    table = fenced()
    for first in (1, 2):
        assert table.accept(identity(inc(5), first)) == 1
    table.mark(end(5, 0))
    assert (table.last_seq, table.ends) == ({}, {})
    table.mark(fence((TASK.partition, 5)))
    assert table.accept(identity(inc(5), 1)) == 0


def test_drop_if_inc_is_below_max_inc() -> None:
    """H1, I5: what a zombie writes after its successor's first record is dropped."""
    table = fenced()
    assert taken(table, 5, 1)
    assert taken(table, 9, 2)
    assert table.accept(identity(inc(5), 3, 4)) == 4
    assert table.last_seq == {WRITER: 2}


def test_a_fence_drops_what_comes_behind_it() -> None:
    """H1: the FENCE stands for the successor before that one has written anything."""
    table = fenced()
    assert taken(table, 5, 1)
    table.mark(fence((TASK.partition, 9)))
    assert not taken(table, 5, 2)
    assert taken(table, 9, 2)


def test_a_fence_of_an_older_incarnation_lowers_nothing() -> None:
    """A zombie's FENCE that arrives late is void."""
    table = fenced()
    assert taken(table, 9, 1)
    table.mark(fence((TASK.partition, 5)))
    assert table.max_incarnation == {GROUP: inc(9)}
    assert not taken(table, 5, 2)


def test_h35_a_fence_of_an_unknown_task_is_kept() -> None:
    """H35: a FENCE seen before anything of its group counts for all tasks of the group."""
    table = fenced()
    table.mark(fence((TASK.partition, 9), (OTHER_TASK.partition, 8)))
    assert table.accept(identity(inc(5), 1)) == 1
    assert table.accept(identity(inc(5), 1, task=NEIGHBOUR)) == 1
    assert table.accept(identity(inc(7), 1, task=OTHER_TASK)) == 1
    restored = ReaderState.from_json(table.to_json())
    assert restored.accept(identity(inc(5), 1)) == 1


def test_groups_and_applications_are_apart() -> None:
    """A claim of one group says nothing of another, nor of another application's group."""
    table = fenced(TASK.partition, OTHER_TASK.partition)
    table.mark(Fence(APP + 1, ((TASK.partition, inc(0)),)))
    table.mark(fence((TASK.partition, 9)))
    assert accept(table, identity(inc(5), 1, task=OTHER_TASK)) == 0
    assert accept(table, identity(inc(5), 1, application=APP + 1)) == 0


def test_tasks_of_a_group_share_its_incarnation() -> None:
    """`max_inc` is per group: a record of one stage fences the other stages' zombies too."""
    table = fenced()
    assert accept(table, identity(inc(9), 1, task=NEIGHBOUR)) == 0
    assert not taken(table, 5, 1)


def test_sequence_goes_on_over_incarnations() -> None:
    """The sequence is kept across incarnations: the successor's repeats are dropped."""
    table = fenced()
    assert taken(table, 5, 1, 3)
    assert not taken(table, 9, 1)
    assert not taken(table, 9, 2, 2)
    assert taken(table, 9, 4)


def test_overlap_of_a_frame_is_cut_off() -> None:
    """Frames of a replay have other boundaries: the head that is known is skipped."""
    table = fenced()
    assert taken(table, 5, 1, 3)
    assert accept(table, identity(inc(9), 2, 4)) == 2
    assert table.last_seq == {WRITER: 5}


def test_a_dropped_frame_still_raises_max_inc() -> None:
    """A record whose sequences are all known fences its predecessor like any other."""
    table = fenced()
    assert taken(table, 5, 1, 3)
    assert not taken(table, 9, 1, 3)
    assert not taken(table, 5, 4)


def test_a_jump_is_corruption() -> None:
    """H12: a sequence that jumps means that records are missing; it names both numbers."""
    table = fenced()
    assert taken(table, 5, 1)
    with pytest.raises(SequenceGapError, match=r"sequence 3.*was 1"):
        accept(table, identity(inc(5), 3))


def test_an_internal_topic_begins_with_1() -> None:
    """On an internal topic, read from its beginning, the first sequence must be 1."""
    with pytest.raises(SequenceGapError):
        accept(fenced(), identity(inc(5), 2))


def test_a_sink_may_be_joined_in_the_middle() -> None:
    """Elsewhere the first record that passes sets the sequence: readers join late."""
    table = ReaderState(is_internal=False)
    assert taken(table, 5, 17, 2)
    assert not taken(table, 5, 18)
    assert taken(table, 5, 19)
    with pytest.raises(SequenceGapError):
        taken(table, 5, 21)


def test_h26_a_new_generation_starts_over() -> None:
    """H26: after the lineage topic was made anew its offsets restart at 0, and so do sequences."""
    table = fenced()
    assert taken(table, 500, 1, 9)
    newer = inc(2, GENERATION + 1)
    assert accept(table, identity(newer, 1)) == 0
    assert table.last_seq == {WRITER: 1}
    assert not taken(table, 600, 10)


def test_h26_a_fence_of_a_new_generation_starts_over() -> None:
    """H26: the same when the FENCE comes first; other groups and applications are left alone."""
    table = fenced(TASK.partition, OTHER_TASK.partition)
    table.mark(Fence(APP + 1, ((TASK.partition, inc(0)),)))
    assert taken(table, 500, 1, 9)
    assert accept(table, identity(inc(5), 1, task=OTHER_TASK)) == 0
    assert accept(table, identity(inc(5), 1, application=APP + 1)) == 0
    table.mark(Fence(APP, ((TASK.partition, inc(2, GENERATION + 1)),)))
    assert table.last_seq == {WRITER: 0, (APP, OTHER_TASK): 1, (APP + 1, TASK): 1}
    assert accept(table, identity(inc(2, GENERATION + 1), 1)) == 0


def unfenced() -> ReaderState:
    """A reader of an internal topic under a guarantee without fences."""
    return ReaderState(is_fenced=False)


@pytest.mark.parametrize("make", [unfenced, lambda: ReaderState(is_internal=False)])
def test_h57_without_fences_nothing_is_dropped(make: Callable[[], ReaderState]) -> None:
    """H57: repeats and jumps pass, also after a real incarnation; the next number is free then."""
    table = make()
    table.mark(fence((TASK.partition, 5)))
    assert taken(table, 5, 1)
    for first in (2, 3, 2, 7):
        assert table.accept(identity(NO_INCARNATION, first)) == 0
    assert accept(table, identity(inc(4), 2)) == 1
    restored = ReaderState.from_json(table.to_json())
    assert accept(restored, identity(inc(6), 5)) == 0
    assert accept(restored, identity(inc(6), 5)) == 1
    with pytest.raises(SequenceGapError):
        accept(restored, identity(inc(6), 7))


def test_h57_a_fenced_reader_takes_nothing_without_fences() -> None:
    """H57: it is late, whether a real incarnation was seen or not, and says nothing of ENDs."""
    table = fenced()
    marker = End(APP, 8, TASK, NO_INCARNATION, 1, 1000)
    assert table.accept(identity(NO_INCARNATION, 1, 3)) == 3
    assert taken(table, 5, 1)
    assert table.accept(identity(NO_INCARNATION, 2)) == 1
    table.mark(marker)
    assert table.ends == {}
    assert table.copy().accept(identity(NO_INCARNATION, 2)) == 1


def test_h57_an_end_without_fences_counts() -> None:
    """H57: it stands after all that its producer wrote, whatever others wrote in between."""
    table = unfenced()
    table.mark(Fence(APP, ((TASK.partition, inc(9)),)))
    assert table.copy().accept(identity(NO_INCARNATION, 7)) == 0
    table.mark(End(APP, 8, TASK, NO_INCARNATION, 1, 1000))
    assert table.ends == {WRITER: 8}


def test_h57_an_end_after_a_time_without_fences_counts() -> None:
    """H57: a writer that has nothing more for this partition ends with a number that is unknown.

    From its END on the number is known.
    """
    table = unfenced()
    assert table.accept(identity(NO_INCARNATION, 4)) == 0
    restored = ReaderState.from_json(table.to_json())
    restored.mark(Fence(APP, ((TASK.partition, inc(9)),)))
    restored.mark(end(8, 6))
    assert restored.ends == {}
    restored.mark(end(9, 6))
    assert restored.ends == {WRITER: 8}
    assert restored.accept(identity(inc(9), 6)) == 1
    with pytest.raises(SequenceGapError):
        restored.accept(identity(inc(9), 8))


def end(offset: int, last_seq: int, run: int = 8) -> End:
    """An END of the run."""
    return End(APP, run, TASK, inc(offset), last_seq, 1000)


def test_end_counts_behind_all_outputs() -> None:
    """Section 8: END counts when its last sequence is the reader's, 0 where nothing was written."""
    table = fenced()
    table.mark(fence((TASK.partition, 5)))
    table.mark(end(5, 0, run=7))
    assert table.ends == {WRITER: 7}
    assert taken(table, 5, 1, 4)
    table.mark(end(5, 3))
    assert table.ends == {WRITER: 7}
    table.mark(end(5, 4))
    assert table.ends == {WRITER: 8}


def test_h39_end_of_a_fenced_incarnation_does_not_count() -> None:
    """H39: a zombie's END is void; its successor, at its ends too, says it again."""
    table = fenced()
    assert taken(table, 5, 1)
    table.mark(fence((TASK.partition, 9)))
    table.mark(end(5, 1))
    assert table.ends == {}
    table.mark(end(9, 1))
    assert table.ends == {WRITER: 8}


def test_h39_a_counted_end_is_saved() -> None:
    """H39: ENDs seen are part of the table, so a restored reader knows them."""
    table = fenced()
    table.mark(fence((TASK.partition, 5)))
    table.mark(end(5, 0))
    assert ReaderState.from_json(table.to_json()).ends == {WRITER: 8}


def test_a_copy_is_independent() -> None:
    """A checkpoint's table does not move with the live one."""
    table = ReaderState(is_internal=False)
    assert taken(table, 5, 1)
    saved = table.copy()
    assert taken(table, 9, 2)
    table.mark(end(9, 2))
    assert saved.last_seq == {WRITER: 1}
    assert saved.max_incarnation == {GROUP: inc(5)}
    assert saved.ends == {}
    assert not saved.is_internal
