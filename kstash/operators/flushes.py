"""Who of a stage is flushed: what neither records nor times of the clock decide.

A flush is for one operator and one of its reasons, which are numbered in the stage: by the order of
the operators, and then as the operator has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from kstash.operators.scope import Turn
from kstash.operators.step import FlushStep, Scope, Stores, WorkLeft
from kstash.topology.traits import FlushReason


@dataclass(frozen=True, slots=True)
class Flushed:
    """A reason for which an operator is flushed.

    Attributes:
        why: the reason.
        after_ms: how long nothing came, or how much time has passed, as the reason says.
        turn: the operator's.
        input: an input whose records reach it.
        step: its logic.
    """

    why: FlushReason
    after_ms: int
    turn: Turn
    input: int
    step: FlushStep


class Flushes:
    """What is flushed of a stage.

    Args:
        turns: of the stage, by input.
        stores: of the task.

    Attributes:
        all: by number.
    """

    def __init__(self, turns: Sequence[Sequence[Turn]], stores: Stores) -> None:
        self._stores = stores
        reached = {
            turn.node.index: (number, turn) for number, found in enumerate(turns) for turn in found
        }
        self.all = [
            Flushed(why, after_ms, turn, number, cast("FlushStep", turn.step))
            for _, (number, turn) in sorted(reached.items())
            for why, after_ms in turn.node.flushed
        ]

    def wants(self, number: int) -> bool:
        """Whether a flush would do anything."""
        flushed = self.all[number]
        return flushed.step.wants_flush(flushed.why, self._stores)

    def take(self, number: int) -> tuple[Turn, int, WorkLeft]:
        """One comes: whose it is, an input whose records reach it, and what it does."""
        flushed = self.all[number]
        return flushed.turn, flushed.input, partial(_flush, flushed.step, flushed.why)


def _flush(step: FlushStep, why: FlushReason, scope: Scope) -> None:
    step.flush(why, scope)
