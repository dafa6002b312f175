"""Work that operators have left of the event under way: who goes on with what, and in which order.

Invariants:

- the operator furthest downstream goes first, and the rest of the batch comes last: so an operator
  gets its records in the order in which they were sent, and none while it has work left;
- what an operator leaves while it does some of its work comes before what was left already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from kstash.operators.step import WorkLeft

REST = -1
"""Stands for the input instead of an operator: the rest of the batch."""


class Unfinished:
    """The work of one stage. It is true while there is some."""

    def __init__(self) -> None:
        # By index of the node: indexes are in topological order.
        self._left: dict[int, deque[WorkLeft]] = {}

    def __bool__(self) -> bool:
        return bool(self._left)

    def leave(self, index: int, work: Sequence[WorkLeft]) -> None:
        """Take work of the operator whose turn it was, one piece or more, to be done in order."""
        self._left.setdefault(index, deque()).extendleft(reversed(work))

    def take(self) -> tuple[int, WorkLeft]:
        """Index of the node whose work is next, and that work, which counts as done.

        There must be some.
        """
        index = max(self._left)
        left = self._left[index]
        work = left.popleft()
        if not left:
            del self._left[index]
        return index, work
