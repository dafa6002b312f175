"""Serdes: how keys and values become bytes and come back.

Kafka keeps None (a null key, a tombstone) apart from empty bytes, and so does kstash: a serde is
never given None; None passes through as it is.

A serializer must be a function of the value alone: state is keyed by encoded bytes, and outputs
are compared byte by byte in a replay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import index
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Serde(Generic[T]):
    """A pair of functions under a name; make your own by naming it.

    The name is part of the topology hash: give a changed format a new name.

    Attributes:
        name: shown in descriptions and errors; not empty.
        serialize: value to bytes; deterministic.
        deserialize: bytes to value; the inverse of `serialize`.
    """

    name: str
    serialize: Callable[[T], bytes]
    deserialize: Callable[[bytes], T]

    def __repr__(self) -> str:
        return f"Serde({self.name!r})"


def _bytes_as_they_are(data: bytes) -> bytes:
    if not isinstance(data, bytes):
        raise TypeError(f"raw takes bytes, not {type(data).__name__}")
    return data


def _encode_int(value: int) -> bytes:
    # `b"%d" % 1.5` would cut the float silently; `index` refuses what is not an integer.
    return b"%d" % index(value)


def _encode_float(value: float) -> bytes:
    # The product makes a float of an integer and refuses text, and keeps the sign of -0.0.
    return float.__repr__(value * 1.0).encode()


def _encode_number(value: float) -> bytes:
    if isinstance(value, int):
        return _encode_int(value)
    return _encode_float(value)


def _decode_number(data: bytes) -> int | float:
    try:
        return int(data)
    except ValueError:
        return float(data)


_json_encoder = msgspec.json.Encoder(order="deterministic")
_msgpack_encoder = msgspec.msgpack.Encoder(order="deterministic")

text: Serde[str] = Serde("text", str.encode, bytes.decode)
"""UTF-8 text."""

raw: Serde[bytes] = Serde("raw", _bytes_as_they_are, bytes)
"""Bytes as they are."""

int_text: Serde[int] = Serde("int_text", _encode_int, int)
"""An integer in ASCII decimals, as in `-42`."""

float_text: Serde[float] = Serde("float_text", _encode_float, float)
"""A float as the shortest decimals that read back as the same float, as in `0.1`."""

number_text: Serde[Any] = Serde("number_text", _encode_number, _decode_number)
"""An integer or a float in decimals, and back as what it was: `3` or `3.0`."""

json: Serde[Any] = Serde("json", _json_encoder.encode, msgspec.json.Decoder().decode)
"""JSON, compact, UTF-8; mappings have text keys and are written in their order."""

msgpack: Serde[Any] = Serde("msgpack", _msgpack_encoder.encode, msgspec.msgpack.Decoder().decode)
"""MessagePack; mappings have text keys and are written in their order."""
