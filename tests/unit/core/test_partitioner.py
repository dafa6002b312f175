"""murmur2 as the Java clients have it: a key must meet the records of other programs."""

from __future__ import annotations

import random

import pytest
from kafka.partitioner.default import murmur2 as oracle

from kstash.core.partitioner import CACHE_BYTES_MAX, Partitioner, murmur2, partitioners

# Kafka's own test of its Java client (UtilsTest.testMurmur2), as signed integers.
JAVA = [
    (b"21", -973932308),
    (b"foobar", -790332482),
    (b"a-little-bit-long-string", -985981536),
    (b"a-little-bit-longer-string", -1486304829),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    (b"abc", 479470107),
]


@pytest.mark.parametrize(("key", "expected"), JAVA)
def test_murmur2_as_in_java(key: bytes, expected: int) -> None:
    """The values that the Java client's own tests name."""
    assert murmur2(key) == expected & 0xFFFFFFFF


def test_murmur2_as_in_another_client() -> None:
    """Keys of every length up to 40, compared with kafka-python."""
    source = random.Random(3)
    for length in range(41):
        for _ in range(5):
            key = source.randbytes(length)
            assert murmur2(key) == oracle(key) & 0xFFFFFFFF


def test_partition_of_a_key() -> None:
    """The sign bit is masked, as `Utils.toPositive` does; then modulo."""
    assert Partitioner(7)[b"foobar"] == (-790332482 & 0x7FFFFFFF) % 7
    assert Partitioner(1)[b"foobar"] == 0
    assert Partitioner(7)[b""] == (murmur2(b"") & 0x7FFFFFFF) % 7


def test_null_key_goes_where_it_is_told() -> None:
    """Protocol, section 3: a null key goes to the input partition mod n, not by its hash."""
    partitioner = Partitioner(4)
    assert partitioner[None] == 0
    partitioner[None] = 3
    assert list(map(partitioner.__getitem__, [None, b"21", None])) == [3, partitioner[b"21"], 3]


@pytest.mark.parametrize("key_bytes", [8, 8 * 1024, 1024 * 1024])
def test_memory_is_bounded(key_bytes: int) -> None:
    """Distinct keys of any size do not grow the cache without end; the null key's place is kept."""
    partitioner = Partitioner(3)
    partitioner[None] = 2
    count = 2 * CACHE_BYTES_MAX // max(key_bytes, 150)
    largest = 0
    # Hashing a megabyte takes a second, and what it gives does not matter here.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kstash.core.partitioner.murmur2", len)
        for number in range(count):
            assert partitioner[number.to_bytes(key_bytes, "big")] < 3
            largest = max(largest, len(partitioner))
    assert largest * key_bytes <= CACHE_BYTES_MAX
    assert largest <= CACHE_BYTES_MAX // 150
    assert len(partitioner) < count
    assert partitioner[None] == 2


def test_topics_of_as_many_partitions_share_what_is_remembered() -> None:
    """A key that one stage has hashed is known to the next one."""
    found = partitioners({"a": 3, "b": 3, "c": 4})
    assert found["a"] is found["b"]
    assert [found[topic].partition_count for topic in "abc"] == [3, 3, 4]
