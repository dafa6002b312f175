"""A slow and obvious model of windows: section 2 of the design, record by record.

It shares no code with kstash. A window is the list of the values that it took; a fold looks at all
of them each time. Nothing is ever forgotten, closed is only a comparison with the time. Spelled
out: a record first moves the time of its operator, then what this closed leaves (`emit="final"`),
then the record goes into its windows. So it judges kstash, and Kafka Streams judges it.

`Chain(case["ops"])` takes one record after the other and returns what leaves for each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

Value = int | list[int | None] | dict[str, Any] | None
Fold = Callable[[list[Any]], Value]

FOLDS: dict[str, Fold] = {
    "count": len,
    "sum": sum,
    "reduce": sum,  # the reducer is old + new
    "list": list,
    "min": min,
    "max": max,
    "all": lambda values: {
        "number": len(values),
        "total": sum(values),
        "first": values[0],
        "last": values[-1],
        "values_": list(values),
        "least": min(values),
    },
}


class Record(NamedTuple):
    """What an operator takes. `time` moves the operator's clock: 1.2 and 1.3 of the design."""

    key: str | None
    value: int | None
    timestamp: int
    time: int


class Result(NamedTuple):
    """What leaves an operator, with the time that it carries to the next one in its stage."""

    key: str
    start: int
    end: int
    value: Value
    timestamp: int
    time: int


class Late(NamedTuple):
    """A record that was dropped, and the windows that it missed."""

    record: Record
    windows: list[tuple[int, int]]


class Window:
    """The values that a window took, in the order in which they came, with their timestamps."""

    def __init__(self, key: str, start: int, end: int) -> None:
        self.key = key
        self.start = start
        self.end = end
        self.taken: list[tuple[int, int | None]] = []
        self.final_sent = False

    @property
    def timestamp(self) -> int:
        """The largest timestamp in the window."""
        return max(timestamp for timestamp, _ in self.taken)


class Operator(ABC):
    """What all kinds of windows share. A kind says where a record goes and when a window closes."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.grace: int = spec["grace"]
        self.final: bool = spec["emit"] != "update"
        self.counts: bool = spec["fold"] == "count"
        self.fold = FOLDS[spec["fold"]]
        self.time = -1
        self.windows: list[Window] = []
        self.dropped_nulls = 0
        self.late: list[Late] = []
        self.pairs_missed = 0

    def take(self, record: Record) -> list[Result]:
        """All that a record makes leave, in order."""
        if record.key is None or (record.value is None and not self.takes_null_values()):
            self.dropped_nulls += 1
            return []
        time = max(self.time, record.time)
        missed = self.missed(record, time)
        if missed is not None:
            self.late.append(Late(record, missed))
            self.pairs_missed += len(missed)
            return []
        self.time = time
        due = self.close()
        return due + self.put(record, record.key)

    def close(self) -> list[Result]:
        """The final results of all windows that the time has closed, time stepping from one on."""
        if not self.final:
            return []
        due = [w for w in self.windows if not w.final_sent and self.closed(w.end, self.time)]
        due.sort(key=self.closing_order)
        for window in due:
            window.final_sent = True
        return [self.result(window, self.closing_time(window.end)) for window in due]

    def closing_order(self, window: Window | Result) -> tuple[Any, ...]:
        """Windows that close together leave in the order (end, start, encoded key)."""
        return window.end, window.start, window.key.encode()

    def changed(self, window: Window) -> list[Result]:
        """What a window that took a record sends at once."""
        return [] if self.final else [self.result(window, self.time)]

    def result(self, window: Window, time: int) -> Result:
        """A window's result, at a time of the operator: behind it that is less by what it holds."""
        value = self.fold([value for _, value in window.taken])
        time -= self.held() if self.final else 0
        return Result(window.key, window.start, window.end, value, window.timestamp, time)

    def window(self, key: str, start: int, end: int) -> Window | None:
        """The window with these bounds, if there is one."""
        for window in self.windows:
            if (window.key, window.start, window.end) == (key, start, end):
                return window
        return None

    def closed(self, end: int, time: int) -> bool:
        """Whether a window with this end is closed at that time."""
        return time >= self.closing_time(end)

    def takes_null_values(self) -> bool:
        """Whether a null value is a record like any other."""
        return self.counts

    @abstractmethod
    def closing_time(self, end: int) -> int:
        """The first time at which a window with this end is closed."""

    @abstractmethod
    def held(self) -> int:
        """By how much the results of an operator that sends final ones are behind its time."""

    @abstractmethod
    def missed(self, record: Record, time: int) -> list[tuple[int, int]] | None:
        """The windows of a record all of whose windows are closed; None if one is open."""

    @abstractmethod
    def put(self, record: Record, key: str) -> list[Result]:
        """Put a record that is not late where it belongs; what it sends at once."""


