"""Sliding windows: one ends at each record, and one begins 1 ms after each that another follows.

Windows and *records* of a key are one entry of a store. Records are kept as long as a window to
come can hold them, or begin after them: what a window holds depends on the records alone, not on
which windows there were when they came (decision 0075).

A window is closed when time > end + grace, that is when its start is below a *horizon*: time less
size and grace. A record whose own timestamp is below it can be in no window any more.

All that a record changes stands side by side: the windows from its size before it up to it. So
they are columns, and change together.

Invariants, between two records:

- of a window that is kept, all records are kept;
- a key stands in the queue once, at a place not after its newest record + 2 ms, when all of its
  windows are closed and nothing can begin after that record: then it is forgotten;
- with final results the windows in the store are open, and the key stands in the queue once more,
  where the first one begins;
- without them nothing is sent when a window closes: closed ones go with the next record of the key,
  or when the place of the key comes up.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from kstash.operators.flow import Flow
from kstash.operators.fold import ColumnFold
from kstash.operators.kept_values import KeptValues
from kstash.operators.step import Scope
from kstash.operators.stream_time import CountedTime
from kstash.operators.windows.keys import start_bytes
from kstash.operators.windows.single import NewState
from kstash.operators.windows.step import TOO_LATE
from kstash.operators.windows.unaligned import Part, Unaligned
from kstash.topology.sliding_nodes import Slides, SlidingFold

_WINDOW, _KEY = 0, 1
"""What stands at a place of the queue: the first window of a key, or a key that is forgotten."""

_FEW = 2
"""Of fewer records a state is made as fast as a window with the same ones is found."""


class _Change(NamedTuple):
    """What a record makes of windows that stand side by side, as columns.

    Attributes:
        starts: of the windows, rising.
        latest: the largest timestamp in each.
        states: of each; None: it was deleted.
        sent: the same as objects of their own, which may be sent.
        replaced: how many of them there are already.
    """

    starts: list[int]
    latest: list[int]
    states: list[Any]
    sent: list[Any]
    replaced: int

    def insert(self, at: int, start: int, latest: int, made: NewState) -> None:
        """Add a new window."""
        self.starts.insert(at, start)
        self.latest.insert(at, latest)
        self.states.insert(at, made.state)
        self.sent.insert(at, made.sent)


class SlidingWindows(Unaligned[_Change]):
    """A fold of each window.

    Args:
        node: the windows.
        column_fold: the fold.
    """

    def __init__(self, node: SlidingFold, column_fold: ColumnFold) -> None:
        self.size_ms: int = node.windows.size_ms
        super().__init__(node, column_fold, self.size_ms)
        self.values = KeptValues(node.title, node.values)

    def begin(self, keys: list[bytes], flow: Flow, scope: Scope) -> _Slides:
        """A run over the records of a flow."""
        return _Slides(self, keys, flow, scope=scope)


class _Slides(Part[_Change]):
    """A run over the records of a flow."""

    def __init__(
        self, logic: SlidingWindows, keys: list[bytes], flow: Flow, *, scope: Scope
    ) -> None:
        self.time = CountedTime(scope.stores, logic.name, logic.grace_ms)
        super().__init__(logic, keys, flow, scope=scope, time=self.time)
        self.logic = logic
        self.missed = 0
        self.opened = 0

    def keep(self) -> None:
        """Count the records too that have missed some of their windows."""
        super().keep()
        self.scope.dropped(TOO_LATE, self.missed)
        self.time.add_windows(self.opened)

    # --- records --------------------------------------------------------------------------------

    def take_records(
        self, records: Iterator[tuple[bytes, Any, int, int]], made: _Change | None
    ) -> _Change | None:
        """Put each into its windows."""
        live, queue, results, size = self.live, self.queue, self.results, self.logic.size_ms
        encode = self.logic.values.encode
        for key, value, timestamp, time in records:
            self.at += 1
            now = time if time > self.now else self.now
            horizon = now - self.logic.open_ms
            if timestamp < horizon:
                results.add_late(self.at, ((timestamp, timestamp + size),))
            else:
                data = encode(value, self.at)
                slides: Slides | None = live.get(key)
                if made is None:
                    made = self._change(slides or Slides(), timestamp, data, horizon)
                # The user's code has returned: from here on the record counts.
                self.now = now
                if queue.is_due(horizon):
                    self.close(horizon)
                    if queue.is_blocked:
                        results.end_record()
                        return made
                    slides = live.get(key)
                if slides is None:
                    live[key] = slides = Slides()
                self._apply(key, slides, (timestamp, data), horizon, made)
                made = None
            results.end_record()
        return None

    def _change(self, slides: Slides, timestamp: int, data: bytes, horizon: int) -> _Change:
        """What a record makes of the open windows that it is in, and of those that it makes."""
        starts, stamps, size = slides.starts, slides.stamps, self.logic.size_ms
        earliest = timestamp - size if timestamp > size else 0
        first = bisect_left(starts, earliest if earliest > horizon else horizon)
        last = bisect_right(starts, timestamp, first)
        known = starts[first:last]
        before = after = len(stamps)
        if stamps and timestamp <= stamps[-1]:
            before = bisect_left(stamps, timestamp)
            after = bisect_right(stamps, timestamp, before)
        # Those that begin come first: they are made of states that the others may change in place.
        begun: list[tuple[int, int, NewState]] = []
        if earliest >= horizon and (not known or known[0] != earliest):
            # It ends at the record, unless it begins at 0.
            held = bisect_left(stamps, earliest), bisect_right(stamps, earliest + size, after)
            begun.append((earliest, *self._begun(slides, *held, (timestamp, data))))
        start = stamps[before - 1] + 1 if before else 0
        is_there = bool(known) and known[-1] >= start and start in known
        if earliest < start >= horizon and not is_there:
            held = before, bisect_right(stamps, start + size, after)
            begun.append((start, *self._begun(slides, *held, (timestamp, data))))
        start = timestamp + 1
        is_there = last < len(starts) and starts[last] == start
        if after < len(stamps) and stamps[after] <= start + size and not is_there:
            held = after, bisect_right(stamps, start + size, after)
            begun.append((start, *self._begun(slides, *held, None)))
        latest = slides.latest[first:last]
        if after == len(stamps):
            latest = [timestamp] * len(latest)
        else:
            latest = [max(each, timestamp) for each in latest]
        states, sent = self.fold.add_to_each(
            slides.states[first:last],
            self.logic.values.decode(data),
            self.at,
            apart=self.scope.may_skip,
        )
        change = _Change(known, latest, states, sent[:], last - first)
        for start, newest, made in begun:
            change.insert(bisect_left(known, start), start, newest, made)
        return change

    def _begun(
        self, slides: Slides, first: int, last: int, record: tuple[int, bytes] | None
    ) -> tuple[int, NewState]:
        """The largest timestamp and the state of a window that begins.

        Args:
            slides: of the key.
            first: with `last`, which of its records are in the window.
            last: see there.
            record: timestamp and value of one more; None: that is not in it.
        """
        fold, decode = self.fold, self.logic.values.decode
        newest = slides.stamps[last - 1] if last > first else 0
        if record is None:
            return newest, fold.of_all(self._values(slides, first, last), self.at)
        timestamp, data = record
        newest = max(newest, timestamp)
        if first == last:
            return newest, fold.of_all([decode(data)], self.at)
        known = self._window_of(slides, first, last)
        if known is None:
            values = self._values(slides, first, last)
            values.append(decode(data))
            return newest, fold.of_all(values, self.at)
        states = [fold.copied(slides.states[known], self.at)]
        states, sent = fold.add_to_each(states, decode(data), self.at, apart=False)
        return newest, NewState(states[0], sent[0])

    def _window_of(self, slides: Slides, first: int, last: int) -> int | None:
        """Index of a window that holds just these records, of which it was made in their order."""
        if last - first < _FEW:
            return None
        stamps, starts, size = slides.stamps, slides.starts, self.logic.size_ms
        lowest = stamps[last - 1] - size
        if first:
            lowest = max(lowest, stamps[first - 1] + 1)
        highest = stamps[first]
        if last < len(stamps):
            highest = min(highest, stamps[last] - size - 1)
        at = bisect_left(starts, lowest)
        return at if at < len(starts) and starts[at] <= highest else None

    def _values(self, slides: Slides, first: int, last: int) -> list[Any]:
        """Values of records in the order in which they came."""
        values: Sequence[bytes] = slides.values[first:last]
        numbers = slides.numbers[first:last]
        if sorted(numbers) != numbers:
            values = [value for _, value in sorted(zip(numbers, values, strict=True))]
        return list(map(self.logic.values.decode, values))

    def _apply(
        self, key: bytes, slides: Slides, record: tuple[int, bytes], horizon: int, change: _Change
    ) -> None:
        """Keep a record and what it made, and send that."""
        if not slides.stamps:
            self.queue.put((record[0] + 2, _KEY, key))
        first = slides.starts[0] if slides.starts else None
        self._put(slides, record, horizon)
        starts = change.starts
        were_there: set[int] = set()
        if starts:
            at = bisect_left(slides.starts, starts[0])
            part = slice(at, at + change.replaced)
            if self.logic.unsent is not None:
                before = zip(slides.starts[part], slides.states[part], strict=True)
                were_there = {start for start, state in before if state is not None}
            slides.starts[part] = starts
            slides.latest[part], slides.states[part] = change.latest, change.states
            self.opened += len(starts) - change.replaced
            self.last = max(self.last, starts[-1])
            kept = [state for state in change.states if state is not None]
            self.made += kept
            self.makers += [self.at] * len(kept)
        if record[0] - self.logic.size_ms < horizon > 0:
            self.missed += 1
        if not self.logic.is_final:
            self.results.add_all(
                key, starts, change.sent, change.latest, self.now, were_there=were_there
            )
        elif starts and slides.starts[0] != first:
            if first is not None:
                self.queue.remove((first, _WINDOW, key))
            self.queue.put((slides.starts[0], _WINDOW, key))

    def _put(self, slides: Slides, record: tuple[int, bytes], horizon: int) -> None:
        """Add a record to those of its key, and remove what nothing needs any more."""
        timestamp, data = record
        stamps = slides.stamps
        if not stamps or timestamp >= stamps[-1]:
            at = len(stamps)
        else:
            at = bisect_right(stamps, timestamp)
        stamps.insert(at, timestamp)
        slides.numbers.insert(at, slides.arrivals)
        slides.values.insert(at, data)
        slides.arrivals += 1
        # A window to come may begin 1 ms after a record.
        if stamps[0] < horizon - 1:
            count = bisect_left(stamps, horizon - 1)
            del stamps[:count], slides.numbers[:count], slides.values[:count]
        self._prune(slides, horizon)

    def _prune(self, slides: Slides, horizon: int) -> None:
        """Remove closed windows."""
        if slides.starts and slides.starts[0] < horizon:
            count = bisect_left(slides.starts, horizon)
            del slides.starts[:count], slides.latest[:count], slides.states[:count]
            self.opened -= count

    # --- closing --------------------------------------------------------------------------------

    def close(self, horizon: int) -> None:
        """Close the windows that begin before, in their order, and forget keys."""
        live, queue = self.live, self.queue
        while (place := queue.take(horizon)) is not None:
            start, what, key = place
            slides: Slides = live[key]
            if what == _WINDOW:
                if not slides.starts or slides.starts[0] != start:
                    continue  # the place was removed
                # Time steps to where the window closes. Less what the operator holds back, that is
                # its start.
                state, latest = slides.states[0], slides.latest[0]
                if state is not None:
                    window = key + start_bytes(start)
                    self.results.add(window, state, latest, start, was_there=True)
                del slides.starts[0], slides.latest[0], slides.states[0]
                self.opened -= 1
                if slides.starts:
                    queue.put((slides.starts[0], _WINDOW, key))
            elif (forgotten := slides.stamps[-1] + 2) > start:
                if not self.logic.is_final:
                    self._prune(slides, horizon)
                queue.put((forgotten, _KEY, key))
            else:
                self.opened -= len(slides.starts)
                live[key] = None
