"""What a task knows of one of its output partitions: held, in flight, acknowledged, settled."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Held:
    """Outputs of one batch that are numbered and have no chunk yet."""

    position: int
    lineage_end: int
    first_seq: int
    count: int
    payload: Any


@dataclass(slots=True)
class Output:
    """What is known of one output partition."""

    is_sink: bool
    has_lineage: bool
    sequence: int = 0
    sent: int = 0
    held: deque[Held] = field(default_factory=deque)
    in_flight: deque[int] = field(default_factory=deque)
    acked: deque[tuple[int, int | None]] = field(default_factory=deque)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is held, on its way, or waits for lineage or a commit."""
        return not (self.held or self.in_flight or self.acked)
