"""Bytes of lineage: a chunk in a header, or the body of a segment (layout: wire-format.md).

Garbage gives `WireCorruptError`, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from kstash.core.determinants import (
    Attachment,
    Completed,
    Consumed,
    Determinant,
    EventEntry,
    Flush,
    Idle,
    InputPlace,
    MergedBatch,
    MergedInput,
    Tick,
    end_of,
)
from kstash.core.ids import Incarnation
from kstash.errors import WireCorruptError

# Written into topics: never change a value, only add.
RECORDS_VERSION, EVENTS_VERSION = 1, 2
"""Where only records and attachments occur, version 1 is written: older releases read that too."""

_RUN, _EVENT, _ATTACHMENT, _RUN_AFTER_GAP = 0, 1, 2, 3
# Version 2 has the kind of an event above these two bits. Version 1 had one kind, 0, which no
# release has ever written.
# 2 was never written by a release; it stays reserved.
_MERGED, _TICK, _FLUSH, _IDLE, _COMPLETED = 1, 3, 4, 5, 6
_KINDS: dict[type[EventEntry], int] = {
    MergedBatch: _MERGED,
    Tick: _TICK,
    Flush: _FLUSH,
    Idle: _IDLE,
    Completed: _COMPLETED,
}


class Lineage(NamedTuple):
    """Determinants of the positions `[start, end)`: a chunk or the body of a segment.

    Attributes:
        start: of the first position.
        end: above `start`, or equal to it where nothing is said.
        entries: in order, within `[start, end)`; what none covers follows by itself.
    """

    start: int
    end: int
    entries: tuple[Determinant, ...]


def encode_lineage(start: int, end: int, entries: Sequence[Determinant]) -> bytes:
    """Encode determinants of `[start, end)`; a run that continues the last one takes 3 bytes."""
    out = bytearray((RECORDS_VERSION,))
    write_varint(out, start)
    write_varint(out, end - start)
    last: _Last | None = None
    at = start
    ends: dict[int, int] = {}
    for entry in entries:
        gap = entry.position - at
        # Most are runs, and made for each output that leaves: no call for one.
        if isinstance(entry, Consumed):
            source, offset = entry.input, entry.end_offset
            write_varint(out, source << 2 | (_RUN_AFTER_GAP if gap else _RUN))
            if gap:
                write_varint(out, gap)
            write_varint(out, entry.count)
            step = offset - ends.get(source, 0)
            write_varint(out, step << 1 if step >= 0 else (-step << 1) - 1)
            ends[source] = offset
            at = entry.position + entry.count
            continue
        if isinstance(entry, Attachment):
            write_varint(out, _ATTACHMENT)
            write_varint(out, gap)
            for number in (entry.index, entry.k, entry.kind):
                write_varint(out, number)
            _write_bytes(out, entry.payload)
        else:
            out[0] = EVENTS_VERSION
            write_varint(out, _KINDS[type(entry)] << 2 | _EVENT)
            write_varint(out, gap)
            last = last or _Last(ends)
            _write_event(out, entry, last)
        at = _next_at(entry)
    return bytes(out)


def decode_lineage(data: bytes) -> Lineage:
    """Decode what `encode_lineage` wrote.

    Raises:
        WireCorruptError: unknown version or kind, truncated, trailing bytes, or out of its range.
    """
    if not data or data[0] not in (RECORDS_VERSION, EVENTS_VERSION):
        raise WireCorruptError(
            f"lineage of version {data[0] if data else None}, known: {RECORDS_VERSION}, "
            f"{EVENTS_VERSION}"
        )
    try:
        return _Reader(data).lineage()
    except IndexError as error:
        raise WireCorruptError(f"lineage of {len(data)} bytes ends early") from error


class _Last:
    """What entries of a lineage are written as differences to.

    Attributes:
        ends: by input, where its last run or part of a merged batch ended.
        times: by input, the time of the last place of a merged batch.
        now_ms: what the clock said last.
    """

    __slots__ = ("ends", "now_ms", "times")

    def __init__(self, ends: dict[int, int]) -> None:
        self.ends = ends
        self.times: dict[int, int] = {}
        self.now_ms = 0


def _next_at(entry: Determinant) -> int:
    """Position that the next entry's gap is counted from."""
    # Attachments of events within a merged batch stand after the whole of it.
    return entry.position if isinstance(entry, MergedBatch) else end_of(entry)


def _write_event(out: bytearray, entry: EventEntry, last: _Last) -> None:
    match entry:
        case MergedBatch():
            write_varint(out, len(entry.parts))
            for part in entry.parts:
                _write_part(out, part, last)
        case Tick():
            _write_time(out, entry.now_ms, last)
        case Flush():
            write_varint(out, entry.operator)
        case Idle():
            write_varint(out, entry.input)
            _write_time(out, entry.now_ms, last)
        case Completed():
            write_varint(out, entry.incarnation.generation)
            write_varint(out, entry.incarnation.offset)
            _write_bytes(out, entry.call)


