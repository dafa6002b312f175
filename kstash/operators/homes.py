"""Where keys of an input of others belong, and whether they are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kstash.core.partitioner import Partitioner


@dataclass(frozen=True, slots=True)
class Home:
    """What keys an input of others has: those that its partitioner gives to partition `number`."""

    number: int
    partitioner: Partitioner


def misplaced(keys: Sequence[bytes | None], home: Home) -> int | None:
    """Index of the first key that belongs elsewhere; null keys are the operator's business."""
    where = home.partitioner
    if set(map(where.__getitem__, keys)) == {home.number}:
        return None
    return next(
        (i for i, key in enumerate(keys) if key is not None and where[key] != home.number), None
    )
