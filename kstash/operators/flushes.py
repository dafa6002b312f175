"""Who of a stage is flushed: what neither records nor times of the clock decide.

A flush is for one operator and one of its reasons, which are numbered in the stage: by the order of
the operators, and then as the operator has them; what closes windows at the end of runs comes last.
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
        go_by_clock: whether any of them are, where no run ends.
    """

    def __init__(self, turns: Sequence[Sequence[Turn]], stores: Stores) -> None:
        self._stores = stores
        reached = {
            turn.node.index: (number, turn) for number, found in enumerate(turns) for turn in found
        }
        turns_of_nodes = sorted(reached.items())
        self.all = [
            Flushed(why, after_ms, turn, number, cast("FlushStep", turn.step))
            for _, (number, turn) in turns_of_nodes
            for why, after_ms in turn.node.flushed
        ]
        self.go_by_clock = bool(self.all)
        # After the others, whose numbers are in lineage that was written before there were these.
        self.all += [
            Flushed("end", 0, turn, number, cast("FlushStep", turn.step))
            for _, (number, turn) in turns_of_nodes
            if turn.node.closes_at_end
        ]

    def wants(self, number: int) -> bool:
        """Whether a flush would do anything."""
        flushed = self.all[number]
        return flushed.step.wants_flush(flushed.why, self._stores)

    def at_end(self, *, closes_windows: bool) -> list[int]:
        """The numbers of what is flushed at the end of a bounded run, in the order of its turns.

        What waits for its interval always is. Each operator's comes before those of the operators
        after it, to which it may send; and what waits before windows close, since it is of times
        before.

        Args:
            closes_windows: whether the run closes the windows that are open.
        """
        reasons: list[FlushReason] = ["interval", "end"] if closes_windows else ["interval"]
        found = [
            (flushed.turn.node.index, reasons.index(flushed.why), number)
            for number, flushed in enumerate(self.all)
            if flushed.why in reasons
        ]
        return [number for _, _, number in sorted(found)]

    def take(self, number: int) -> tuple[Turn, int, WorkLeft]:
        """One comes: whose it is, an input whose records reach it, and what it does."""
        flushed = self.all[number]
        return flushed.turn, flushed.input, partial(_flush, flushed.step, flushed.why)


def _flush(step: FlushStep, why: FlushReason, scope: Scope) -> None:
    step.flush(why, scope)
