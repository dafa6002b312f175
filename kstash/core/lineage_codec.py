"""Bytes of lineage: a chunk in a header, or the body of a segment (layout: wire-format.md).

Garbage gives `WireCorruptError`, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kstash.core.determinants import Attachment, Consumed, Determinant, Fired, end_of
from kstash.errors import WireCorruptError

# Written into topics: never change a value, only add.
VERSION = 1
_KIND_RUN, _KIND_FIRED, _KIND_ATTACHMENT, _KIND_RUN_AFTER_GAP = 0, 1, 2, 3


class Lineage(NamedTuple):
    """Determinants of the positions `[start, end)`: a chunk or the body of a segment."""

    start: int
    end: int
    entries: tuple[Determinant, ...]


def encode_lineage(start: int, end: int, entries: Sequence[Determinant]) -> bytes:
    """Encode determinants of `[start, end)`; a run that continues the last one takes 3 bytes."""
    out = bytearray((VERSION,))
    write_varint(out, start)
    write_varint(out, end - start)
    at = start
    ends: dict[int, int] = {}
    for entry in entries:
        gap = entry.position - at
        if isinstance(entry, Consumed):
            write_varint(out, entry.input << 2 | (_KIND_RUN_AFTER_GAP if gap else _KIND_RUN))
            if gap:
                write_varint(out, gap)
            write_varint(out, entry.count)
            step = entry.end_offset - ends.get(entry.input, 0)
            write_varint(out, step << 1 if step >= 0 else (-step << 1) - 1)
            ends[entry.input] = entry.end_offset
        elif isinstance(entry, Fired):
            write_varint(out, _KIND_FIRED)
            write_varint(out, gap)
            write_varint(out, entry.timer)
            write_varint(out, entry.now_ms)
        else:
            write_varint(out, _KIND_ATTACHMENT)
            write_varint(out, gap)
            write_varint(out, entry.index)
            write_varint(out, entry.k)
            write_varint(out, entry.kind)
            write_varint(out, len(entry.payload))
            out += entry.payload
        at = end_of(entry)
    return bytes(out)


def decode_lineage(data: bytes) -> Lineage:
    """Decode what `encode_lineage` wrote.

    Raises:
        WireCorruptError: unknown version or kind, truncated, trailing bytes, or out of its range.
    """
    if not data or data[0] != VERSION:
        raise WireCorruptError(f"lineage of version {data[0] if data else None}, known: {VERSION}")
    try:
        start, i = read_varint(data, 1)
        length, i = read_varint(data, i)
        entries: list[Determinant] = []
        at = start
        ends: dict[int, int] = {}
        while i < len(data):
            entry, i = _decode_determinant(data, i, at, ends)
            entries.append(entry)
            at = end_of(entry)
    except IndexError as error:
        raise WireCorruptError(f"lineage of {len(data)} bytes ends early") from error
    if at > start + length:
        raise WireCorruptError(f"lineage of [{start}, {start + length}) covers up to {at}")
    return Lineage(start, start + length, tuple(entries))


def _decode_determinant(
    data: bytes, i: int, at: int, ends: dict[int, int]
) -> tuple[Determinant, int]:
    tag, i = read_varint(data, i)
    kind = tag & 3
    if kind in (_KIND_RUN, _KIND_RUN_AFTER_GAP):
        gap = 0
        if kind == _KIND_RUN_AFTER_GAP:
            gap, i = read_varint(data, i)
        count, i = read_varint(data, i)
        step, i = read_varint(data, i)
        end = ends.get(tag >> 2, 0) + (-((step + 1) >> 1) if step & 1 else step >> 1)
        if count == 0:
            raise WireCorruptError("lineage with an empty run")
        ends[tag >> 2] = end
        return Consumed(at + gap, tag >> 2, count, end), i
    if tag == _KIND_FIRED:
        gap, i = read_varint(data, i)
        timer, i = read_varint(data, i)
        now_ms, i = read_varint(data, i)
        return Fired(at + gap, timer, now_ms), i
    if tag != _KIND_ATTACHMENT:
        raise WireCorruptError(f"lineage with an unknown kind {tag}")
    gap, i = read_varint(data, i)
    index, i = read_varint(data, i)
    k, i = read_varint(data, i)
    kind, i = read_varint(data, i)
    length, i = read_varint(data, i)
    if i + length > len(data):
        raise WireCorruptError(f"lineage of {len(data)} bytes ends within a payload of {length}")
    return Attachment(at + gap, index, k, kind, data[i : i + length]), i + length


def write_varint(out: bytearray, value: int) -> None:
    """Append an unsigned LEB128 integer."""
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def read_varint(data: bytes, i: int) -> tuple[int, int]:
    """Return the integer at index `i` and the index behind it.

    Raises:
        WireCorruptError: longer than 10 bytes (no 64-bit integer needs more).
        IndexError: truncated.
    """
    value = shift = 0
    while True:
        byte = data[i]
        i += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, i
        shift += 7
        if shift > 63:
            raise WireCorruptError("an integer of more than 10 bytes")
