"""Whether a program may go on from another one: a start and each group come to the same answer.

Source: protocol, section 9 (H15). The start asks before it claims any group (`continuity`), the
group when it would write its START (`Takeover`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from kstash import App
from kstash.core.ids import TaskId
from kstash.core.lineage import LineageView
from kstash.core.manifest import PROGRAM_SETTING, Manifest, renumbered
from kstash.core.plan import TaskPlan
from kstash.core.records import Release, Start, TaskStart
from kstash.core.starting import Takeover
from kstash.errors import ProgramChangedError
from kstash.startup import continuity
from kstash.topology.model import program_of
from tests.unit.core_cases import checkpoint, inc
from tests.unit.startup.test_upgrade import apart, joined, more_words, words

POSITION = 5
"""Of all tasks, when they were given up."""

MAKERS: dict[str, Callable[..., App]] = {
    "words": words,
    "more words": more_words,
    "apart": apart,
    "joined": joined,
}


class Case(NamedTuple):
    """An upgrade, and what must be said of it."""

    before: str
    now: str
    is_drained: bool
    drop_stores: tuple[str, ...] = ()
    is_refused: bool = False


CASES = {
    "the same": Case("words", "words", is_drained=False),
    "the same, drained": Case("words", "words", is_drained=True),
    "more": Case("words", "more words", is_drained=False, is_refused=True),
    "more, drained": Case("words", "more words", is_drained=True),
    "a store less, drained": Case("more words", "words", is_drained=True, is_refused=True),
    "a store less, given up": Case("more words", "words", True, ("clicks", "longest")),
    "a store less, given up only": Case("more words", "words", False, ("clicks", "longest"), True),
    "a store less, another given up": Case("more words", "words", True, ("clicks",), True),
    "an input moves": Case("apart", "joined", is_drained=True, is_refused=True),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_h15_the_start_and_the_group_give_the_same_answer(case: Case) -> None:
    """H15: what the one accepts the other would not refuse: also by the error, word for word."""
    app = MAKERS[case.now](drop_stores=case.drop_stores)
    before = program_of(MAKERS[case.before]().topology())
    start = Start(
        inc(1),
        None,
        {stage.number: TaskStart(0, 0, {}) for stage in before.stages},
        said(case.before, before),
    )
    view = LineageView(starts={start.incarnation: start})
    if case.is_drained:
        positions = {stage.number: POSITION for stage in before.stages}
        view.releases[start.incarnation] = (9, Release(start.incarnation, positions, run=1))
    now = renumbered(before, program_of(app.topology()))

    def by_start() -> object:
        return continuity._continued(
            app.topology(),
            app.config,
            said(case.now, program_of(app.topology())),
            views=[view],
            starts=[start],
            filled={},
        )

    def by_group() -> object:
        takeover = Takeover(view, [start], said(case.now, now))
        plans = {TaskId(s.number, 0): plan(TaskId(s.number, 0), before) for s in now.stages}
        return takeover.check_program(plans, app.config.drop_stores)

    refused = answer(by_start)
    assert (refused is not None) == case.is_refused
    assert answer(by_group) == refused


def said(name: str, program: Manifest) -> dict[str, str]:
    """What a START of a program says."""
    return {"topology": name, PROGRAM_SETTING: program.encode()}


def plan(task: TaskId, before: Manifest) -> TaskPlan:
    """A task with its checkpoint at `POSITION`, and nothing after it; a new one has none."""
    is_new = before.stage(task.stage) is None
    position = 0 if is_new else POSITION
    return TaskPlan(
        task=task,
        base=None if is_new else checkpoint(1, POSITION, task=task),
        position=position,
        adopted=position,
        stable=position,
        lineage=(),
        owners=(),
        sequences={},
        last_valid={},
        committed=0,
        input_offsets={},
        readers={},
        scan_from={},
    )


def answer(ask: Callable[[], object]) -> tuple[Any, ...] | None:
    """What a refusal says; None where there is none."""
    try:
        ask()
    except ProgramChangedError as error:
        return str(error), error.changes, error.refused
    return None
