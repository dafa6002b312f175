"""murmur2 of the key, as the Java clients' default partitioner.

Source: Austin Appleby's MurmurHash2 with Kafka's seed; KIP-480 leaves keyed records to it.
"""

from __future__ import annotations

from collections.abc import Mapping

CACHE_BYTES_MAX = 32 * 1024 * 1024
"""Memory for the keys kept per partition count; real key sets are skewed."""

KEY_OVERHEAD_BYTES = 150
"""What a key takes beside its bytes: the object, and its place in the dict while that grows."""

_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_SEED = 0x9747B28C


def murmur2(data: bytes) -> int:
    """Return the unsigned 32-bit murmur2 hash of `data`."""
    length = len(data)
    h = _SEED ^ length
    end = length & ~3
    for i in range(0, end, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _M & _MASK
        k = (k ^ (k >> 24)) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    rest = length & 3
    if rest:
        h = (h ^ int.from_bytes(data[end:], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


class Partitioner(dict[bytes | None, int]):
    """A mapping from encoded key to partition number, computed on a miss and remembered.

    A null key has no partition of its own: the runtime sets `self[None]` to `input partition
    mod n` before it maps a batch (protocol, section 3), so the choice is the same on replay.

    Args:
        partition_count: of the topic, 1 or more.
    """

    def __init__(self, partition_count: int) -> None:
        assert partition_count > 0
        super().__init__()
        self.partition_count = partition_count
        self[None] = 0
        # Of the keys that are remembered, with what each takes besides; at most `CACHE_BYTES_MAX`.
        self._size_bytes = 0

    def __missing__(self, key: bytes) -> int:
        self._size_bytes += len(key) + KEY_OVERHEAD_BYTES
        if self._size_bytes > CACHE_BYTES_MAX:
            null_partition = self[None]
            self.clear()
            self[None] = null_partition
            self._size_bytes = len(key) + KEY_OVERHEAD_BYTES
        partition = (murmur2(key) & 0x7FFFFFFF) % self.partition_count
        self[key] = partition
        return partition


def partitioners(counts: Mapping[str, int]) -> dict[str, Partitioner]:
    """Return the partitioner of each topic, by its partition count.

    Topics of as many partitions share one: what a stage has hashed the next one need not.
    """
    by_count = {count: Partitioner(count) for count in counts.values()}
    return {topic: by_count[count] for topic, count in counts.items()}
