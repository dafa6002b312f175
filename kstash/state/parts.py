"""Keys of a store in parts, each small enough to be written between two batches.

All parts together are in key order: RocksDB takes them for half of what parts cost that each lie
all over the key space, and its files do not overlap. To sort a million keys at once would take as
long as a pause must not be, so they are first spread over ranges, some with each step.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

PART_ENTRIES = 4096
PART_BYTES = 1 << 20
"""Of live values: a part takes some ten milliseconds, and what comes with each of them is small."""

SPREAD_KEYS = 8 * PART_ENTRIES
"""Keys that are spread over ranges with one step: to sort so many takes as long as a part. A range
has half as many, about."""

_SAMPLES_PER_RANGE = 8
_SAMPLE_STEP = 2039
"""So many keys have one sample. It is prime: every other key may be of another kind."""


def in_order(keys: list[bytes], size: int) -> Iterator[list[bytes]]:
    """Parts of at most `size` keys, in order, after some empty ones while the order is found.

    Args:
        keys: each once, in any order; the list is used up.
        size: 1 or more.
    """
    bounds = sorted(keys[::_SAMPLE_STEP])[_SAMPLES_PER_RANGE::_SAMPLES_PER_RANGE]
    ranges: list[list[bytes]] = [[] for _ in range(len(bounds) + 1)]
    while keys:
        some = sorted(keys[-SPREAD_KEYS:])
        del keys[-SPREAD_KEYS:]
        ends = [bisect_left(some, bound) for bound in bounds]
        for found, start, end in zip(ranges, [0, *ends], [*ends, len(some)], strict=True):
            found += some[start:end]
        if keys:
            yield []
    ranges.reverse()
    while ranges:
        # Of runs that are in order, which sorting finds.
        found = sorted(ranges.pop())
        for at in range(0, len(found), size):
            yield found[at : at + size]
