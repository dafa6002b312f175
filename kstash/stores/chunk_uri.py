"""Where a file is in the checkpoints topic: `topic:<partition>:<ranges>:<name>~<attempt>`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from kstash.errors import CheckpointCorruptError

SCHEME = "topic:"

CHUNKS_MAX = 1 << 21
"""Of one file: 1 TiB, which no file of a state has."""

_RUN = r"[0-9]{1,19}\+[1-9][0-9]{0,18}"

_URI = re.compile(rf"topic:([0-9]{{1,9}}):((?:{_RUN}(?:,{_RUN})*)?):(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ChunkUri:
    """A URI, taken apart: (first offset, count) of each run of chunks."""

    partition: int
    ranges: tuple[tuple[int, int], ...]
    key: str

    def __str__(self) -> str:
        ranges = ",".join(f"{first}+{count}" for first, count in self.ranges)
        return f"{SCHEME}{self.partition}:{ranges}:{self.key}"

    @classmethod
    def of(cls, partition: int, offsets: Collection[int], key: str) -> ChunkUri:
        """From the chunks' offsets, in order."""
        ranges: list[tuple[int, int]] = []
        for offset in offsets:
            if ranges and sum(ranges[-1]) == offset:
                ranges[-1] = (ranges[-1][0], ranges[-1][1] + 1)
            else:
                ranges.append((offset, 1))
        return cls(partition, tuple(ranges), key)

    @classmethod
    def parse(cls, uri: str) -> ChunkUri:
        """Take a URI apart.

        Raises:
            CheckpointCorruptError: it is none of this store.
        """
        if not uri.startswith(SCHEME):
            raise CheckpointCorruptError(
                "it is in another checkpoint store than the one that checkpoint_store names",
                uri,
            )
        found = _URI.fullmatch(uri)
        if found is None:
            raise CheckpointCorruptError("malformed URI", uri[:200])
        partition, ranges, key = found.groups()
        runs = [text.split("+") for text in ranges.split(",") if text]
        place = cls(int(partition), tuple((int(a), int(b)) for a, b in runs), key)
        if place.count > CHUNKS_MAX:
            raise CheckpointCorruptError(f"no file has {place.count} chunks", uri[:200])
        return place

    @property
    def count(self) -> int:
        """Number of chunks."""
        return sum(count for _, count in self.ranges)

    def offsets(self) -> Iterator[int]:
        """Offsets of the chunks, in order; one after the other, as their number is only claimed."""
        for first, count in self.ranges:
            yield from range(first, first + count)


def parsed_uris(uris: Iterable[str]) -> dict[str, ChunkUri]:
    """Those of the URIs that are of this store, taken apart."""
    found = {}
    for uri in uris:
        with contextlib.suppress(CheckpointCorruptError):
            found[uri] = ChunkUri.parse(uri)
    return found
