"""Identifiers of the protocol (protocol, section 2)."""

from __future__ import annotations

from typing import NamedTuple


class TaskId(NamedTuple):
    """One stage on one partition number.

    Attributes:
        stage: index of the stage.
        partition: number of the partition, which is also that of its task group.
    """

    stage: int
    partition: int

    def __str__(self) -> str:
        return f"{self.stage}_{self.partition}"


class Incarnation(NamedTuple):
    """One life of a task group, ordered as a tuple: a higher one fences all that are lower.

    Attributes:
        generation: Unix time in milliseconds at which the lineage topic was created.
        offset: of the group's CLAIM in it. `NO_INCARNATION` is below every real one.
    """

    generation: int
    offset: int

    def __str__(self) -> str:
        return f"{self.generation}:{self.offset}"


NO_INCARNATION = Incarnation(0, 0)
"""What records carry under the guarantees without fencing, and what a new reader starts from."""

OutPartition = tuple[int, int]
"""An output partition of a task: (index of the stage's output, partition number)."""

UNBOUNDED = 1 << 62
"""Above every position."""
