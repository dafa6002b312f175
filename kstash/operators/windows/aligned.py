"""Tumbling and hopping windows: all begin at multiples of one step.

In the store they lie by start and key. So the windows that close first lie first, and as all have
one size, the order of their keys is that of their results: by end, start and encoded key.

Records go through as columns. Where time closes windows between two of them, the column is cut
there: within a part, whether a window is closed is one comparison with a bound.
"""

from __future__ import annotations

from functools import partial
from itertools import compress
from typing import cast

from kstash.operators.flow import ENTERED, Expanded, Flow, Trail
from kstash.operators.fold import ColumnFold
from kstash.operators.step import Scope, Stores
from kstash.operators.stream_time import WindowTime, last_of
from kstash.operators.windows.aligned_folds import AlignedFolds
from kstash.operators.windows.day_grid import DayGrid
from kstash.operators.windows.grid import Grid
from kstash.operators.windows.keys import result_keys, start_bytes, start_of
from kstash.operators.windows.step import drop_late
from kstash.topology.aligned_nodes import Aligned, AlignedFold, Daily
from kstash.topology.traits import PART_RECORDS

FORGOTTEN_AT_ONCE = 10_000
"""Windows that are removed together; a removal takes about a microsecond."""


class AlignedWindows:
    """A fold of each key and window.

    Args:
        node: the windows.
        column_fold: the fold.
    """

    def __init__(self, node: AlignedFold, column_fold: ColumnFold) -> None:
        windows = node.windows
        self.name = node.name
        self.grid: Grid | DayGrid
        if isinstance(windows, Daily):
            self.grid, is_tumbling = DayGrid(windows.days, node.grace_ms), True
        else:
            assert isinstance(windows, Aligned), "there are no others"
            size_ms, advance_ms = windows.size_ms, windows.advance_ms
            self.grid = Grid(size_ms, advance_ms, windows.offset_ms, node.grace_ms)
            is_tumbling = advance_ms == size_ms
        self.grace_ms = node.grace_ms
        self.is_final = node.is_final
        # Its records go one by one, each of them with the results of a part at a time.
        self.is_wide = node.is_wide
        self.folds = AlignedFolds(node, self.grid, column_fold, is_tumbling=is_tumbling)
        self.result_key, self.shown = self.folds.result_key, column_fold.shown
        self.unsent = self.folds.unsent

    def run(self, keys: list[bytes], flow: Flow, scope: Scope) -> None:
        """Process records; before them comes what a shorter grace than before has made due."""
        if WindowTime(scope.stores, self.name, self.grace_ms).has_shorter_grace and self.is_final:
            self._close_first(keys, flow, scope)
        else:
            self._run(keys, flow, 0, scope)

    def _close_first(self, keys: list[bytes], flow: Flow, scope: Scope) -> None:
        time = WindowTime(scope.stores, self.name, self.grace_ms)
        if self._close(flow.part(0, 1).trail, self.grid.closed(time.now_ms), scope):
            self._run(keys, flow, 0, scope)
        else:
            scope.later(partial(self._close_first, keys, flow))

    def _run(self, keys: list[bytes], flow: Flow, start: int, scope: Scope) -> None:
        """Part the records from one on where windows close between them; process the parts."""
        time = WindowTime(scope.stores, self.name, self.grace_ms)
        before = self.grid.number_closed(time.now_ms)
        if not self.is_wide and self._is_one_part(flow, time.now_ms):
            self._take(keys, flow, -1, time, scope)
        else:
            self._in_parts(keys, flow, start, scope)
        if not self.is_final:
            now = WindowTime(scope.stores, self.name, self.grace_ms).now_ms
            if self.grid.number_closed(now) != before:
                self._forget(self.grid.closed(now), scope)

    def pass_time(self, time_ms: int, scope: Scope) -> None:
        """Close what is closed at a time that no record brought."""
        time, grid = WindowTime(scope.stores, self.name, self.grace_ms), self.grid
        number = grid.number_closed(time.now_ms)
        closed = grid.closed(time.take(time_ms))
        if grid.number_closed(time.now_ms) == number and not time.has_shorter_grace:
            return
        if self.is_final:
            self._close_all(closed, scope)
        else:
            self._forget(closed, scope)

    def idle_time_ms(self, stores: Stores) -> int | None:
        """When the last window closes that records have opened."""
        found = last_of(stores, self.name)
        if found is None:
            return None
        now_ms, last_ms = found
        time_ms = self.grid.closes_at(self.grid.last(last_ms))
        return time_ms if time_ms > now_ms else None

    def _close_all(self, closed: int, scope: Scope) -> None:
        if not self._close(ENTERED, closed, scope):
            scope.later(partial(self._close_all, closed))

    def _in_parts(self, keys: list[bytes], flow: Flow, start: int, scope: Scope) -> None:
        """Process records from one on, until one of them leaves work, the others among it."""
        time = WindowTime(scope.stores, self.name, self.grace_ms)
        times, grid = flow.times, self.grid
        while start < flow.count:
            bound = grid.next_closing(time.now_ms)
            most = start + 1 if self.is_wide else flow.count
            end = start
            while end < most and times[end] < bound:
                end += 1
            if end > start:
                closed = grid.closed(time.now_ms)
                self._take_open(keys[start:end], flow.part(start, end), closed, time, scope)
            else:
                end += 1
                is_taken, results = self._move(keys[start:end], flow.part(start, end), time, scope)
                if is_taken and not self._finish(keys, flow, start, results, scope):
                    return
            start = end
            if self.is_wide and start < flow.count:
                scope.later(partial(self._run, keys, flow, start))
                return

    def _finish(
        self, keys: list[bytes], flow: Flow, index: int, results: Flow | None, scope: Scope
    ) -> bool:
        """Close what a record has closed, and then send its own results.

        Returns:
            Whether all is done; else the rest, with all records after that one, is left as work.
        """
        one = flow.part(index, index + 1)
        if self.is_final and not self._close(one.trail, self.grid.closed(one.times[0]), scope):

            def go_on(scope: Scope) -> None:
                if self._finish(keys, flow, index, results, scope):
                    self._in_parts(keys, flow, index + 1, scope)

            scope.later(go_on)
            return False
        if results is not None:
            self._send(results, scope)
        return True

    def _is_one_part(self, flow: Flow, now: int) -> bool:
        """Whether no record is too late for a window, and none closes one whose result is sent."""
        stamps, times, grid = flow.live_timestamps, flow.times, self.grid
        lowest, latest = min(stamps), max(now, max(times))
        if grid.last(lowest) < 0:
            return False
        if grid.number_closed(latest) == grid.number_closed(now):
            return grid.first(lowest) > grid.closed(latest)
        if self.is_final:
            return False
        if grid.first(lowest) > grid.closed(latest):
            return True
        # Who comes in order is never late, however far the time of a batch goes.
        return times is stamps and now <= stamps[0] and sorted(stamps) == stamps

    # --- records --------------------------------------------------------------------------------

    def _take_open(
        self, keys: list[bytes], flow: Flow, closed: int, time: WindowTime, scope: Scope
    ) -> None:
        """Process records while no window closes; those that are too late are dropped."""
        stamps, last = flow.live_timestamps, self.grid.last
        is_open = [last(stamp) > closed for stamp in stamps]
        late = flow.select([not each for each in is_open])
        if late is not None:
            drop_late(late, list(map(self.grid.bounds, late.live_timestamps)), scope)
        left = flow.select(is_open)
        if left is not None:
            self._take(list(compress(keys, is_open)), left, closed, time, scope)

    def _take(
        self, keys: list[bytes], flow: Flow, closed: int, time: WindowTime, scope: Scope
    ) -> None:
        """Fold records that have an open window, and send what is sent at once."""
        for results in self.folds.fold(keys, flow, closed, time, scope):
            if results is not None:
                self._send(results, scope)

    def _send(self, results: Flow, scope: Scope) -> None:
        """Send what records have made at once; of one in many windows, a part at a time."""
        if self.is_wide and results.count > PART_RECORDS:
            scope.out(results.part(0, PART_RECORDS))
            rest = results.part(PART_RECORDS, results.count)
            scope.later(partial(self._send, rest))
        else:
            scope.out(results)

    def _move(
        self, keys: list[bytes], flow: Flow, time: WindowTime, scope: Scope
    ) -> tuple[bool, Flow | None]:
        """Take a record that closes windows, unless it is too late by its own time, or fails.

        Its own windows are open, so that it is folded first: where that fails, the record has moved
        no time and closed nothing.
        """
        closed = self.grid.closed(flow.times[0])
        stamp = flow.live_timestamps[0]
        if self.grid.last(stamp) <= closed:
            drop_late(flow, [self.grid.bounds(stamp)], scope)
            return False, None
        parts = list(self.folds.fold(keys, flow, closed, time, scope))
        return (True, parts[0]) if parts else (False, None)

    # --- closing ---------------------------------------------------------------------------------

    def _close(self, trail: Trail, closed: int, scope: Scope) -> bool:
        """Send results of windows that are closed; time steps to each closing.

        Args:
            trail: of the record that has closed them.
            closed: the last start of one that is.
            scope: takes the results.

        Returns:
            Whether those were all of them.
        """
        store = scope.stores.ordered(self.name)
        entries = store.range(b"", start_bytes(closed + 1), limit=PART_RECORDS)
        if not entries:
            return True
        keys = [key for key, _ in entries]
        scope.out(
            Flow(
                count=len(keys),
                keys=None,
                encoded=cast("list[bytes | None]", result_keys(keys)),
                key_serde=self.result_key,
                values=self.shown([state for _, (state, _) in entries]),
                timestamps=[stamp for _, (_, stamp) in entries],
                headers=None,
                trail=Expanded(trail, [len(keys)]),
                # When each is closed, less the size and grace that the operator holds back.
                event_times=list(map(start_of, keys)),
            )
        )
        store.expire_below(keys[-1] + b"\0", limit=len(keys))
        return len(keys) < PART_RECORDS

    def _forget(self, closed: int, scope: Scope) -> None:
        """Remove closed windows of which nothing is sent, part by part.

        Nobody reads them: whether a window is closed is asked of the time.
        """
        store = scope.stores.ordered(self.name)
        if store.expire_below(start_bytes(closed + 1), limit=FORGOTTEN_AT_ONCE):
            scope.later(lambda scope: self._forget(closed, scope))
