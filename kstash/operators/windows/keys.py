"""The keys of aligned windows: in their store start and key, in results key and start."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kstash.topology.windowed import START_BYTES


def start_bytes(start: int) -> bytes:
    """A start as it stands in keys."""
    return start.to_bytes(START_BYTES, "big")


def start_of(key: bytes) -> int:
    """The start in a key of the store."""
    return int.from_bytes(key[:START_BYTES], "big")


def store_keys(keys: Sequence[bytes], starts: Sequence[int]) -> list[bytes]:
    """The keys in the store of as many windows."""
    prefixes = {start: start_bytes(start) for start in set(starts)}
    return [prefixes[start] + key for start, key in zip(starts, keys, strict=True)]


def result_keys(keys: Iterable[bytes]) -> list[bytes]:
    """The keys of results, of those in the store."""
    return [key[START_BYTES:] + key[:START_BYTES] for key in keys]