class Aligned(Operator):
    """Tumbling and hopping windows: [start, end)."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self.size: int = spec["size"]
        self.advance: int = spec.get("advance", self.size)
        self.offset: int = spec.get("offset", 0)

    def closing_time(self, end: int) -> int:
        """Closed when time ≥ end + grace."""
        return end + self.grace

    def held(self) -> int:
        """Grace + size."""
        return self.grace + self.size

    def bounds(self, timestamp: int) -> list[tuple[int, int]]:
        """All windows around a timestamp, none with a negative start."""
        earliest = max(0, timestamp - self.size + 1)
        starts = (
            s for s in range(earliest, timestamp + 1) if (s - self.offset) % self.advance == 0
        )
        return [(start, start + self.size) for start in starts]

    def missed(self, record: Record, time: int) -> list[tuple[int, int]] | None:
        """Late when the last of its windows is closed."""
        bounds = self.bounds(record.timestamp)
        return bounds if all(self.closed(end, time) for _, end in bounds) else None

    def put(self, record: Record, key: str) -> list[Result]:
        """Into each window that is open; the others are pairs that it missed."""
        sent: list[Result] = []
        for start, end in self.bounds(record.timestamp):
            if self.closed(end, self.time):
                self.pairs_missed += 1
                continue
            window = self.window(key, start, end)
            if window is None:
                window = Window(key, start, end)
                self.windows.append(window)
            window.taken.append((record.timestamp, record.value))
            sent += self.changed(window)
        return sent


class Sliding(Operator):
    """Sliding windows: [start, start + size], one ending at each record and one behind each.

    The one behind a record, from 1 ms after it, is there as soon as it has a record. Instead of a
    window with a negative start an early record has [0, size].
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self.size: int = spec["size"]
        self.taken: dict[str, list[tuple[int, int | None]]] = {}

    def takes_null_values(self) -> bool:
        """A null value is dropped, by `count` too."""
        return False

    def closing_time(self, end: int) -> int:
        """Closed when time > end + grace."""
        return end + self.grace + 1

    def held(self) -> int:
        """Grace + size + 1 ms."""
        return self.grace + self.size + 1

    def starts(self, taken: Iterable[tuple[int, int | None]]) -> list[int]:
        """The windows that there are, for the records of one key."""
        timestamps = {timestamp for timestamp, _ in taken}
        left = {max(0, timestamp - self.size) for timestamp in timestamps}
        behind = {
            before + 1
            for before in timestamps
            if any(before < timestamp <= before + 1 + self.size for timestamp in timestamps)
        }
        return sorted(left | behind)

    def own(self, timestamp: int, others: list[int]) -> set[int]:
        """Where the windows begin that a record may make: at it, behind it and the one before."""
        before = [other for other in others if other < timestamp]
        return {max(0, timestamp - self.size), timestamp + 1} | {max(before, default=-1) + 1}

    def missed(self, record: Record, time: int) -> list[tuple[int, int]] | None:
        """Late when a window that began with the record would be closed: none ends later."""
        end = record.timestamp + self.size
        return [(record.timestamp, end)] if self.closed(end, time) else None

    def put(self, record: Record, key: str) -> list[Result]:
        """Each window that it is in or makes, with all records of the key between its ends."""
        taken = self.taken.setdefault(key, [])
        own = self.own(record.timestamp, [timestamp for timestamp, _ in taken])
        taken.append((record.timestamp, record.value))
        sent: list[Result] = []
        for start in self.starts(taken):
            end = start + self.size
            window = self.window(key, start, end)
            if window is None and start not in own:
                continue  # it was closed before it could begin
            if window is not None and not start <= record.timestamp <= end:
                continue
            if self.closed(end, self.time):
                self.pairs_missed += 1
                continue
            if window is None:
                window = Window(key, start, end)
                self.windows.append(window)
            window.taken = [entry for entry in taken if start <= entry[0] <= end]
            sent += self.changed(window)
        return sent


