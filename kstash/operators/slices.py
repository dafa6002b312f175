"""Parts of a batch: by partition, by a mask, from one record to another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import compress

from kstash.core.partitioner import Partitioner
from kstash.operators.batch import Batch

_BYTE_VALUES = 256

Mask = Sequence[int]
"""Which records of a batch are meant, as 0 and 1."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How the records of a topic are spread over its partitions.

    Attributes:
        partitioner: of the topic.
        partitioned_by: the part of an encoded key that decides; None: all of it.
    """

    partitioner: Partitioner
    partitioned_by: Callable[[bytes], bytes] | None

    def split(
        self, keys: Sequence[bytes | None], null_partition: int
    ) -> list[tuple[int, Mask | None]]:
        """Partitions that records of these keys go to, ascending, and which of them; None: all."""
        partitioner = self.partitioner
        count = partitioner.partition_count
        if count == 1:
            return [(0, None)]
        partitioner[None] = null_partition % count
        decisive = deciding(keys, self.partitioned_by)
        partitions = list(map(partitioner.__getitem__, decisive))
        if partitions.count(partitions[0]) == len(partitions):
            # Always so where a stage leaves the keys as they are and writes as many partitions.
            return [(partitions[0], None)]
        return list(_masks(partitions, count))


def deciding(
    keys: Sequence[bytes | None], partitioned_by: Callable[[bytes], bytes] | None
) -> Sequence[bytes | None]:
    """What decides the partitions of keys, as their serde says."""
    if partitioned_by is None:
        return keys
    return [None if key is None else partitioned_by(key) for key in keys]


def part_of(batch: Batch, mask: Mask, *, has_values: bool) -> Batch:
    """The records of a batch that a mask means, in their order; without values all are None.

    Without their event times: what is said of these depends on the partition.
    """
    keys = list(compress(batch.keys, mask))
    return Batch(
        keys,
        list(compress(batch.values, mask)) if has_values else [None] * len(keys),
        list(compress(batch.timestamps, mask)),
        None if batch.headers is None else list(compress(batch.headers, mask)),
    )


def drop_head(batch: Batch, count: int) -> Batch:
    """The batch without its first `count` records."""
    return slice_of(batch, count, len(batch))


def slice_of(batch: Batch, start: int, end: int) -> Batch:
    """Records `[start, end)` of a batch."""
    headers = None if batch.headers is None else batch.headers[start:end]
    part = Batch(
        batch.keys[start:end], batch.values[start:end], batch.timestamps[start:end], headers
    )
    if batch.times is not None:
        part.times = batch.times[start:end]
        part.is_control = batch.is_control
    return part


def _masks(partitions: list[int], count: int) -> Iterator[tuple[int, Mask]]:
    """Which records go to each partition that occurs."""
    if count > _BYTE_VALUES:
        for partition in sorted(set(partitions)):
            yield partition, [p == partition for p in partitions]
        return
    # A byte for each record: a table look-up makes a mask at the speed of a memory copy.
    row = bytes(partitions)
    for partition in sorted(set(row)):
        yield partition, row.translate(_only(partition))


@cache
def _only(partition: int) -> bytes:
    """The table for `bytes.translate` that keeps one value as 1."""
    return bytes(partition) + b"\x01" + bytes(_BYTE_VALUES - 1 - partition)
