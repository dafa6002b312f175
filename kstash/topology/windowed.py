"""The keys of results of windows, and their bytes, which are those of Kafka Streams."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from operator import itemgetter
from struct import Struct
from typing import Any, Final, Generic, NamedTuple, TypeVar

from kstash.serdes import Serde, partitioned_within

T = TypeVar("T")

START_BYTES: Final = 8
"""Of the start of a window, in a key; big endian, as all of Kafka."""


class Windowed(NamedTuple, Generic[T]):
    """The key of a result of a window.

    Attributes:
        key: of the records in the window.
        start_ms: its first millisecond, as Unix time; 0 or more.
        end_ms: where it ends.
    """

    key: T
    start_ms: int
    end_ms: int


@cache
def windowed_by_time(inner: Serde[T], size_ms: int) -> Serde[Windowed[T]]:
    """The serde of the keys of windows of one size: Kafka Streams' TimeWindowedSerde.

    Args:
        inner: serde of the inner key.
        size_ms: from the start of a window to its end, 1 or more.
    """
    return windowed_by_start(inner, f"{size_ms} ms", lambda start: start + size_ms)


def windowed_by_start(
    inner: Serde[T], length: str, end_of: Callable[[int], int]
) -> Serde[Windowed[T]]:
    """The serde of the keys of windows of which the end follows from the start.

    The bytes are those of the inner key and those of the start. The inner key alone decides the
    partition.

    Args:
        inner: serde of the inner key.
        length: what windows have; it is part of the name.
        end_of: the end of the window that begins at a time.
    """
    head, tail = itemgetter(slice(None, -START_BYTES)), itemgetter(slice(-START_BYTES, None))

    def start_of(window: Windowed[T]) -> bytes:
        if not isinstance(window, Windowed):
            raise TypeError(f"a windowed serde takes Windowed, not {type(window).__name__}")
        if window.end_ms != end_of(window.start_ms):
            raise ValueError(f"windows of this serde have {length}, and this one is {window}")
        return window.start_ms.to_bytes(START_BYTES, "big")

    def serialize(window: Windowed[T]) -> bytes:
        start = start_of(window)
        return inner.serialize(window.key) + start

    def deserialize(data: bytes) -> Windowed[T]:
        if len(data) < START_BYTES:
            raise ValueError(f"{len(data)} bytes have no room for the start of a window")
        start = int.from_bytes(tail(data), "big")
        return Windowed(inner.deserialize(head(data)), start, end_of(start))

    return Serde(
        f"windowed {length} of {inner.name}",
        serialize,
        deserialize,
        is_steady=inner.is_steady,
        partitioned_by=partitioned_within(inner, head),
        inner=inner,
    )


def by_start(key: Serde[Any], end_of: Callable[[int], int]) -> Serde[Windowed[Any]]:
    """The serde of the keys of a store of windows, in the order in which these close.

    Args:
        key: serde of the keys of records.
        end_of: the end of the window that begins at a time.
    """
    inner, start = itemgetter(slice(START_BYTES, None)), itemgetter(slice(START_BYTES))

    def serialize(window: Windowed[Any]) -> bytes:
        return window.start_ms.to_bytes(START_BYTES, "big") + key.serialize(window.key)

    def deserialize(data: bytes) -> Windowed[Any]:
        start_ms = int.from_bytes(start(data), "big")
        return Windowed(key.deserialize(inner(data)), start_ms, end_of(start_ms))

    return Serde(
        f"start, {key.name}",
        serialize,
        deserialize,
        partitioned_by=partitioned_within(key, inner),
    )


_BOUNDS: Final = Struct(">QQ")


def encode_session(key: bytes, start_ms: int, end_ms: int) -> bytes:
    """The bytes of `windowed_by_session` for an encoded key."""
    return key + _BOUNDS.pack(end_ms, start_ms)


@cache
def windowed_by_session(inner: Serde[T]) -> Serde[Windowed[T]]:
    """The serde of the keys of sessions: Kafka Streams' SessionWindowedSerde.

    The bytes are those of the inner key, of the end and of the start. The inner key alone decides
    the partition.

    Args:
        inner: serde of the inner key.
    """
    head, tail = itemgetter(slice(None, -_BOUNDS.size)), itemgetter(slice(-_BOUNDS.size, None))

    def serialize(window: Windowed[T]) -> bytes:
        if not isinstance(window, Windowed):
            raise TypeError(f"a windowed serde takes Windowed, not {type(window).__name__}")
        return encode_session(inner.serialize(window.key), window.start_ms, window.end_ms)

    def deserialize(data: bytes) -> Windowed[T]:
        if len(data) < _BOUNDS.size:
            raise ValueError(f"{len(data)} bytes have no room for the two ends of a session")
        end_ms, start_ms = _BOUNDS.unpack(tail(data))
        return Windowed(inner.deserialize(head(data)), start_ms, end_ms)

    return Serde(
        f"session of {inner.name}",
        serialize,
        deserialize,
        is_steady=inner.is_steady,
        partitioned_by=partitioned_within(inner, head),
        inner=inner,
    )
