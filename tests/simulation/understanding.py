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
class Steps:
    """Steps of unfinished work."""

    position: int
    count: int


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
class Attachment:
    """A clock read or call result within an event."""

    position: int
    index: int
    k: int
    kind: int
    payload: bytes


Entry = Consumed | Steps | Tick | Flush | Idle | Attachment


def understand(data: bytes) -> tuple[int, int, list[Entry]]:
    """Return (start, end, entries) of a lineage header."""
    assert data[0] in (1, 2), "version"
    i = 1

    def number() -> int:
        nonlocal i
        value = shift = 0
        while data[i] & 0x80:
            value |= (data[i] & 0x7F) << shift
            shift += 7
            i += 1
        value |= data[i] << shift
        i += 1
        return value

    start = at = number()
    length = number()
    entries: list[Entry] = []
    last_end: dict[int, int] = {}
    clock = 0

    def signed() -> int:
        step = number()
        return step >> 1 if step % 2 == 0 else -(step + 1 >> 1)

    while i < len(data):
        tag = number()
        if tag & 3 in (0, 3):
            at += number() if tag & 3 == 3 else 0
            source, count = tag >> 2, number()
            end = last_end.get(source, 0) + signed()
            last_end[source] = end
            entries.append(Consumed(at, source, count, end))
            at += count
        elif tag & 3 == 1:
            assert data[0] == 2
            at += number()
            kind = tag >> 2
            if kind == 2:
                steps = Steps(at, number())
                entries.append(steps)
                at += steps.count - 1
            elif kind == 3:
                clock += signed()
                entries.append(Tick(at, clock))
            elif kind == 4:
                entries.append(Flush(at, number()))
            else:
                assert kind == 5
                source = number()
                clock += signed()
                entries.append(Idle(at, source, clock))
            at += 1
        else:
            at += number()
            head = number(), number(), number()
            size = number()
            entries.append(Attachment(at, *head, data[i : i + size]))
            i += size
    return start, start + length, entries
