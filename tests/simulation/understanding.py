"""The checkers' own decoder of chunks, written from wire-format.md and not from the core."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Consumed:
    """Records of one input at `[position, position + count)`, the last below `end_offset`."""

    position: int
    input: int
    count: int
    end_offset: int


@dataclass(slots=True)
class MergedBatch:
    """Of each input: (input, count, offset, records of it that were taken, time)."""

    position: int
    parts: list[tuple[int, int, int, int, int]]


@dataclass(slots=True)
class Tick:
    """The clock said so."""

    position: int
    now_ms: int


@dataclass(slots=True)
class Flush:
    """An operator sent what it had kept."""

    position: int
    operator: int


@dataclass(slots=True)
class Idle:
    """An input was at its end."""

    position: int
    input: int
    now_ms: int


@dataclass(slots=True)
class Completed:
    """A call has the answer of an incarnation."""

    position: int
    call: bytes
    incarnation: tuple[int, int]


@dataclass(slots=True)
class Attachment:
    """A clock read or call result within an event."""

    position: int
    index: int
    k: int
    kind: int
    payload: bytes


Entry = Consumed | MergedBatch | Tick | Flush | Idle | Completed | Attachment


def understand(data: bytes) -> tuple[int, int, list[Entry]]:
    """Return (start, end, entries) of a lineage header."""
    return Understanding(data).lineage()


class Understanding:
    """Bytes that are being read."""

    def __init__(self, data: bytes) -> None:
        assert data[0] in (1, 2), "version"
        self.data = data
        self.i = 1
        self.clock = 0
        self.last_end: dict[int, int] = {}
        self.last_time: dict[int, int] = {}

    def number(self) -> int:
        """A number without sign."""
        value = shift = 0
        while self.data[self.i] & 0x80:
            value |= (self.data[self.i] & 0x7F) << shift
            shift += 7
            self.i += 1
        value |= self.data[self.i] << shift
        self.i += 1
        return value

    def signed(self) -> int:
        """A number with a sign."""
        step = self.number()
        return step >> 1 if step % 2 == 0 else -(step + 1 >> 1)

    def bytes(self) -> bytes:
        """So many of them."""
        size = self.number()
        self.i += size
        return self.data[self.i - size : self.i]

    def end(self, source: int) -> int:
        """Where an input ended, as the difference to its last end."""
        self.last_end[source] = self.last_end.get(source, 0) + self.signed()
        return self.last_end[source]

    def now(self) -> int:
        """What the clock said."""
        self.clock += self.signed()
        return self.clock

    def lineage(self) -> tuple[int, int, list[Entry]]:
        """All of it."""
        start = at = self.number()
        length = self.number()
        entries: list[Entry] = []
        while self.i < len(self.data):
            tag = self.number()
            if tag & 3 in (0, 3):
                at += self.number() if tag & 3 == 3 else 0
                source, count = tag >> 2, self.number()
                entries.append(Consumed(at, source, count, self.end(source)))
                at += count
            elif tag & 3 == 1:
                assert self.data[0] == 2
                at += self.number()
                entry = self.event(tag >> 2, at)
                entries.append(entry)
                if not isinstance(entry, MergedBatch):
                    at += 1
            else:
                at += self.number()
                head = self.number(), self.number(), self.number()
                entries.append(Attachment(at, *head, self.bytes()))
        return start, start + length, entries

    def event(self, kind: int, at: int) -> MergedBatch | Tick | Flush | Idle | Completed:
        """What is no record."""
        if kind == 1:
            return MergedBatch(at, [self.part() for _ in range(self.number())])
        if kind == 3:
            return Tick(at, self.now())
        if kind == 4:
            return Flush(at, self.number())
        if kind == 6:
            incarnation = self.number(), self.number()
            return Completed(at, self.bytes(), incarnation)
        assert kind == 5
        return Idle(at, self.number(), self.now())

    def part(self) -> tuple[int, int, int, int, int]:
        """Of one input of a merged batch."""
        source, count = self.number(), self.number()
        offset, within = self.end(source), self.number()
        self.last_time[source] = self.last_time.get(source, 0) + self.signed()
        return source, count, offset, within, self.last_time[source]
