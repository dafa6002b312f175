"""Byte strings in order, in chunks, so that to add one never moves all of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

CHUNK_KEYS_MAX = 1024
"""To insert into a list of so many moves at most 8 KB; to find the chunk takes ten steps."""


class SortedKeys:
    """A set of byte strings that is walked over in order.

    Invariants: no chunk is empty; chunks, and keys in them, rise; `_firsts` has the first key of
    each chunk.
    """

    def __init__(self) -> None:
        self._chunks: list[list[bytes]] = []
        self._firsts: list[bytes] = []

    def renew(self, keys: Iterable[bytes]) -> None:
        """Hold these keys, in any order, and no other ones."""
        ordered = sorted(set(keys))
        # Half full, as after a split: to add to full ones would split each of them.
        step = CHUNK_KEYS_MAX // 2
        self._chunks = [ordered[at : at + step] for at in range(0, len(ordered), step)]
        self._firsts = [chunk[0] for chunk in self._chunks]

    def add(self, key: bytes) -> None:
        """Add a key; one that is there stays there once."""
        if not self._chunks:
            self.renew([key])
            return
        number = max(bisect_right(self._firsts, key) - 1, 0)
        chunk = self._chunks[number]
        at = bisect_left(chunk, key)
        if at < len(chunk) and chunk[at] == key:
            return
        chunk.insert(at, key)
        self._firsts[number] = chunk[0]
        if len(chunk) > CHUNK_KEYS_MAX:
            upper = chunk[CHUNK_KEYS_MAX // 2 :]
            del chunk[CHUNK_KEYS_MAX // 2 :]
            self._chunks.insert(number + 1, upper)
            self._firsts.insert(number + 1, upper[0])

    def discard(self, key: bytes) -> None:
        """Remove a key; one that is not there is fine."""
        number = bisect_right(self._firsts, key) - 1
        if number < 0:
            return
        chunk = self._chunks[number]
        at = bisect_left(chunk, key)
        if at == len(chunk) or chunk[at] != key:
            return
        del chunk[at]
        if chunk:
            self._firsts[number] = chunk[0]
        else:
            del self._chunks[number], self._firsts[number]

    def discard_all(self, keys: Sequence[bytes]) -> None:
        """Remove keys, which are in order; those that are not there are fine."""
        if not keys:
            return
        gone = frozenset(keys)
        first = max(bisect_right(self._firsts, keys[0]) - 1, 0)
        end = bisect_right(self._firsts, keys[-1])
        left = [[key for key in chunk if key not in gone] for chunk in self._chunks[first:end]]
        self._chunks[first:end] = kept = [chunk for chunk in left if chunk]
        self._firsts[first:end] = [chunk[0] for chunk in kept]

    def walk(self, lower: bytes, upper: bytes | None) -> Iterator[bytes]:
        """Keys from `lower` on and below `upper` (None: to the last), in order.

        Nothing may be added or removed meanwhile.
        """
        number = max(bisect_right(self._firsts, lower) - 1, 0)
        for chunk in self._chunks[number : number + 1]:
            yield from chunk[bisect_left(chunk, lower) : _end(chunk, upper)]
        for at in range(number + 1, len(self._chunks)):
            chunk = self._chunks[at]
            if upper is not None and chunk[0] >= upper:
                return
            yield from chunk[: _end(chunk, upper)]

    def drop_below(self, bound: bytes) -> list[bytes]:
        """Remove all keys below `bound`, and return them."""
        number = max(bisect_right(self._firsts, bound) - 1, 0)
        dropped = [key for chunk in self._chunks[:number] for key in chunk]
        del self._chunks[:number], self._firsts[:number]
        if self._chunks:
            chunk = self._chunks[0]
            at = bisect_left(chunk, bound)
            dropped += chunk[:at]
            del chunk[:at]
            if chunk:
                self._firsts[0] = chunk[0]
            else:
                del self._chunks[0], self._firsts[0]
        return dropped


def _end(chunk: list[bytes], upper: bytes | None) -> int:
    """Where a chunk reaches `upper`."""
    return len(chunk) if upper is None else bisect_left(chunk, upper)
