"""Entries that have outlived their time to live are removed, some at each record.

Nobody reads them any more (`Bound.live`): this gives their bytes back. There is one time for each
entry, from when it was first written; an entry that was written again since is looked at again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kstash.operators.process.call import MAX_MS
from kstash.operators.process.states import BoundState
from kstash.ports.state import Timers

SWEPT_MAX: Final = 32
"""Entries that are looked at after a call, besides as many as it made."""


class Expiry:
    """What goes when, during a batch.

    Args:
        timers: by encoded key of the entry and name of the state.
        states: those with a time to live, by name.
    """

    def __init__(self, timers: Timers, states: Mapping[str, BoundState]) -> None:
        self._timers = timers
        self._states = states
        self._next = next_due_ms(timers)

    def take(self, made: list[tuple[bytes, str, int]], now_ms: int) -> None:
        """A call made new entries; as many old ones may go, and some more.

        How many go depends on records alone, and on no end of a batch.
        """
        for key, name, at_ms in made:
            self._timers.set(key, name, at_ms)
            self._next = min(self._next, at_ms)
        if self._next <= now_ms:
            self._sweep(now_ms, SWEPT_MAX + len(made))
        made.clear()

    def _sweep(self, now_ms: int, limit: int) -> None:
        for _, key, name, _ in self._timers.due(now_ms, limit=limit):
            state = self._states.get(name)
            at_ms = None if state is None else state.expire(key, now_ms)
            if at_ms is None:
                self._timers.cancel(key, name)
            else:
                self._timers.set(key, name, at_ms)
        self._next = next_due_ms(self._timers)


def next_due_ms(timers: Timers) -> int:
    """When the first timer is due; `MAX_MS`: none is set."""
    at_ms = timers.next_due()
    return MAX_MS if at_ms is None else at_ms
