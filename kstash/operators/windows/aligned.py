"""Tumbling and hopping windows: all begin at multiples of one step.

In the store they lie by start and key. So the windows that close first lie first, and as all have
one size, the order of their keys is that of their results: by end, start and encoded key.

Records go through as columns. Where time closes windows between two of them, the column is cut
there: within a part, whether a window is closed is one comparison with a bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, compress, repeat
from typing import Any, cast

from kstash.errors import OperatorError, SerdeError
from kstash.operators.calls import refuse
from kstash.operators.flow import Expanded, Flow
from kstash.operators.fold import Folder
from kstash.operators.step import PART_RECORDS, Decision, RecordError, Scope
from kstash.operators.stream_time import StreamTime
from kstash.operators.windows.day_grid import DayGrid
from kstash.operators.windows.grid import Grid
from kstash.operators.windows.keys import result_keys, start_bytes, start_of, store_keys
from kstash.operators.windows.states import Folded, fold_into
from kstash.operators.windows.step import TOO_LATE, drop_late
from kstash.topology.window_nodes import Aligned, AlignedFold, Daily

FORGOTTEN_AT_ONCE = 10_000
"""Windows that are removed together; a removal takes about a microsecond."""


class AlignedWindows:
    """A fold of each key and window.

    Args:
        node: the windows.
        folder: the fold.
    """

    def __init__(self, node: AlignedFold, folder: Folder) -> None:
        windows = node.windows
        self.name = node.name
        self.result_key = windows.result_key(node.record_key)
        self.grid: Grid | DayGrid
        if isinstance(windows, Daily):
            self.grid, self.is_tumbling = DayGrid(windows.days, node.grace_ms), True
        else:
            assert isinstance(windows, Aligned), "there are no others"
            size_ms, advance_ms = windows.size_ms, windows.advance_ms
            self.grid = Grid(size_ms, advance_ms, windows.offset_ms, node.grace_ms)
            self.is_tumbling = advance_ms == size_ms
        self.is_final = node.is_final
        self.folder = folder

    def run(self, keys: list[bytes], flow: Flow, scope: Scope) -> None:
        """Part the records where windows close between them, and process the parts."""
        time = StreamTime(scope.stores, self.name)
        grid = self.grid
        if self._is_one_part(flow, time.now_ms, scope):
            number = grid.number_closed(time.now_ms)
            self._take(keys, flow, -1, time, scope)
            if grid.number_closed(time.now_ms) != number:
                self._forget(grid.closed(time.now_ms), scope)
            return
        self._in_parts(keys, flow, 0, scope)

    def _in_parts(self, keys: list[bytes], flow: Flow, start: int, scope: Scope) -> None:
        """Process records from one on, until one of them leaves work, the others among it."""
        time, times, grid = StreamTime(scope.stores, self.name), flow.times, self.grid
        while start < flow.count:
            bound = grid.next_closing(time.now_ms)
            end = start
            while end < flow.count and times[end] < bound:
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

    def _finish(
        self, keys: list[bytes], flow: Flow, index: int, results: Flow | None, scope: Scope
    ) -> bool:
        """Close what a record has closed, and then send its own results.

        Returns:
            Whether all is done; else the rest, with all records after that one, is left as work.
        """
        one = flow.part(index, index + 1)
        closed = self.grid.closed(one.times[0])
        if not self.is_final:
            self._forget(closed, scope)
        elif not self._close(one, closed, scope):

            def go_on(scope: Scope) -> None:
                if self._finish(keys, flow, index, results, scope):
                    self._in_parts(keys, flow, index + 1, scope)

            scope.later(go_on)
            return False
        if results is not None:
            scope.out(results)
        return True

    def _is_one_part(self, flow: Flow, now: int, scope: Scope) -> bool:
        """Whether no record is too late for a window, and none closes one whose result is sent."""
        stamps, times, grid = flow.live_timestamps, flow.times, self.grid
        lowest, latest = min(stamps), max(now, max(times))
        if grid.last(lowest) < 0:
            return False
        if grid.number_closed(latest) == grid.number_closed(now):
            return grid.first(lowest) > grid.closed(latest)
        if self.is_final or scope.may_skip:
            return False
        if grid.first(lowest) > grid.closed(latest):
            return True
        # Who comes in order is never late, however far the time of a batch goes.
        return times is stamps and now <= stamps[0] and sorted(stamps) == stamps

    # --- records --------------------------------------------------------------------------------

    def _take_open(
        self, keys: list[bytes], flow: Flow, closed: int, time: StreamTime, scope: Scope
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
        self, keys: list[bytes], flow: Flow, closed: int, time: StreamTime, scope: Scope
    ) -> None:
        """Fold records that have an open window, and send what is sent at once."""
        for part_keys, part in self._apart(keys, flow, scope):
            _, results = self._folded(part_keys, part, closed, time, scope)
            if results is not None:
                scope.out(results)

    def _apart(
        self, keys: list[bytes], flow: Flow, scope: Scope
    ) -> Iterator[tuple[list[bytes], Flow]]:
        """Records one by one where each is in several windows, all or none of which it is in."""
        if self.is_tumbling or not scope.may_skip:
            yield keys, flow
            return
        for index in range(flow.count):
            yield keys[index : index + 1], flow.part(index, index + 1)

    def _move(
        self, keys: list[bytes], flow: Flow, time: StreamTime, scope: Scope
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
        return self._folded(keys, flow, closed, time, scope)

    # --- folds ----------------------------------------------------------------------------------

    def _folded(
        self, keys: list[bytes], flow: Flow, closed: int, time: StreamTime, scope: Scope
    ) -> tuple[bool, Flow | None]:
        """Fold records, and let them move the time: whether any did not fail, and what is sent."""
        if not self.is_tumbling:
            return self._folded_hopping(keys, flow, closed, time, scope)
        stamps, last = flow.live_timestamps, self.grid.last
        start = last(min(stamps))
        single = start_bytes(start) if last(max(stamps)) == start else b""
        # Their hashes are known, where keys can name the windows.
        names = keys if single else store_keys(keys, list(map(last, stamps)))
        left, made, largest = fold_into(
            scope.stores.ordered(self.name), single, self.folder, _named(flow, names), scope
        )
        if left is None:
            return False, None
        running = time.running(left.times)
        if self.is_final:
            return True, None
        names = cast("list[bytes]", left.encoded)
        results = [key + single for key in names] if single else result_keys(names)
        return True, self._sent(left, results, made, largest, running)

    def _folded_hopping(
        self, keys: list[bytes], flow: Flow, closed: int, time: StreamTime, scope: Scope
    ) -> tuple[bool, Flow | None]:
        """The same where a record is in several windows: those that are open, in order."""
        stamps, grid = flow.live_timestamps, self.grid
        assert isinstance(grid, Grid), "days do not overlap"
        starts = [grid.starts(stamp, closed) for stamp in stamps]
        counts = list(map(len, starts))

        def repeated(column: list[Any]) -> list[Any]:
            return list(chain.from_iterable(map(repeat, column, counts)))

        names = store_keys(repeated(keys), list(chain.from_iterable(starts)))
        values = repeated(flow.values or [None] * flow.count)
        each = _named(flow.expand(values, counts, with_keys=False), names)
        left, made, largest = self._folded_once(flow, each, scope)
        if left is None:
            return False, None
        if closed >= 0:
            missed = sum(
                (taken.start - grid.first(stamp)) // grid.advance
                for taken, stamp in zip(starts, stamps, strict=True)
            )
            scope.dropped(TOO_LATE, missed)
        running = time.running(flow.times)
        if self.is_final:
            return True, None
        return True, self._sent(left, result_keys(names), made, largest, repeated(running))

    def _folded_once(self, flow: Flow, each: Flow, scope: Scope) -> Folded:
        """Fold records into all of their windows; one that fails in one of them is in none."""
        store = scope.stores.ordered(self.name)
        if not scope.may_skip:
            return fold_into(store, b"", self.folder, each, scope)
        try:
            return fold_into(store, b"", self.folder, each, cast("Scope", _Once()))
        except (OperatorError, SerdeError) as error:
            error.record_index = 0
            refuse(scope, flow, error)
            return None, [], []

    # --- results --------------------------------------------------------------------------------

    def _sent(
        self,
        flow: Flow,
        keys: list[bytes],
        states: list[Any],
        stamps: list[int],
        times: list[int],
    ) -> Flow:
        """Results that records send at once, at the time that the operator has then."""
        return Flow(
            count=flow.count,
            keys=None,
            encoded=cast("list[bytes | None]", keys),
            key_serde=self.result_key,
            values=self.folder.shown(states),
            timestamps=stamps,
            headers=flow.headers,
            trail=flow.trail,
            event_times=None if times is stamps else times,
        )

    def _close(self, flow: Flow, closed: int, scope: Scope) -> bool:
        """Send results of windows that a record has closed; time steps to each closing.

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
                values=self.folder.shown([state for _, (state, _) in entries]),
                timestamps=[stamp for _, (_, stamp) in entries],
                headers=None,
                trail=Expanded(flow.trail, [len(keys)]),
                # When each is closed, less the size and grace that the operator holds back.
                event_times=list(map(start_of, keys)),
            )
        )
        store.expire_below(keys[-1] + b"\0", limit=len(keys))
        return len(keys) < PART_RECORDS

    def _forget(self, closed: int, scope: Scope) -> None:
        """Remove closed windows whose results are out already."""
        store = scope.stores.ordered(self.name)
        while store.expire_below(start_bytes(closed + 1), limit=FORGOTTEN_AT_ONCE):
            pass


class _Once:
    """A scope that gives a record up at its first error."""

    may_skip = True

    def failed(self, flow: Flow, error: RecordError) -> Decision:  # noqa: ARG002 - whatever it is
        """The caller decides about the record as a whole."""
        return Decision.FAIL


def _named(flow: Flow, names: list[bytes]) -> Flow:
    """A flow with the names of windows in the place of its keys."""
    return Flow(
        count=flow.count,
        keys=None,
        encoded=cast("list[bytes | None]", names),
        key_serde=flow.key_serde,
        values=flow.values,
        timestamps=flow.timestamps,
        headers=flow.headers,
        trail=flow.trail,
        event_times=flow.event_times,
    )
