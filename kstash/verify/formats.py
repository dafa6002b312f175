"""Decoders of the wire format for the checker. What does not decode raises `UnreadableError`."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from kstash.verify.bodies import BODIES, Program

IDENTITY, LINEAGE, MARKER = "__kstash.s", "__kstash.l", "__kstash.m"
NULL = 0xFFFFFFFF

KINDS = {
    1: "config",
    2: "claim",
    3: "seal",
    4: "start",
    5: "release",
    6: "run",
    7: "segment",
    8: "hint",
    9: "checkpoint",
}

_IDENTITY = struct.Struct(">BQHIQQQIQ")
_FENCED = struct.Struct(">IQQ")


class UnreadableError(ValueError):
    """Bytes that do not follow the wire format."""


class Identity(NamedTuple):
    """The header `__kstash.s`."""

    version: int
    application: int
    stage: int
    partition: int
    generation: int
    claim: int
    position: int
    records: int
    first: int


class Record(NamedTuple):
    """A record of the lineage topic: the fields of its key, and its body (bytes for a segment)."""

    kind: str
    incarnation: tuple[int, int]
    task: tuple[int, int] | None
    number: int
    body: Any


def header(headers: Iterable[tuple[str, bytes | None]] | None, name: str) -> bytes | None:
    """The value of a header; None without it."""
    return next((value or b"" for found, value in headers or () if found == name), None)


def identity(data: bytes) -> Identity:
    """Decode an identity header."""
    if len(data) != _IDENTITY.size:
        raise UnreadableError(f"identity of {len(data)} bytes")
    found = Identity(*_IDENTITY.unpack(data))
    if found.version != 1:
        raise UnreadableError(f"identity of version {found.version}")
    if not found.records or not found.first:
        raise UnreadableError("identity without records")
    return found


def fenced(data: bytes) -> tuple[int, list[tuple[int, int, int]]]:
    """(Application tag, [(group, generation, claim)]) of a marker; an END fences nobody."""
    body = _checked(data)
    if len(body) < 10 or body[0] != 1 or body[1] not in (1, 2):
        raise UnreadableError("marker of an unknown version or kind")
    (tag,) = struct.unpack_from(">Q", body, 2)
    rest = body[10:]
    if body[1] == 2:
        if len(rest) != 46:
            raise UnreadableError(f"END of {len(rest)} bytes")
        return tag, []
    if len(rest) % _FENCED.size:
        raise UnreadableError("FENCE that is cut off")
    return tag, list(_FENCED.iter_unpack(rest))


def check_frame(data: bytes | None, count: int) -> None:
    """Check that a frame holds exactly the number of records in its identity, and nothing else."""
    if data is None or len(data) < 6 or data[0] != 1:
        raise UnreadableError("no frame, or one of an unknown version")
    flags, found = data[1], struct.unpack_from("<I", data, 2)[0]
    if flags & ~31 or flags & 24 == 16 or found != count:
        raise UnreadableError(f"frame of {found} records with flags {flags}, {count} expected")
    at = _column(data, 6, count)
    if flags & 1:
        at = _column(data, at, count)
    at += 8 if flags & 4 else 8 * count
    if flags & 2:
        at = _column(data, at, count)
    if flags & 8:
        # The first event time, the width of a step, and the steps.
        width = data[at + 8] if len(data) > at + 8 else 9
        if width not in (0, 1, 2, 4, 8):
            raise UnreadableError("frame with event times in steps of an unknown width")
        at += 9 + width * (count - 1)
    if flags & 16:
        at += (count + 7) // 8
    if at != len(data):
        raise UnreadableError(f"frame of {len(data)} bytes, {at} expected")


def _column(data: bytes, at: int, count: int) -> int:
    try:
        lengths = struct.unpack_from(f"<{count}I", data, at)
    except struct.error as error:
        raise UnreadableError("frame that is cut off") from error
    size: int = sum(length for length in lengths if length != NULL)
    return at + 4 * count + size


class ReadRun(NamedTuple):
    """Records of one input in a lineage: the position and the offset after the last one."""

    input: int
    position: int
    offset: int


def check_chunk(data: bytes) -> list[ReadRun]:
    """Walk through a lineage; returns its runs, and what merged batches took of each input."""
    if not data or data[0] not in (1, 2):
        raise UnreadableError("lineage of an unknown version")
    start, at = _varint(data, 1)
    length, at = _varint(data, at)
    # The position that gaps are counted from, and the one that all entries reach.
    position = reached = start
    runs: list[ReadRun] = []
    ends: dict[int, int] = {}
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 3
        if kind in (0, 3):
            gap = 0
            if kind == 3:
                gap, at = _varint(data, at)
            count, at = _varint(data, at)
            position += gap + count
            at = _end(data, at, tag >> 2, ends)
            runs.append(ReadRun(tag >> 2, position, ends[tag >> 2]))
        elif tag == 2:
            gap, at = _varint(data, at)
            at = _payload(data, _skipped(data, at, 3))
            position += gap
        elif kind == 1 and data[0] == 2:
            gap, at = _varint(data, at)
            position += gap
            count, at = _event(data, at, tag >> 2, position=position, ends=ends, runs=runs)
            reached = max(reached, position + count)
            position += 0 if tag >> 2 == _MERGED else count
        else:
            raise UnreadableError(f"lineage entry with tag {tag}")
        reached = max(reached, position)
    if at != len(data) or reached > start + length:
        raise UnreadableError("lineage that goes beyond its end")
    return runs


_MERGED, _COMPLETED = 1, 6  # 2 is reserved
_NUMBERS = {3: 1, 4: 1, 5: 2}
"""How many numbers the other events of version 2 have after their gap: tick, flush, idle."""


def _event(
    data: bytes, at: int, kind: int, *, position: int, ends: dict[int, int], runs: list[ReadRun]
) -> tuple[int, int]:
    """Walk through an event of version 2; returns how many positions it covers, and where next."""
    if kind == _COMPLETED:
        return 1, _payload(data, _skipped(data, at, 2))
    if kind in _NUMBERS:
        return 1, _skipped(data, at, _NUMBERS[kind])
    if kind != _MERGED:
        raise UnreadableError(f"lineage event of kind {kind}")
    parts, at = _varint(data, at)
    total = 0
    taken: list[tuple[int, int]] = []
    for _ in range(parts):
        source, at = _varint(data, at)
        count, at = _varint(data, at)
        at = _skipped(data, _end(data, at, source, ends), 2)
        total += count
        taken.append((source, ends[source]))
    # Which record was the last one of its input, only the records say.
    runs += [ReadRun(source, position + total, offset) for source, offset in taken]
    return total, at


def _end(data: bytes, at: int, source: int, ends: dict[int, int]) -> int:
    step, at = _varint(data, at)
    ends[source] = ends.get(source, 0) + (step >> 1 ^ -(step & 1))
    return at


def _skipped(data: bytes, at: int, count: int) -> int:
    for _ in range(count):
        _, at = _varint(data, at)
    return at


def _payload(data: bytes, at: int) -> int:
    size, at = _varint(data, at)
    return at + size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise UnreadableError("number that is cut off")


def lineage_record(key: bytes | None, value: bytes) -> Record:
    """Decode a record of the lineage topic that is no tombstone."""
    key = key or b""
    if len(key) < 17 or key[16] not in KINDS:
        raise UnreadableError("key of no known kind")
    generation, claim = struct.unpack_from(">QQ", key)
    kind, rest = KINDS[key[16]], key[17:]
    body = _checked(value)
    known = (1, 2) if kind in ("start", "checkpoint", "run") else (1,)
    if len(body) < 2 or body[0] not in known or body[1] != key[16]:
        raise UnreadableError("value of another version or kind than its key")
    task, number = None, 0
    if kind in ("segment", "hint", "checkpoint"):
        if len(rest) != 14:
            raise UnreadableError("key without a task")
        stage, partition, number = struct.unpack(">HIQ", rest)
        task = stage, partition
    content: Any = body[2:]
    if kind == "segment":
        check_chunk(content)
    else:
        try:
            content = msgspec.json.decode(content, type=BODIES[kind])
        except (ValueError, RecursionError) as error:
            raise UnreadableError(f"{kind} with a body of its own: {_first_line(error)}") from error
    return Record(kind, (generation, claim), task, number, content)


def program(text: str) -> Program:
    """Decode the program of a START."""
    try:
        return msgspec.json.decode(text, type=Program)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"program that does not decode: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0][:200]


def _checked(data: bytes) -> bytes:
    if len(data) < 4 or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "big"):
        raise UnreadableError("checksum that does not fit")
    return data[:-4]
