"""Which record a topic refuses: what a task has sent and not had acknowledged, and what it is of.

A broker refuses a whole request and says why, but not which of its records is meant.
So among those on their way the likeliest one is named: the one whose timestamp is farthest from
now, the largest, one without a key, or the oldest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import TYPE_CHECKING

from kstash.core.ids import OutPartition
from kstash.core.outputs import Outgoing
from kstash.errors import RecordRefusedError
from kstash.escape import short_repr
from kstash.operators.batch import Batch
from kstash.ports.kafka import Partition
from kstash.runtime.load import Load

if TYPE_CHECKING:
    from kstash.runtime.task.task import Task

ORIGINS_MAX = 4096
"""Batches of which a task knows what they were made of: more than wait for acknowledgements."""

_FIXES: Mapping[str | None, str] = {
    "timestamp": "let the topic take such timestamps (message.timestamp.before.max.ms and "
    "message.timestamp.after.max.ms), or give the record another one",
    "size": "raise the topic's max.message.bytes, or make smaller records (if each one fits, a new "
    "start sends them in smaller requests)",
    "record": "a compacted topic takes no record without a key: give it one, or undo the topic's "
    "cleanup.policy=compact",
    None: "let the topic take it, or make another record",
}


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


def explain_refusal(error: RecordRefusedError, tasks: Iterable[Task], now_ms: int) -> None:
    """Say in an error which record is meant, and what to do.

    Args:
        error: as the producer raised it.
        tasks: those that may have sent the record.
        now_ms: Unix time in milliseconds.
    """
    found: tuple[float, Task, Outgoing, int] | None = None
    for task in tasks:
        for index, output in enumerate(task.outputs):
            if output.topic != error.topic:
                continue
            for outgoing in task.sent.waiting((index, error.partition or 0)):
                weight, record = _likeliest(outgoing.payload, error.suspect, now_ms)
                if found is None or weight > found[0]:
                    found = weight, task, outgoing, record
    if found is not None:
        _, task, outgoing, record = found
        batch: Batch = outgoing.payload
        key = short_repr(batch.keys[record])
        error.detail += (
            f"; most likely it is sequence {outgoing.first_seq + record} of task {task.name}: key "
            f"{key}, timestamp {batch.timestamps[record]}, {task.sent.origin(outgoing.position)}"
        )
    error.detail += f"; to fix it: {_FIXES[error.suspect]}"


def _likeliest(batch: Batch, suspect: str | None, now_ms: int) -> tuple[float, int]:
    """How odd a batch's oddest record is, and its index."""
    weights: list[float]
    if suspect == "timestamp":
        weights = [abs(timestamp - now_ms) for timestamp in batch.timestamps]
    elif suspect == "size":
        pairs = zip(batch.keys, batch.values, strict=True)
        weights = [len(key or b"") + len(value or b"") for key, value in pairs]
    elif suspect == "record":
        weights = [key is None for key in batch.keys]
    else:
        weights = [0.0] * len(batch)
    weight = max(weights)
    return weight, weights.index(weight)
