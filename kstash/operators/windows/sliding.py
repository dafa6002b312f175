"""Sliding windows: one ends at each record, and one begins 1 ms after each that another follows.

Windows and *records* of a key are one entry of a store. Records are kept as long as a window to
come can hold them, or begin after them: what a window holds depends on the records alone, not on
which windows there were when they came (decision 0075).

A window is closed when time > end + grace, that is when its start is below a *horizon*: time less
size and grace. A record whose own timestamp is below it can be in no window any more.

Invariants, between two records:

- the windows in the store are open, and each stands in the queue once;
- a key stands in the queue once more, at a place not after its newest record + 2 ms, when all of
  its windows are closed and nothing can begin after the record: then it is forgotten.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from kstash.operators.flow import Flow
from kstash.operators.fold import Folder
from kstash.operators.kept_values import KeptValues
from kstash.operators.step import Scope
from kstash.operators.windows.keys import start_bytes
from kstash.operators.windows.single import NewState
from kstash.operators.windows.step import TOO_LATE
from kstash.operators.windows.unaligned import Part, Unaligned
from kstash.topology.sliding_nodes import Slides, SlidingFold, Window

_start, _arrival = attrgetter("start_ms"), itemgetter(1)

_WINDOW, _KEY = 0, 1
"""What stands at a place of the queue: a window that closes, or a key that is forgotten."""


class _Change(NamedTuple):
    """What a record makes of one window.

    Attributes:
        start_ms: of the window.
        latest_ms: the largest timestamp in it.
        made: its new state.
    """

    start_ms: int
    latest_ms: int
    made: NewState


class SlidingWindows(Unaligned[list[_Change]]):
    """A fold of each window.

    Args:
        node: the windows.
        folder: the fold.
    """

    def __init__(self, node: SlidingFold, folder: Folder) -> None:
        self.size_ms: int = node.windows.size_ms
        super().__init__(node, folder, self.size_ms)
        self.values = KeptValues(node.title, node.values)

    def begin(self, keys: list[bytes], flow: Flow, scope: Scope) -> _Slides:
        """A run over the records of a flow."""
        return _Slides(self, keys, flow, scope)


class _Slides(Part[list[_Change]]):
    """A run over the records of a flow."""

    def __init__(self, logic: SlidingWindows, keys: list[bytes], flow: Flow, scope: Scope) -> None:
        super().__init__(logic, keys, flow, scope)
        self.logic = logic
        self.missed = 0

    def keep(self) -> None:
        """Count the records too that have missed some of their windows."""
        super().keep()
        self.scope.dropped(TOO_LATE, self.missed)

    # --- records --------------------------------------------------------------------------------

    def take_records(
        self, records: Iterator[tuple[bytes, Any, int, int]], made: list[_Change] | None
    ) -> list[_Change] | None:
        """Put each into its windows."""
        live, queue, results, size = self.live, self.queue, self.results, self.logic.size_ms
        for key, value, timestamp, time in records:
            self.at += 1
            now = max(self.now, time)
            horizon = now - self.logic.open_ms
            if timestamp < horizon:
                results.add_late(self.at, ((timestamp, timestamp + size),))
            else:
                data = self.logic.values.encode(value, self.at)
                if made is None:
                    made = self._changes(live.get(key), timestamp, data, horizon)
                # The user's code has returned: from here on the record counts.
                self.now = now
                if queue.is_due(horizon):
                    self._close(horizon)
                    if queue.is_blocked:
                        results.end_record()
                        return made
                self._apply(key, (timestamp, data), horizon, made)
                made = None
            results.end_record()
        return None

    def _changes(
        self, slides: Slides | None, timestamp: int, data: bytes, horizon: int
    ) -> list[_Change]:
        """What a record makes of the open windows that it is in, and of those that it makes."""
        slides = slides or Slides()
        size, apart = self.logic.size_ms, self.scope.may_skip
        lowest = max(timestamp - size, horizon, 0)
        first = bisect_left(slides.windows, lowest, key=_start)
        last = bisect_left(slides.windows, timestamp + 1, first, key=_start)
        value = self.logic.values.decode(data)
        changes: list[_Change] = []
        for window in slides.windows[first:last]:
            states = [] if window.state is None else [window.state]
            made = self.fold.add(states, value, self.at, apart=apart)
            changes.append(_Change(window.start_ms, max(window.latest_ms, timestamp), made))
        known = {window.start_ms for window in slides.windows[first : last + 1]}
        for start in self._own_starts(slides.records, timestamp) - known:
            if start >= horizon:
                changes.append(self._begun(slides.records, start, timestamp, data))
        changes.sort()
        return changes

    def _own_starts(self, records: list[tuple[int, int, bytes]], timestamp: int) -> set[int]:
        """Where the windows begin that a record makes: each but the first one only with others."""
        size = self.logic.size_ms
        starts = {max(timestamp - size, 0)}
        at = bisect_left(records, (timestamp,))
        if at and timestamp <= records[at - 1][0] + 1 + size:
            starts.add(records[at - 1][0] + 1)
        after = bisect_left(records, (timestamp + 1,), at)
        if after < len(records) and records[after][0] <= timestamp + 1 + size:
            starts.add(timestamp + 1)
        return starts

    def _begun(
        self, records: list[tuple[int, int, bytes]], start: int, timestamp: int, data: bytes
    ) -> _Change:
        """A window that begins, with all records of the key that are in it as they came."""
        end = start + self.logic.size_ms
        held = records[bisect_left(records, (start,)) : bisect_left(records, (end + 1,))]
        stamps = [stamp for stamp, _, _ in held]
        values = [value for _, _, value in sorted(held, key=_arrival)]
        if start <= timestamp:
            stamps.append(timestamp)
            values.append(data)
        made: NewState | None = None
        for value in map(self.logic.values.decode, values):
            states = [] if made is None or made.state is None else [made.state]
            made = self.fold.add(states, value, self.at, apart=False)
        assert made is not None, "a window has a record"
        return _Change(start, max(stamps), made)

    def _apply(
        self, key: bytes, record: tuple[int, bytes], horizon: int, changes: list[_Change]
    ) -> None:
        """Keep a record and what it made, and send that."""
        timestamp, data = record
        slides: Slides | None = self.live.get(key)
        if slides is None:
            self.live[key] = slides = Slides()
            self.queue.put((timestamp + 2, _KEY, key))
        records, windows = slides.records, slides.windows
        insort(records, (timestamp, slides.arrivals, data))
        slides.arrivals += 1
        del records[: bisect_left(records, (horizon - 1,))]
        self.missed += max(timestamp - self.logic.size_ms, 0) < horizon
        for start, latest, made in changes:
            at = bisect_left(windows, start, key=_start)
            if at < len(windows) and windows[at].start_ms == start:
                windows[at].latest_ms, windows[at].state = latest, made.state
            else:
                windows.insert(at, Window(start, latest, made.state))
                self.queue.put((start, _WINDOW, key))
            if made.state is not None:
                self.made.append(made.state)
                self.makers.append(self.at)
            if not self.logic.is_final:
                self.results.add(key + start_bytes(start), made.sent, latest, self.now)

    # --- closing --------------------------------------------------------------------------------

    def _close(self, horizon: int) -> None:
        """Close the windows that begin before, in their order, and forget keys."""
        while (place := self.queue.take(horizon)) is not None:
            start, what, key = place
            slides: Slides = self.live[key]
            if what == _WINDOW:
                window = slides.windows.pop(0)
                assert window.start_ms == start, "they close in order"
                if self.logic.is_final and window.state is not None:
                    # Time steps to where the window closes. Less what the operator holds back,
                    # that is its start.
                    window_key = key + start_bytes(start)
                    self.results.add(window_key, window.state, window.latest_ms, start)
            elif (forgotten := slides.records[-1][0] + 2) > start:
                self.queue.put((forgotten, _KEY, key))
            else:
                self.live[key] = None
