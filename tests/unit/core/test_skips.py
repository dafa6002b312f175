"""What a history has taken of an input, where runs and merges say it (H50, H52)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kstash.core.determinants import (
    Attachment,
    Consumed,
    Determinant,
    InputPlace,
    MergedBatch,
    MergedInput,
    end_of,
)
from kstash.core.ids import TaskId
from kstash.core.plan import TaskPlan, TaskSpec
from kstash.core.skips import Asked, Gap, Skip, lowest_end, merged_end, questions
from kstash.errors import SkipTooLateError
from tests.unit.core_cases import TASK, start

MERGES = (
    MergedBatch(
        0, (MergedInput(0, 2, InputPlace(7, 0, 5)), MergedInput(1, 1, InputPlace(4, 0, 5)))
    ),
    Attachment(1, 0, 0, 1, b"x"),
    MergedBatch(3, (MergedInput(1, 2, InputPlace(5, 3, 6)),)),
)
"""Three of input 1, up to within the frame at offset 5; two of input 0, up to before offset 7."""


def plan_of(
    lineage: Sequence[Determinant], places: dict[int, InputPlace] | None = None
) -> TaskPlan:
    """A task that replays this."""
    return TaskPlan(
        task=TASK,
        base=None,
        position=0,
        adopted=max(map(end_of, lineage), default=0),
        stable=0,
        lineage=tuple(lineage),
        owners=(),
        sequences={},
        last_valid={},
        committed=0,
        input_offsets={0: 2, 1: 2},
        readers={},
        scan_from={},
        places=places or {},
    )


def asked(
    plan: TaskPlan, *, skips: Sequence[Skip] = (), gaps: Sequence[Gap] = ()
) -> tuple[Asked, ...]:
    """What is to be found out of places that a setting names."""
    stage = TASK.stage
    return questions(
        [(stage, *skip) for skip in skips],
        [(stage, *gap) for gap in gaps],  # type: ignore[misc]
        chain=[],
        start=start(1),
        specs=[TaskSpec(TaskId(stage, TASK.partition), implicit=False)],
        plans={TASK: plan},
    )


def test_a_merge_says_where_its_inputs_go_on() -> None:
    """The last entry that took of an input; a run says only how many events it was."""
    plan = plan_of(MERGES)
    assert merged_end(plan, 0) == InputPlace(7, 0, 5)
    assert merged_end(plan, 1) == InputPlace(5, 3, 6)
    assert merged_end(plan, 2) is None
    place = InputPlace(2, 1, 3)
    assert merged_end(plan_of([], {1: place}), 1) == place
    later = plan_of([*MERGES, Consumed(5, 1, 1, 9)])
    assert (merged_end(later, 0), merged_end(later, 1)) == (InputPlace(7, 0, 5), None)


def test_an_input_holds_at_least_what_was_taken() -> None:
    """A frame holds many records: they need no offsets of their own."""
    plan = plan_of(MERGES)
    assert [lowest_end(plan, index, 2, implicit=False) for index in (0, 1, 2)] == [7, 6, 2]
    runs = plan_of([Consumed(0, 0, 3, 9), Consumed(3, 1, 1, 4)])
    assert [lowest_end(runs, index, 2, implicit=False) for index in (0, 1)] == [5, 3]
    assert lowest_end(plan_of([Consumed(2, 0, 3, 9)]), 0, 2, implicit=True) == 7


@pytest.mark.parametrize(
    ("skip", "is_late"),
    [
        ((0, 6), True),
        ((0, 7), False),
        ((1, 4, 9), True),
        ((1, 5), True),
        ((1, 5, 2), True),
        ((1, 5, 3), False),
        ((1, 6), False),
    ],
)
def test_what_a_merge_has_taken_cannot_be_skipped(skip: Skip, is_late: bool) -> None:
    """By its place alone: no input is read for it."""
    plan = plan_of(MERGES)
    if is_late:
        with pytest.raises(SkipTooLateError):
            asked(plan, skips=[skip])
    else:
        assert asked(plan, skips=[skip]) == ()


def test_a_gap_cannot_begin_in_a_frame_that_was_read() -> None:
    """However large its last offset is."""
    plan = plan_of(MERGES)
    for gap, is_late in (((1, 5, 9), True), ((1, 6, 9), False), ((0, 6, 9), True)):
        if is_late:
            with pytest.raises(SkipTooLateError):
                asked(plan, gaps=[gap])  # type: ignore[list-item]
        else:
            assert asked(plan, gaps=[gap]) == ()  # type: ignore[list-item]


def test_of_runs_the_inputs_are_asked() -> None:
    """Dropped records lie between the events, which only the input shows."""
    plan = plan_of([Consumed(0, 0, 3, 9)])
    assert asked(plan, skips=[(0, 8)]) == (Asked(TASK.stage, 0, 2, 3, (8,)),)
