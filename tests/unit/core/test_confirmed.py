"""What is confirmed and not only stable. Source: protocol, section 4."""

from __future__ import annotations

import pytest

from kstash.core.confirmed import Confirmed
from kstash.core.determinants import Tick
from kstash.core.ids import TaskId
from kstash.core.records import Claim, Gone, Hint, Seal, Segment
from tests.unit.core_cases import TASK, inc

OTHER_TASK = TaskId(2, TASK.partition)


def confirmed() -> Confirmed:
    """Of the incarnation that claimed at 5; the lineage of one task reached to 4 then."""
    return Confirmed(inc(5), {TASK: 4, OTHER_TASK: 0})


def segment(offset: int, start: int, end: int, task: TaskId = TASK) -> Segment:
    """Lineage of an incarnation."""
    ticks = tuple(Tick(position, 1) for position in range(start, end))
    return Segment(inc(offset), task, 1, start, end, ticks)


def test_what_is_read_back_is_confirmed() -> None:
    """Of this incarnation, by task; what nobody says is acknowledged is not counted."""
    own = confirmed()
    own.fold(9, segment(5, 4, 7))
    own.fold(10, segment(5, 0, 2, OTHER_TASK))
    assert (own.through(TASK, 99), own.through(OTHER_TASK, 99)) == (7, 2)
    assert own.through(TASK, 6) == 6
    own.fold(11, segment(3, 7, 9))
    assert own.through(TASK, 99) == 7, "a predecessor's is true, and nobody asks for it"


def test_after_a_higher_claim_nothing_is() -> None:
    """Its successor has read up to there: what comes later, it does not count."""
    own = confirmed()
    own.fold(9, segment(5, 4, 7))
    own.fold(10, Claim(b"n", "w"))
    assert own.is_over
    own.fold(11, segment(5, 7, 9))
    assert own.through(TASK, 99) == 7


def test_own_segments_count_by_what_their_writer_knows() -> None:
    """As whole ones do: in order, and never after a higher CLAIM."""
    own = confirmed()
    own.fold_own(9, TASK, 7)
    own.fold_own(10, OTHER_TASK, 2)
    assert (own.through(TASK, 99), own.through(OTHER_TASK, 99), own.own_offset) == (7, 2, 10)
    own.fold(11, Claim(b"n", "w"))
    own.fold_own(12, TASK, 9)
    assert (own.through(TASK, 99), own.own_offset) == (7, 10)


def test_what_is_read_back_comes_in_order() -> None:
    """Whole or by what its writer knows: an offset that goes back is a fault of the reader."""
    own = confirmed()
    own.fold(9, segment(5, 4, 7))
    with pytest.raises(AssertionError, match="out of order"):
        own.fold(9, segment(5, 4, 7))
    with pytest.raises(AssertionError, match="out of order"):
        own.fold_own(8, TASK, 9)


def test_the_own_claim_is_not_higher() -> None:
    """Who reads from before its SEAL meets older CLAIMs, and its own."""
    own = confirmed()
    for offset in (3, 5):
        own.fold(offset, Claim(b"%d" % offset, "w"))
    assert not own.is_over


def test_a_topic_that_was_made_anew_confirms_nothing() -> None:
    """Incarnations are compared as (generation, offset)."""
    own = confirmed()
    own.fold(6, Seal(inc(4, own.incarnation.generation + 1)))
    assert own.is_over
    old = confirmed()
    old.fold(6, Seal(inc(9, old.incarnation.generation - 1)))
    assert not old.is_over
    assert old.own_offset == -1


def test_any_own_record_confirms_what_was_read_before() -> None:
    """A task that logs nothing waits for one; so a group that is silent appends a HINT."""
    own = confirmed()
    own.fold(8, Gone(b"key"))
    own.fold(9, Hint(inc(4), TASK, 1, {}, 0))
    assert own.own_offset == -1
    own.fold(10, Hint(inc(5), TASK, 1, {}, 0))
    assert own.own_offset == 10


def test_confirmed_never_goes_back() -> None:
    """One ordered producer writes the segments; a repeated one says nothing new."""
    own = confirmed()
    own.fold(9, segment(5, 2, 6))
    own.fold(10, segment(5, 2, 4))
    assert own.through(TASK, 99) == 6
