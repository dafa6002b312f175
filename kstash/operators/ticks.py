"""Who of a stage goes by the wall clock, and whose turn it is at a tick.

A tick is for one operator: the one that is due first, by (time, place in the stage). It does what
is due by then, but not past the time at which another one is due; for the rest another tick comes
at once. So what the clock sets off has one order over all operators, and a tick makes no more than
one of them makes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from kstash.operators.scope import Turn
from kstash.operators.step import ClockStep, Scope, Stores, WorkLeft

_SEEN = b"seen"
_ENTRIES = (_SEEN,)


def seen_ms(stores: Stores, name: str) -> int:
    """The time of the clock that an operator has seen last, in a tick or when it asked; 0: none.

    Args:
        stores: of the task.
        name: of the operator's store of times.
    """
    ticked: int = stores.store(name).peek(_ENTRIES).get(_SEEN, 0)
    return ticked


def note_time(stores: Stores, name: str, now_ms: int) -> None:
    """An operator sees a time of the clock: it never sees an earlier one.

    Args:
        stores: of the task.
        name: of the operator's store of times.
        now_ms: Unix milliseconds.
    """
    live = stores.store(name).load(_ENTRIES)
    live[_SEEN] = max(now_ms, live.get(_SEEN, 0))


@dataclass(frozen=True, slots=True)
class _Ticked:
    """An operator that goes by the wall clock.

    Attributes:
        turn: its own.
        input: an input whose records reach it.
        step: its logic.
        name: of its store of times.
    """

    turn: Turn
    input: int
    step: ClockStep
    name: str


class Ticks:
    """The operators of a stage that go by the wall clock.

    Args:
        turns: of the stage, by input.
        stores: of the task.
    """

    def __init__(self, turns: Sequence[Sequence[Turn]], stores: Stores) -> None:
        self._stores = stores
        found: dict[int, _Ticked] = {}
        times: set[str] = set()
        for number, reached in enumerate(turns):
            for turn in reached:
                node = turn.node
                for store in node.stores if node.wants_ticks or node.asks else ():
                    if not store.is_time:
                        continue
                    times.add(store.name)
                    if node.wants_ticks:
                        step = cast(ClockStep, turn.step)
                        found[node.index] = _Ticked(turn, number, step, store.name)
        self._ticked = [found[index] for index in sorted(found)]
        self._times = sorted(times)

    @property
    def are_wanted(self) -> bool:
        """Whether any operator goes by the wall clock."""
        return bool(self._ticked)

    @property
    def see_clock(self) -> bool:
        """Whether any operator sees the clock, in ticks or when it asks."""
        return bool(self._times)

    def next_ms(self) -> int | None:
        """The wall time at which a tick is wanted, in Unix milliseconds; None: none is."""
        due = self._due()
        return due[0][0] if due else None

    def last_ms(self) -> int:
        """The greatest time that any operator has seen so far; 0 before the first."""
        return max((seen_ms(self._stores, name) for name in self._times), default=0)

    def take(self, now_ms: int) -> tuple[Turn, int, WorkLeft] | None:
        """A tick of this time comes.

        Returns:
            Whose it is, an input whose records reach it, and what it does; None: nobody's.
        """
        due = self._due()
        if not due or due[0][0] > now_ms:
            return None
        ticked = self._ticked[due[0][1]]
        until_ms = now_ms
        if len(due) > 1:
            other_ms, number = due[1]
            until_ms = min(now_ms, other_ms if number > due[0][1] else other_ms - 1)
        note_time(self._stores, ticked.name, now_ms)
        return ticked.turn, ticked.input, partial(_tick, ticked.step, until_ms, now_ms)

    def _due(self) -> list[tuple[int, int]]:
        """(When an operator wants a tick, its number here), in order."""
        times = [ticked.step.next_tick_ms(self._stores) for ticked in self._ticked]
        return sorted((at_ms, number) for number, at_ms in enumerate(times) if at_ms is not None)


def _tick(step: ClockStep, until_ms: int, now_ms: int, scope: Scope) -> None:
    step.tick(until_ms, now_ms, scope)
