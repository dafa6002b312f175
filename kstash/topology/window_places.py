"""Places in the queue of windows that are not aligned: two numbers and a key, in their order."""

from __future__ import annotations

from struct import Struct
from typing import Final

from kstash.core.manifest import EMPTY_AFTER_DRAIN, QUEUE_SUFFIX
from kstash.ports.state import StoreKind
from kstash.serdes import raw
from kstash.topology.traits import Holdings, KeyedStore

Place = tuple[int, int, bytes]
"""Two numbers, 0 or more, and an encoded key."""

_NUMBERS: Final = Struct(">QQ")
_FIRST: Final = Struct(">Q")


def queue_store(operator: str, *, holds: Holdings = "") -> KeyedStore:
    """The store with the order in which an operator's windows close, for `stores` of its node.

    Args:
        operator: its name.
        holds: as of `KeyedStore`: what each entry is, where all are of one kind.
    """
    return KeyedStore(
        name=queue_store_name(operator),
        verb="queue",
        key=raw,
        value=raw,
        kind=StoreKind.ORDERED,
        holds=holds,
    )


def queue_store_name(operator: str) -> str:
    """The name of that store."""
    return operator + QUEUE_SUFFIX


def unsent_stores(operator: str) -> tuple[KeyedStore, KeyedStore]:
    """The stores of results that wait for their interval, for `stores` of an operator's node.

    Args:
        operator: its name.

    Returns:
        By key of the result what is sent of it; and the order in which it is.
    """
    name = unsent_store_name(operator)
    return KeyedStore(name, EMPTY_AFTER_DRAIN, raw, raw), queue_store(name)


def unsent_store_name(operator: str) -> str:
    """The name of the first of them."""
    return f"{operator}.unsent"


def encode_place(place: Place) -> bytes:
    """A key of the store."""
    first, second, key = place
    return _NUMBERS.pack(first, second) + key


def decode_place(data: bytes) -> Place:
    """The place of `encode_place`."""
    first, second = _NUMBERS.unpack_from(data)
    return first, second, data[_NUMBERS.size :]


def places_before(first: int) -> bytes:
    """What stands in the store after all places with a lower first number, which may be any."""
    return _FIRST.pack(max(first, 0))
