"""What the checkers know: true histories, durable lineage, and what readers have accepted."""

from __future__ import annotations

from typing import Any

from tests.simulation.programs import Value, mix

Task = tuple[int, int]
Inc = tuple[int, int]
Place = tuple[str, int]

RECORD, TICK, FLUSH, IDLE, COMPLETED = "record", "tick", "flush", "idle", "completed"

UNBOUNDED = 1 << 60
"""Above every position."""

Free = list[tuple[int, int]]
"""Ranges `[first, end)` of positions that were made without a log."""

Event = tuple[str, int, int, int, tuple[Any, ...], tuple[tuple[int, int, int, bytes], ...]]
"""RECORD: (kind, input, offset, records cut off its head, records, attachments). Others, where 0,
0 and twice nothing stand for what a record has: TICK: (kind, now, …); FLUSH:
(kind, operator, …); IDLE: (kind, input, now, …); COMPLETED: in place of the records the name of the
call and the incarnation whose answer it has."""


def plain(kind: str, a: int = 0, b: int = 0) -> Event:
    """An event that is no record."""
    return kind, a, b, 0, (), ()


def completion(call: bytes, inc: Inc) -> Event:
    """The event that a call was answered."""
    return COMPLETED, 0, 0, 0, (call, tuple(inc)), ()


class ViolationError(AssertionError):
    """An invariant does not hold."""

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant


def seed_of(inc: Inc) -> int:
    """Return the seed of an incarnation for `ctx.random()`."""
    return mix(mix(7, inc[0]), inc[1])


class Coverage:
    """Which events of one history follow from durable records: all below `end` do."""

    __slots__ = ("end", "events", "free", "notes", "prefix", "truth")

    def __init__(
        self, truth: list[Event], end: int, *, free: Free, prefix: list[Event] | None = None
    ) -> None:
        self.truth = truth
        self.prefix: list[Event] = [] if prefix is None else prefix
        self.end = end
        self.free = free
        self.events: set[int] = set()
        self.notes: set[tuple[int, int, int]] = set()

    def whole(self) -> list[Event]:
        """Return the adopted history and what the incarnation did after it."""
        if not self.prefix:
            return self.truth
        if len(self.truth) <= len(self.prefix):
            return self.prefix
        return self.prefix + self.truth[len(self.prefix) :]

    def add(self, entries: Any) -> str | None:
        """Take lineage into account; returns what is wrong with it."""
        truth = self.whole()
        for entry in entries:
            name = type(entry).__name__
            position = entry.position
            if position >= len(truth):
                return f"{entry} of an event that was never processed"
            if name == "Consumed":
                if position + entry.count > len(truth):
                    return f"{entry} of events that were never processed"
                for p in range(position, position + entry.count):
                    if truth[p][0] != RECORD or truth[p][1] != entry.input:
                        return f"{entry}, but event {p} was {truth[p]}"
                    self.events.add(p)
                last = truth[position + entry.count - 1]
                if entry.end_offset >= 0 and last[2] >= entry.end_offset:
                    return f"{entry}, but its last record was {last}"
            elif name == "MergedBatch":
                wrong = self._add_merged(entry)
                if wrong is not None:
                    return wrong
            elif name != "Attachment":
                if truth[position] != _event_of(name, entry):
                    return f"{entry}, but the event was {truth[position]}"
                self.events.add(position)
            else:
                note = (entry.index, entry.k, entry.kind, entry.payload)
                if note not in truth[position][5]:
                    return f"{entry}, but the event was {truth[position]}"
                self.notes.add((position, entry.index, entry.k))
        self.advance()
        return None

    def _add_merged(self, entry: Any) -> str | None:
        truth = self.whole()
        parts = [_part_of(part) for part in entry.parts]
        taken: dict[int, list[Event]] = {}
        for p in range(entry.position, entry.position + sum(part[1] for part in parts)):
            if p >= len(truth) or truth[p][0] != RECORD:
                return f"{entry}, but event {p} was no record"
            taken.setdefault(truth[p][1], []).append(truth[p])
            self.events.add(p)
        for source, count, offset, within in parts:
            found = taken.pop(source, [])
            last = found[-1][2] if found else -1
            if len(found) != count or last != (offset if within else offset - 1):
                return f"{entry}, but of input {source} there were {found}"
        return f"{entry}, but there were {taken} too" if taken else None

    def advance(self) -> int:
        """Move `end` over everything that is covered; returns it."""
        truth = self.truth  # `end` lies after the adopted prefix from the beginning
        end = self.end
        while end < len(truth):
            event = truth[end]
            follows = event[0] == RECORD and any(a <= end < b for a, b in self.free)
            if not follows and end not in self.events:
                break
            if event[5] and not all((end, a[0], a[1]) in self.notes for a in event[5]):
                break
            end += 1
        self.end = end
        return end


def _part_of(part: Any) -> tuple[int, int, int, int]:
    """What an entry took of an input, of a chunk (as understood here) or of a segment."""
    if isinstance(part, tuple):
        return part[:4]
    return part.input, part.count, part.place.offset, part.place.taken


def _event_of(name: str, entry: Any) -> Event:
    """What an entry says that the event was."""
    if name == "Tick":
        return plain(TICK, entry.now_ms)
    if name == "Flush":
        return plain(FLUSH, entry.operator)
    if name == "Completed":
        return completion(entry.call, entry.incarnation)
    assert name == "Idle", name
    return plain(IDLE, entry.input, entry.now_ms)


class OnlineReader:
    """A reader with the reader rule that takes each record as it lands."""

    __slots__ = ("accepted", "by_task", "fences", "last", "offsets")

    def __init__(self) -> None:
        self.fences: dict[int, Inc] = {}
        self.last: dict[Task, int] = {}
        self.accepted: list[tuple[int, int, tuple[Value, ...]]] = []
        self.by_task: dict[Task, list[Value]] = {}
        self.offsets: dict[int, Any] = {}

    def raise_fence(self, group: int, inc: Inc) -> None:
        """A higher incarnation was seen; with a higher generation all starts over."""
        known = self.fences.get(group)
        self.fences[group] = inc
        if known is not None and known[0] < inc[0]:
            for task in [t for t in self.last if t[1] == group]:
                self.last[task] = 0
                self.by_task[task] = []


class PlainReader:
    """A `read_committed` reader without any rule."""

    __slots__ = ("by_task", "position")

    def __init__(self) -> None:
        self.position = 0
        self.by_task: dict[Task, list[Value]] = {}


class StartInfo:
    """A START as it landed: by stage the base, the adopted end, and whether the task logs."""

    __slots__ = ("inc", "parent", "tasks")

    def __init__(
        self, inc: Inc, parent: Inc | None, tasks: dict[int, tuple[int, int, bool]]
    ) -> None:
        self.inc = inc
        self.parent = parent
        self.tasks = tasks


class CheckpointInfo:
    """A checkpoint that counts, with what was visible when its record landed."""

    __slots__ = ("history", "record", "state", "visible")

    def __init__(
        self, record: Any, state: Any, history: list[Event], visible: dict[tuple[int, int], int]
    ) -> None:
        self.record = record
        self.state = state
        self.history = history
        self.visible = visible