def _write_part(out: bytearray, part: MergedInput, last: _Last) -> None:
    source, place = part.input, part.place
    write_varint(out, source)
    write_varint(out, part.count)
    _write_signed(out, place.offset - last.ends.get(source, 0))
    write_varint(out, place.taken)
    _write_signed(out, place.timestamp_ms - last.times.get(source, 0))
    last.ends[source] = place.offset
    last.times[source] = place.timestamp_ms


def _write_time(out: bytearray, now_ms: int, last: _Last) -> None:
    _write_signed(out, now_ms - last.now_ms)
    last.now_ms = now_ms


def _write_bytes(out: bytearray, data: bytes) -> None:
    write_varint(out, len(data))
    out += data


def _write_signed(out: bytearray, number: int) -> None:
    write_varint(out, number << 1 if number >= 0 else (-number << 1) - 1)


class _Reader:
    """Bytes on their way to a lineage: how far they were read, and what came last.

    Args:
        data: all of them; the first one is the version.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        # Index of the next byte.
        self._i = 1
        # Position from which the next entry counts its own.
        self._at = 0
        # What entries say differences to.
        self._last = _Last({})

    def lineage(self) -> Lineage:
        start = self._number()
        end = start + self._number()
        entries: list[Determinant] = []
        self._at = reached = start
        while self._i < len(self._data):
            entry = self._entry()
            entries.append(entry)
            self._at = _next_at(entry)
            reached = max(reached, end_of(entry))
        if reached > end:
            raise WireCorruptError(f"lineage of [{start}, {end}) covers up to {reached}")
        return Lineage(start, end, tuple(entries))

    def _entry(self) -> Determinant:
        tag = self._number()
        low = tag & 3
        if low in (_RUN, _RUN_AFTER_GAP):
            position = self._at + (self._number() if low == _RUN_AFTER_GAP else 0)
            count = self._count("an empty run")
            return Consumed(position, tag >> 2, count, self._end(tag >> 2))
        if tag == _ATTACHMENT:
            position = self._at + self._number()
            index, k, kind = self._number(), self._number(), self._number()
            return Attachment(position, index, k, kind, self._bytes())
        if low == _EVENT and self._data[0] == EVENTS_VERSION:
            return self._event(tag >> 2, self._at + self._number())
        raise WireCorruptError(f"lineage with an unknown kind {tag}")

    def _event(self, kind: int, position: int) -> EventEntry:
        if kind == _MERGED:
            parts = tuple(self._part() for _ in range(self._count("a batch of no inputs")))
            if any(a.input >= b.input for a, b in pairwise(parts)):
                raise WireCorruptError("lineage with inputs of a merged batch out of order")
            return MergedBatch(position, parts)
        if kind == _TICK:
            return Tick(position, self._clock())
        if kind == _FLUSH:
            return Flush(position, self._number())
        if kind == _IDLE:
            return Idle(position, self._number(), self._clock())
        if kind == _COMPLETED:
            incarnation = Incarnation(self._number(), self._number())
            return Completed(position, self._bytes(), incarnation)
        raise WireCorruptError(f"lineage with an unknown event {kind}")

    def _part(self) -> MergedInput:
        source, count = self._number(), self._count("an empty part")
        offset, taken = self._end(source), self._number()
        time = self._last.times.get(source, 0) + self._signed()
        self._last.times[source] = time
        return MergedInput(source, count, InputPlace(offset, taken, time))

    def _number(self) -> int:
        number, self._i = read_varint(self._data, self._i)
        return number

    def _signed(self) -> int:
        number = self._number()
        return -((number + 1) >> 1) if number & 1 else number >> 1

    def _count(self, what: str) -> int:
        count = self._number()
        if count == 0:
            raise WireCorruptError(f"lineage with {what}")
        return count

    def _end(self, source: int) -> int:
        end = self._last.ends.get(source, 0) + self._signed()
        self._last.ends[source] = end
        return end

    def _clock(self) -> int:
        self._last.now_ms += self._signed()
        return self._last.now_ms

    def _bytes(self) -> bytes:
        data, i = self._data, self._i
        length, i = read_varint(data, i)
        self._i = i + length
        if self._i > len(data):
            raise WireCorruptError(
                f"lineage of {len(data)} bytes ends within a payload of {length}"
            )
        return data[i : self._i]


def write_varint(out: bytearray, value: int) -> None:
    """Append an unsigned LEB128 integer."""
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def read_varint(data: bytes, i: int) -> tuple[int, int]:
    """Return the integer at index `i` and the index after it.

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
