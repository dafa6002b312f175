"""Event time that no record brings: whom of a stage it reaches, and what has come of it there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import cast

from kstash.operators.scope import Turn
from kstash.operators.step import Scope, TimeStep, WorkLeft
from kstash.topology.model import Stage


class Passing:
    """The operators of a stage that go by event time, in the order of the flow.

    Args:
        stage: of the task; without watermark mode nothing passes.
        turns: of the stage, by input.
    """

    def __init__(self, stage: Stage, turns: Sequence[Sequence[Turn]]) -> None:
        held = stage.held_ms
        found = {
            turn.node.index: (number, turn)
            for number, reached in enumerate(turns)
            for turn in reached
            if held and any(store.is_time for store in turn.node.stores)
        }
        # By operator: an input whose records reach it, its turn, and what is held back before it.
        self._timed = [
            (number, turn, max(held[parent] for parent in turn.parents))
            for _, (number, turn) in sorted(found.items())
        ]
        self._exits = {
            index: held.get(node.index, 0)
            for index, (node, output) in enumerate(zip(stage.exits, stage.outputs, strict=True))
            if output.internal
        }

    def steps(self, time_ms: int) -> Iterator[tuple[int, int, WorkLeft]]:
        """What is to be done at a time of the task: an input, an operator's index, and its work."""
        for number, turn, held_ms in self._timed:
            step = cast("TimeStep", turn.step)
            yield number, turn.node.index, partial(_pass, step, time_ms - held_ms)

    def exit_times(self, time_ms: int) -> dict[int, int]:
        """By index of an internal output, how far time has come there."""
        return {index: time_ms - held_ms for index, held_ms in self._exits.items()}


def _pass(step: TimeStep, time_ms: int, scope: Scope) -> None:
    step.pass_time(time_ms, scope)
