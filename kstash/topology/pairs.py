"""Keys of two parts: that of a record, and what an operator keeps things under beside it."""

from __future__ import annotations

from typing import Any

from kstash.serdes import Serde, partitioned_within

_LENGTH_BYTES = 4


def prefix_of(key: bytes) -> bytes:
    """What all pairs of an encoded key begin with, and no other ones do."""
    return len(key).to_bytes(_LENGTH_BYTES, "big") + key


def first_of(pair: bytes) -> bytes:
    """The first part of an encoded pair: the key of a record, by which the pair has its task."""
    return pair[_LENGTH_BYTES : _LENGTH_BYTES + int.from_bytes(pair[:_LENGTH_BYTES], "big")]


def pair_of(first: Serde[Any], second: Serde[Any]) -> Serde[tuple[Any, Any]]:
    """The serde of pairs; those of one first part have the order of the second part's bytes."""

    def serialize(pair: tuple[Any, Any]) -> bytes:
        return prefix_of(first.serialize(pair[0])) + second.serialize(pair[1])

    def deserialize(data: bytes) -> tuple[Any, Any]:
        key = first_of(data)
        return first.deserialize(key), second.deserialize(data[_LENGTH_BYTES + len(key) :])

    return Serde(
        f"{first.name}, {second.name}",
        serialize,
        deserialize,
        partitioned_by=partitioned_within(first, first_of),
    )
