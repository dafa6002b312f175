"""Lists as bytes: the items end to end, each with its length and when it was appended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kstash.serdes import Serde
from kstash.topology.traits import STAMP_BYTES, stamp, stamped_at_ms

_LENGTH_BYTES = 4
_HEAD_BYTES = _LENGTH_BYTES + STAMP_BYTES


def add_item(at_ms: int, data: bytes) -> bytes:
    """An item that is appended at a time, to stand after those that are there."""
    return len(data).to_bytes(_LENGTH_BYTES, "big") + stamp(at_ms) + data


def items_of(items: bytes) -> Iterator[tuple[int, bytes]]:
    """(When it was appended, the item) of each, in order."""
    start = 0
    while start < len(items):
        head = start + _HEAD_BYTES
        end = head + int.from_bytes(items[start : start + _LENGTH_BYTES], "big")
        yield stamped_at_ms(items[start + _LENGTH_BYTES : head]), items[head:end]
        start = end


def item_count(items: bytes) -> int:
    """How many items there are."""
    return sum(1 for _ in items_of(items))


def cut_before(items: bytes, bound_ms: int) -> bytes:
    """The items that were appended after a time; times never fall."""
    start = 0
    for at_ms, data in items_of(items):
        if at_ms > bound_ms:
            break
        start += _HEAD_BYTES + len(data)
    return items[start:]


def list_of(serde: Serde[Any]) -> Serde[list[Any]]:
    """The serde of such lists, by which they are shown."""

    def serialize(items: list[Any]) -> bytes:
        return b"".join(add_item(0, serde.serialize(item)) for item in items)

    def deserialize(data: bytes) -> list[Any]:
        return [serde.deserialize(item) for _, item in items_of(data)]

    return Serde(f"list of {serde.name}", serialize, deserialize)
