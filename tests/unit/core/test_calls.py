"""Calls to the outside: when they start, whose answer counts, how long it is kept."""

from __future__ import annotations

import pytest

from kstash.core.calls import CallResults, is_given_up, may_start
from kstash.core.determinants import Completed
from kstash.core.ids import Incarnation, TaskId
from kstash.errors import LineageGapError

TASK = TaskId(1, 2)
OLD, NEW = Incarnation(1000, 3), Incarnation(1000, 20)


def test_a_call_starts_when_its_event_is_confirmed() -> None:
    """Confirmed through 5 are the events 0 to 4."""
    assert may_start(4, 5)
    assert not may_start(5, 5)


def test_the_answer_of_a_completed_call_is_that_of_the_incarnation_named() -> None:
    """Whoever has called again, and whatever came first."""
    results = CallResults()
    results.fold(TASK, b"a", NEW, b"new")
    results.fold(TASK, b"a", OLD, b"old")
    assert results.answer_of(TASK, Completed(7, b"a", OLD)) == b"old"
    assert results.answer_of(TASK, Completed(7, b"a", NEW)) == b"new"


@pytest.mark.parametrize(
    ("task", "call", "incarnation"),
    [(TASK, b"b", OLD), (TaskId(1, 3), b"a", OLD), (TASK, b"a", NEW)],
)
def test_an_answer_that_is_not_there_is_a_gap(
    task: TaskId, call: bytes, incarnation: Incarnation
) -> None:
    """Of another call, task or incarnation: none is taken instead."""
    results = CallResults()
    results.fold(TASK, b"a", OLD, b"old")
    text = f"task {task}: event 7 completes a call whose answer, of incarnation {incarnation}"
    with pytest.raises(LineageGapError, match=text):
        results.answer_of(task, Completed(7, call, incarnation))


def test_an_open_call_takes_the_answer_of_the_highest_incarnation() -> None:
    """In whatever order they were read, and also one that is read twice."""
    results = CallResults()
    assert results.newest(TASK, b"a") is None
    results.fold(TASK, b"a", NEW, b"new")
    results.fold(TASK, b"a", OLD, b"old")
    results.fold(TASK, b"a", OLD, b"old")
    assert results.newest(TASK, b"a") == (NEW, b"new")
    assert results.newest(TASK, b"b") is None


def test_what_was_given_up_does_not_count() -> None:
    """The others of the call do; one that was never read may be given up too."""
    results = CallResults()
    results.fold(TASK, b"a", OLD, b"old")
    results.fold(TASK, b"a", NEW, b"new")
    results.forget(TASK, b"a", NEW)
    results.forget(TASK, b"b", NEW)
    assert results.newest(TASK, b"a") == (OLD, b"old")
    results.forget(TASK, b"a", OLD)
    assert results.newest(TASK, b"a") is None


def test_one_key_has_one_answer() -> None:
    """Another one under the same key is a bug of who wrote it."""
    results = CallResults()
    results.fold(TASK, b"a", OLD, b"old")
    with pytest.raises(AssertionError, match="two answers"):
        results.fold(TASK, b"a", OLD, b"other")


@pytest.mark.parametrize(
    ("made_at", "taken", "oldest_open", "expected"),
    [
        (4, 5, None, True),
        (5, 5, None, False),  # made after the checkpoint
        (4, 5, 4, False),  # open there
        (3, 5, 4, True),
        (4, 5, 3, False),  # perhaps open there: only the oldest one is said
    ],
)
def test_an_answer_is_kept_while_a_recovery_may_need_it(
    made_at: int, taken: int, oldest_open: int | None, expected: bool
) -> None:
    """Below the checkpoint, and below the oldest call that is open in it."""
    assert is_given_up(made_at, taken, oldest_open) is expected
