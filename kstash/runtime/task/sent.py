"""What a task has sent and not had acknowledged, and what that was made of."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import chain

from kstash.core.ids import OutPartition
from kstash.core.outputs import Outgoing
from kstash.ports.kafka import Partition
from kstash.runtime.load import Load

ORIGINS_MAX = 4096
"""Batches of which a task knows what they were made of: more than wait for acknowledgements."""


class Sent:
    """What one task has made and handed over, and not had acknowledged.

    Args:
        load: of the worker, which the bytes count toward.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._sizes: dict[OutPartition, deque[int]] = {}
        self._waiting: dict[OutPartition, deque[Outgoing]] = {}
        self._origins: deque[tuple[int, Partition, int, int]] = deque(maxlen=ORIGINS_MAX)

    def made_of(self, position: int, partition: Partition, start: int, end: int) -> None:
        """The batch that ends at `position` is of the records `[start, end)` of an input."""
        self._origins.append((position, partition, start, end))

    def made(self, partition: OutPartition, size_bytes: int) -> None:
        """A batch has outputs for a partition, which may have to wait before they are handed over.

        Args:
            partition: of the outputs.
            size_bytes: as of `operators.sizes.bytes_of`.
        """
        self._sizes.setdefault(partition, deque()).append(size_bytes)
        self._load.unacked_bytes += size_bytes

    def add(self, outgoing: Outgoing) -> None:
        """Outputs of a batch to one partition are handed over."""
        self._waiting.setdefault(outgoing.partition, deque()).append(outgoing)

    def acked(self, partition: OutPartition, position: int) -> None:
        """The oldest that is on its way, of `position`, is in the topic."""
        outgoing = self._waiting[partition].popleft()
        assert outgoing.position == position, "acknowledged out of order"
        if sizes := self._sizes.get(partition):
            self._load.unacked_bytes -= sizes.popleft()

    def close(self) -> None:
        """Nobody waits for these any more."""
        sizes = chain.from_iterable(self._sizes.values())
        self._load.unacked_bytes -= sum(sizes)
        self._sizes.clear()

    def waiting(self, partition: OutPartition) -> Iterable[Outgoing]:
        """Those that are on their way, oldest first."""
        return self._waiting.get(partition, ())

    def origin(self, position: int) -> str:
        """What the batch that ends at `position` was made of, for people."""
        for end_position, (topic, number), start, end in self._origins:
            if end_position == position:
                offsets = f"offset {start}" if end == start + 1 else f"offsets {start} to {end - 1}"
                return f"made of {topic}[{number}], {offsets}"
        return f"made at position {position}"
