"""Holes that only some millions of steps showed, as small cases."""

from __future__ import annotations

from kstash.core.ids import Incarnation, TaskId
from kstash.core.plan import TaskSpec
from kstash.core.tail_scan import TailScan
from kstash.core.wire import Identity

TASK = TaskId(0, 0)
OUT = (0, 1)
APPLICATION = 7


def record(offset: int, first_seq: int, count: int, position: int) -> Identity:
    """One frame of the task, by the incarnation that claimed at `offset`."""
    return Identity(APPLICATION, TASK, Incarnation(1000, offset), position, count, first_seq)


def test_a_scan_that_begins_midway_may_meet_a_jump() -> None:
    """Seed 127839: one successor repeats from 1, the next goes on from its checkpoint.

    A hint skips sequences 1 to 9. Incarnation 21 has no checkpoint to open and repeats 1 to 3;
    incarnation 25 opens one after sequence 5 and repeats 6. Readers drop all of that; a scan from
    the hint must not take it for corruption.
    """
    spec = TaskSpec(TASK, False, internal_outputs=(OUT,))
    scan = TailScan(spec, starts={OUT: (13, Incarnation(1000, 5))}, known=())
    assert scan.on_record(OUT, 17, record(21, 1, 1, 2), None)
    assert scan.on_record(OUT, 18, record(21, 2, 2, 7), None)
    assert scan.on_record(OUT, 21, record(25, 6, 1, 14), None)
    assert scan.last_valid(APPLICATION) == {OUT: 6}
    assert scan.position == 14


def test_a_jump_of_a_fenced_incarnation_is_dropped() -> None:
    """The fence comes first: an older incarnation's record changes nothing, jump or not."""
    spec = TaskSpec(TASK, False, internal_outputs=(OUT,))
    scan = TailScan(spec, starts={OUT: (0, Incarnation(1000, 5))}, known=())
    assert scan.on_record(OUT, 3, record(5, 1, 1, 2), None)
    assert not scan.on_record(OUT, 4, record(4, 9, 1, 30), None)
    assert scan.position == 2
