"""Frames: many logical records as one Kafka record of an internal topic (wire-format.md).

The value of the Kafka record holds columns: key lengths and keys, value lengths and values (may be
left out when no reader needs them), timestamps, and user headers when any record has some. In
watermark mode there are the writer's event times besides, and which records are control records:
those say a time and nothing else. Columns of lengths are machine-wide arrays so that both
directions run at C speed.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from itertools import accumulate, islice, pairwise
from operator import sub
from typing import NamedTuple

from kstash.errors import WireCorruptError

RecordHeaders = list[tuple[str, bytes | None]]

# Written into topics: never change a value, only add.
VERSION = 1
_HAS_VALUES, _HAS_HEADERS, _ONE_TIMESTAMP, _HAS_TIMES, _HAS_CONTROLS = 1, 2, 4, 8, 16
_ALL_FLAGS = 31
_NONE = 0xFFFFFFFF

_HEAD = struct.Struct("<BBI")
_TIMESTAMP = struct.Struct("<q")
_TIMES = struct.Struct("<qB")
# Bytes of a step from one event time to the next, and the array that has them.
_STEPS = {1: "B", 2: "H", 4: "I", 8: "Q"}
_LATEST = (1 << 63) - 1
_LENGTH = struct.Struct("<I")
_IS_LITTLE = sys.byteorder == "little"


class Columns(NamedTuple):
    """Equal-long columns of a frame.

    Attributes:
        keys: encoded; None where a record has none.
        values: encoded, None where a record has none; all are where the topic keeps no values.
        timestamps: Unix time in milliseconds.
        headers: of the user's; None when no record has any.
        times: the writer's event time at each record, rising, in Unix ms; None: it says none.
        controls: rising indexes of the records that say a time and nothing else.
    """

    keys: list[bytes | None]
    values: list[bytes | None]
    timestamps: list[int]
    headers: list[RecordHeaders | None] | None
    times: list[int] | None = None
    controls: tuple[int, ...] = ()


def encode_frame(
    keys: Sequence[bytes | None],
    values: Sequence[bytes | None] | None,
    timestamps: Sequence[int],
    headers: Sequence[RecordHeaders | None] | None,
    times: Sequence[int] | None = None,
    controls: Sequence[int] = (),
) -> bytes:
    """Encode one frame of 1 or more logical records; `values` None leaves the column out.

    `times` rise; `controls` are rising indexes of records, and come with times only.
    """
    count = len(keys)
    flags = 0
    parts: list[bytes] = [b""]
    parts += _encode_column(keys)
    if values is not None:
        flags |= _HAS_VALUES
        parts += _encode_column(values)
    first = timestamps[0]
    if timestamps.count(first) == count:
        flags |= _ONE_TIMESTAMP
        parts.append(_TIMESTAMP.pack(first))
    else:
        parts.append(_to_bytes(array("q", timestamps)))
    if headers is not None and any(headers):
        flags |= _HAS_HEADERS
        parts += _encode_column([_encode_headers(h) if h else None for h in headers])
    if times is not None:
        flags |= _HAS_TIMES
        parts += _encode_times(times)
    if controls:
        flags |= _HAS_CONTROLS
        bits = sum(1 << index for index in controls)
        parts.append(bits.to_bytes((count + 7) // 8, "little"))
    parts[0] = _HEAD.pack(VERSION, flags, count)
    return b"".join(parts)


def decode_frame(data: bytes | None, count: int) -> Columns:
    """Decode a frame whose identity header names `count` logical records.

    Raises:
        WireCorruptError: not a frame of a known version with just `count` records.
    """
    try:
        if data is None:
            raise WireCorruptError("frame without a value")
        version, flags, held = _HEAD.unpack_from(data)
        if version != VERSION or flags > _ALL_FLAGS:
            raise WireCorruptError(f"frame of version {version} with flags {flags}")
        if held != count or count > len(data):
            raise WireCorruptError(f"frame of {held} records, its identity says {count}")
        keys, i = _decode_column(data, _HEAD.size, count)
        values: list[bytes | None]
        if flags & _HAS_VALUES:
            values, i = _decode_column(data, i, count)
        else:
            values = [None] * count
        if flags & _ONE_TIMESTAMP:
            timestamps = [*_TIMESTAMP.unpack_from(data, i)] * count
            i += _TIMESTAMP.size
        else:
            timestamps = _from_bytes("q", data, i, count).tolist()
            i += 8 * count
        headers: list[RecordHeaders | None] | None = None
        if flags & _HAS_HEADERS:
            encoded, i = _decode_column(data, i, count)
            headers = [None if h is None else _decode_headers(h) for h in encoded]
        times: list[int] | None = None
        if flags & _HAS_TIMES:
            times, i = _decode_times(data, i, count)
        controls: tuple[int, ...] = ()
        if flags & _HAS_CONTROLS:
            controls, i = _decode_controls(data, i, count, has_times=times is not None)
        if i != len(data):
            raise WireCorruptError(f"frame of {len(data)} bytes, {i} used")
    except (struct.error, ValueError) as error:
        raise WireCorruptError(f"malformed frame: {error}") from error
    return Columns(keys, values, timestamps, headers, times=times, controls=controls)


def _encode_column(items: Sequence[bytes | None]) -> list[bytes]:
    try:
        lengths = array("I", map(len, items))  # type: ignore[arg-type]  # None falls to the except
        body = b"".join(items)  # type: ignore[arg-type]
    except TypeError:
        lengths = array("I", [_NONE if item is None else len(item) for item in items])
        body = b"".join(item for item in items if item is not None)
    return [_to_bytes(lengths), body]


def _decode_column(data: bytes, i: int, count: int) -> tuple[list[bytes | None], int]:
    lengths = _from_bytes("I", data, i, count)
    i += 4 * count
    ends = list(accumulate(lengths, initial=i))
    end = ends[-1]
    if end <= len(data):
        # No null among them, whose length would be 4 GiB.
        return [data[a:b] for a, b in pairwise(ends)], end
    items: list[bytes | None] = []
    for length in lengths:
        if length == _NONE:
            items.append(None)
        else:
            items.append(data[i : i + length])
            i += length
    if i > len(data):
        raise WireCorruptError(f"frame of {len(data)} bytes with a column up to {i}")
    return items, i


def _encode_headers(headers: RecordHeaders) -> bytes:
    out = bytearray()
    for name, value in headers:
        encoded = name.encode()
        out += _LENGTH.pack(len(encoded)) + encoded
        out += _LENGTH.pack(_NONE) if value is None else _LENGTH.pack(len(value)) + value
    return bytes(out)


def _decode_headers(data: bytes) -> RecordHeaders:
    headers: RecordHeaders = []
    i = 0
    while i < len(data):
        name, i = _decode_item(data, i)
        value, i = _decode_item(data, i)
        headers.append(((name or b"").decode(), value))
    return headers


def _decode_item(data: bytes, i: int) -> tuple[bytes | None, int]:
    (length,) = _LENGTH.unpack_from(data, i)
    i += _LENGTH.size
    if length == _NONE:
        return None, i
    if i + length > len(data):
        raise WireCorruptError(f"frame headers end within an item of {length} bytes")
    return data[i : i + length], i + length


def _encode_times(times: Sequence[int]) -> list[bytes]:
    first = times[0]
    if times[-1] == first:
        return [_TIMES.pack(first, 0)]
    steps = list(map(sub, islice(times, 1, None), times))
    largest = max(steps)
    width = next(width for width in _STEPS if largest < 1 << 8 * width)
    return [_TIMES.pack(first, width), _to_bytes(array(_STEPS[width], steps))]


def _decode_times(data: bytes, i: int, count: int) -> tuple[list[int], int]:
    first, width = _TIMES.unpack_from(data, i)
    i += _TIMES.size
    if not width:
        return [first] * count, i
    if width not in _STEPS:
        raise WireCorruptError(f"frame with event times in steps of {width} bytes")
    steps = _from_bytes(_STEPS[width], data, i, count - 1)
    times = list(accumulate(steps, initial=first))
    if times[-1] > _LATEST:
        raise WireCorruptError(f"frame with event times up to {times[-1]}")
    return times, i + width * (count - 1)


def _decode_controls(
    data: bytes, i: int, count: int, *, has_times: bool
) -> tuple[tuple[int, ...], int]:
    end = i + (count + 7) // 8
    bits = int.from_bytes(data[i:end], "little")
    if not has_times or not bits or bits >> count:
        raise WireCorruptError(f"frame of {count} records with the control bits {bits:x}")
    return tuple(index for index in range(count) if bits >> index & 1), end


def _to_bytes(column: array[int]) -> bytes:
    if not _IS_LITTLE:
        column.byteswap()
    return column.tobytes()


def _from_bytes(typecode: str, data: bytes, i: int, count: int) -> array[int]:
    column: array[int] = array(typecode)
    column.frombytes(data[i : i + count * column.itemsize])
    if len(column) != count:
        raise WireCorruptError(f"frame of {len(data)} bytes ends within a column")
    if not _IS_LITTLE:
        column.byteswap()
    return column
