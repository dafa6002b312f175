"""Serdes: how keys and values become bytes and come back.

Kafka keeps None (a null key, a tombstone) apart from empty bytes, and so does kstash: a serde is
never given None; None passes through as it is.

A serializer must be a function of the value alone: state is keyed by encoded bytes, and outputs
are compared byte by byte in a replay. What it cannot write so that it comes back it refuses: a
state would be another one after a restart.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from math import isfinite
from operator import index
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Serde(Generic[T]):
    """A pair of functions under a name; make your own by naming it.

    The name is part of the topology hash: give a changed format a new name.

    All else makes it faster where it holds, and changes no result. A function of a whole column may
    raise anything, or return another number of items: then each value is converted alone, and the
    one that fails is named.

    Attributes:
        name: shown in descriptions and errors; not empty.
        serialize: value to bytes; deterministic.
        deserialize: bytes to value; the inverse of `serialize`.
        exact_types: immutable types whose values come back as they were: a state of such a type
            is not read back at each record.
        is_steady: whether what `deserialize` gave back always serializes to the same bytes again,
            which is checked at each record otherwise.
        passes_bytes: whether both functions return the bytes that they are given.
        encode_column: serializes a list of values at once, none of them None; given values of
            `exact_types` only, where there are any.
        decode_column: deserializes a list of bytes at once.
        check_column: raises where `serialize` would refuse one of a list of values of
            `exact_types`; None: `encode_column` does.
        partitioned_by: of a serde of keys: the part of a key's bytes that decides its partition;
            None: all of them.
        inner: of a serde of keys of windows: that of the keys within these.
    """

    name: str
    serialize: Callable[[T], bytes]
    deserialize: Callable[[bytes], T]
    _: KW_ONLY
    exact_types: frozenset[type] = field(default=frozenset(), compare=False)
    is_steady: bool = field(default=False, compare=False)
    passes_bytes: bool = field(default=False, compare=False)
    encode_column: Callable[[list[T]], list[bytes]] | None = field(default=None, compare=False)
    decode_column: Callable[[list[bytes]], list[T]] | None = field(default=None, compare=False)
    check_column: Callable[[list[T]], object] | None = field(default=None, compare=False)
    partitioned_by: Callable[[bytes], bytes] | None = field(default=None, compare=False)
    inner: Serde[Any] | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return f"Serde({self.name!r})"


def partitioned_within(
    inner: Serde[Any], part: Callable[[bytes], bytes]
) -> Callable[[bytes], bytes]:
    """What decides the partition of keys of which `part` takes out the bytes of an inner one."""
    within = inner.partitioned_by
    return part if within is None else lambda data: within(part(data))


def _bytes_as_they_are(data: bytes) -> bytes:
    if not isinstance(data, bytes):
        raise _other_type("raw", "bytes", data)
    return data


def _encode_text(value: str) -> bytes:
    try:
        return str.encode(value)
    except TypeError:
        raise _other_type("text", "str", value) from None


def _encode_int(value: int) -> bytes:
    # `b"%d" % 1.5` would cut the float silently; `index` refuses what is not an integer.
    try:
        return b"%d" % index(value)
    except TypeError:
        raise _other_type("int_text", "int", value) from None


def _encode_float(value: float) -> bytes:
    # The product makes a float of an integer and refuses text, and keeps the sign of -0.0.
    try:
        return float.__repr__(value * 1.0).encode()
    except TypeError:
        raise _other_type("float_text", "float or int", value) from None


def _other_type(serde: str, takes: str, value: object) -> TypeError:
    return TypeError(f"{serde} takes {takes}, not {type(value).__name__}")


def _encode_number(value: float) -> bytes:
    if isinstance(value, int):
        return _encode_int(value)
    if not isinstance(value, float):
        raise TypeError(
            f"number_text takes int and float, not {type(value).__name__}: use aggregate, with the "
            "serde of that type as value="
        )
    return _encode_float(value)


def _decode_number(data: bytes) -> int | float:
    # Python refuses integers of very many digits, and `float` would make an infinity of them.
    return int(data) if _INTEGER.fullmatch(data) else float(data)


def _encode_json(value: Any) -> bytes:
    data = encode_json(value)
    if b"null" in data and _has_non_finite(value):
        raise ValueError("JSON has neither NaN nor infinities: use msgpack, or None in their place")
    return data


def _has_non_finite(value: Any) -> bool:
    # MessagePack keeps them, and takes a tenth of the time of a walk through the value.
    try:
        if _NON_FINITE.search(_msgpack_encoder.encode(value)) is None:
            return False
    except OverflowError:
        pass  # an integer of more than 64 bits
    pending = [msgspec.to_builtins(value, str_keys=True)]
    for item in pending:
        if isinstance(item, float) and not isfinite(item):
            return True
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            pending.extend(item)
    return False


class _Deletion:
    """Of the value of `kstash.DELETE`, which would be written as a text if it were one."""


DELETION = _Deletion()


def _refuse_other(value: object) -> Any:
    """What JSON and MessagePack have no form for."""
    if value is DELETION:
        raise TypeError("DELETE is no value: it stands for a state that is deleted, alone")
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


_INTEGER = re.compile(rb"\s*[+-]?[0-9_]+\s*")
_NON_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
"""How a float that is no number begins in MessagePack; other bytes may look so too."""

encode_json: Callable[[Any], bytes] = msgspec.json.Encoder(
    enc_hook=_refuse_other, order="deterministic"
).encode
"""JSON with null for NaN and infinities: only for who looks for null in it."""

_msgpack_encoder = msgspec.msgpack.Encoder(enc_hook=_refuse_other, order="deterministic")
_encode_plain = msgspec.json.Encoder().encode


def _encode_ints(values: list[int]) -> list[bytes]:
    # A third of the time of `_encode_int`, which must check the type.
    return list(map(_encode_plain, values))


def _encode_json_column(values: list[Any]) -> list[bytes]:
    encoded = list(map(encode_json, values))
    # Only where null is in it may it be that something was lost.
    return list(map(_encode_json, values)) if b"null" in b"".join(encoded) else encoded


def _encode_texts(values: list[str]) -> list[bytes]:
    # Half of the time of `_encode_text`, which must name a type.
    return list(map(str.encode, values))


def _check_texts(values: list[str]) -> None:
    # Together they take a tenth of the time of one by one; a lone surrogate is found all the same.
    "".join(values).encode()


text: Serde[str] = Serde(
    "text",
    _encode_text,
    bytes.decode,
    exact_types=frozenset({str}),
    is_steady=True,
    encode_column=_encode_texts,
    check_column=_check_texts,
)
"""UTF-8 text."""

raw: Serde[bytes] = Serde(
    "raw",
    _bytes_as_they_are,
    bytes,
    exact_types=frozenset({bytes}),
    is_steady=True,
    passes_bytes=True,
)
"""Bytes as they are."""

int_text: Serde[int] = Serde(
    "int_text",
    _encode_int,
    int,
    exact_types=frozenset({int}),
    is_steady=True,
    encode_column=_encode_ints,
    check_column=_encode_plain,
)
"""An integer in ASCII decimals, as in `-42`; up to 4,300 digits, Python's own limit."""

float_text: Serde[float] = Serde(
    "float_text",
    _encode_float,
    float,
    exact_types=frozenset({float}),
    is_steady=True,
    check_column=_encode_plain,
)
"""A float as the shortest decimals that read back as the same float, as in `0.1`."""

number_text: Serde[Any] = Serde(
    "number_text",
    _encode_number,
    _decode_number,
    exact_types=frozenset({int, float}),
    is_steady=True,
    check_column=_encode_plain,
)
"""An integer or a float in decimals, and back as what it was: `3` or `3.0`."""

json: Serde[Any] = Serde(
    "json",
    _encode_json,
    msgspec.json.Decoder().decode,
    is_steady=True,
    encode_column=_encode_json_column,
)
"""JSON, compact, UTF-8; mappings have text keys and are written in their order. NaN and infinities
are refused, which JSON does not have. Bytes become base64, and come back as that text; sets and
tuples come back as lists."""

msgpack: Serde[Any] = Serde(
    "msgpack", _msgpack_encoder.encode, msgspec.msgpack.Decoder().decode, is_steady=True
)
"""MessagePack; mappings have text keys and are written in their order. Bytes come back as they are;
sets and tuples come back as lists."""