class Session(Operator):
    """Sessions: records with at most the gap between them, from the first to the last."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self.gap: int = spec["gap"]

    def closing_time(self, end: int) -> int:
        """Closed when time > end + gap + grace."""
        return end + self.gap + self.grace + 1

    def held(self) -> int:
        """Gap + grace + 1 ms."""
        return self.gap + self.grace + 1

    def near(self, record: Record, time: int) -> list[Window]:
        """The open sessions that a record belongs to: a distance of just the gap is near enough."""
        near = [
            window
            for window in self.windows
            if window.key == record.key
            and window.start - self.gap <= record.timestamp <= window.end + self.gap
            and self.mergeable(window, time)
        ]
        return sorted(near, key=lambda window: (window.end, window.start))

    def mergeable(self, window: Window, time: int) -> bool:
        """A closed session takes no part in merges."""
        return not self.closed(window.end, time)

    def missed(self, record: Record, time: int) -> list[tuple[int, int]] | None:
        """Late when the session that the record would make or extend is closed."""
        start, end = self.merged(self.near(record, time), record.timestamp)
        return [(start, end)] if self.closed(end, time) else None

    def merged(self, near: list[Window], timestamp: int) -> tuple[int, int]:
        """The bounds of what a record makes of the sessions near it."""
        start = min([timestamp, *(window.start for window in near)])
        return start, max([timestamp, *(window.end for window in near)])

    def put(self, record: Record, key: str) -> list[Result]:
        """One session of those near the record and itself; a null for each that is swallowed."""
        near = self.near(record, self.time)
        merged = Window(key, *self.merged(near, record.timestamp))
        sent: list[Result] = []
        for window in near:
            merged.taken += window.taken
            self.windows.remove(window)
            if not self.final and self.swallowed(window, merged, record):
                sent.append(Result(key, window.start, window.end, None, window.end, self.time))
        merged.taken.append((record.timestamp, record.value))
        self.windows.append(merged)
        return sent + self.changed(merged)

    def swallowed(self, window: Window, merged: Window, record: Record) -> bool:  # noqa: ARG002
        """Whether a session is gone: not if the record came between its ends."""
        return (window.start, window.end) != (merged.start, merged.end)


KINDS: dict[str, type[Operator]] = {
    "tumbling": Aligned,
    "hopping": Aligned,
    "sliding": Sliding,
    "session": Session,
}


class Chain:
    """One windowed operator, or several: each takes the results of the one before it as values.

    The next operator's key is the result's (`"key": "same"`) or one for all. In the same stage
    (`"between": "stage"`) a result carries the time that the operator before lets out; behind a
    repartition its timestamp is all there is.
    """

    def __init__(
        self, specs: list[dict[str, Any]], kinds: dict[str, type[Operator]] = KINDS
    ) -> None:
        self.specs = specs
        self.operators = [kinds[spec["window"]](spec) for spec in specs]

    def take(self, key: str | None, value: int | None, timestamp: int) -> list[Result]:
        """What leaves the last operator for a record of the source."""
        records = [Record(key, value, timestamp, timestamp)]
        results: list[Result] = []
        for spec, operator in zip(self.specs, self.operators, strict=True):
            if operator is not self.operators[0]:
                records = [self.passed(spec, result) for result in results]
            results = [result for record in records for result in operator.take(record)]
        return results

    def restart(self) -> None:
        """Nothing changes: time is state."""

    def passed(self, spec: dict[str, Any], result: Result) -> Record:
        """A result as a record of the operator with this spec."""
        key = result.key if spec.get("key", "same") == "same" else spec["key"]
        assert not isinstance(result.value, list | dict), "a list ends a chain"
        held = spec.get("between", "repartition") == "stage"
        return Record(
            key, result.value, result.timestamp, result.time if held else result.timestamp
        )

    @property
    def dropped(self) -> int:
        """Null records, and pairs of a record and a window that it missed, so far."""
        return sum(each.dropped_nulls + each.pairs_missed for each in self.operators)
