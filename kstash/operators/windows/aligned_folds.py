"""Folds of records into aligned windows, as columns; which of these are closed is known."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, cast

from kstash.errors import OperatorError, SerdeError
from kstash.operators.calls import refuse
from kstash.operators.flow import Expanded, Flow, repeated
from kstash.operators.fold import ColumnFold
from kstash.operators.step import Decision, RecordError, Scope
from kstash.operators.stream_time import WindowTime
from kstash.operators.windows.day_grid import DayGrid
from kstash.operators.windows.grid import Grid
from kstash.operators.windows.keys import result_keys, start_bytes, store_keys
from kstash.operators.windows.states import fold_into
from kstash.operators.windows.step import TOO_LATE
from kstash.operators.windows.unsent import unsent
from kstash.topology.aligned_nodes import AlignedFold


class AlignedFolds:
    """A fold of each key and window, while no window closes.

    Args:
        node: the windows.
        grid: where they begin.
        column_fold: the fold.
        is_tumbling: whether each record is in one window.
    """

    def __init__(
        self, node: AlignedFold, grid: Grid | DayGrid, column_fold: ColumnFold, *, is_tumbling: bool
    ) -> None:
        self.name = node.name
        self.result_key = node.windows.result_key(node.record_key)
        self.grid = grid
        self.is_tumbling = is_tumbling
        self.is_final = node.is_final
        self.column_fold = column_fold
        self.unsent = unsent(node, column_fold)

    def fold(
        self, keys: list[bytes], flow: Flow, closed: int, time: WindowTime, scope: Scope
    ) -> Iterator[Flow | None]:
        """Fold records, and let them move the time.

        Returns:
            What each part of them sends, in order; nothing of a part where all have failed.
        """
        if self.is_tumbling:
            yield from self._folded_tumbling(keys, flow, time, scope)
            return
        # A record that fails in one of its windows is in none: those before it are a part.
        start, end = 0, flow.count
        while start < flow.count:
            failed: _FailedError | None = None
            while start < end:
                part = flow.part(start, end)
                try:
                    results = self._folded_hopping(keys[start:end], part, closed, time, scope)
                except _FailedError as error:
                    failed, end = error, start + error.index
                else:
                    yield results
                    break
            if failed is not None:
                failed.error.record_index = end
                refuse(scope, flow, failed.error)
                end += 1
            start, end = end, flow.count

    def _folded_tumbling(
        self, keys: list[bytes], flow: Flow, time: WindowTime, scope: Scope
    ) -> Iterator[Flow | None]:
        """The same where a record is in one window."""
        stamps, last = flow.live_timestamps, self.grid.last
        start = last(min(stamps))
        single = start_bytes(start) if last(max(stamps)) == start else b""
        # Their hashes are known, where keys can name the windows.
        names = keys if single else store_keys(keys, list(map(last, stamps)))
        were_there = self._were_there(single, names, scope)
        left, made, largest = fold_into(
            scope.stores.ordered(self.name), single, self.column_fold, _named(flow, names), scope
        )
        if left is None:
            return
        time.note_last(max(left.live_timestamps))
        running = time.running(left.times)
        if self.is_final:
            yield None
            return
        names = cast("list[bytes]", left.encoded)
        results = [key + single for key in names] if single else result_keys(names)
        if self.unsent is None:
            yield self._sent(left, results, made, largest, running)
        else:
            self.unsent.keep(results, made, largest, running, were_there=were_there, scope=scope)
            yield None

    def _folded_hopping(
        self, keys: list[bytes], flow: Flow, closed: int, time: WindowTime, scope: Scope
    ) -> Flow | None:
        """Fold records into all of their windows that are open, in order; none has failed."""
        stamps, grid = flow.live_timestamps, self.grid
        assert isinstance(grid, Grid), "days do not overlap"
        prefixes = {each: _prefixes(grid.starts(each, closed)) for each in set(stamps)}
        around = list(map(prefixes.__getitem__, stamps))
        counts = list(map(len, around))
        names = [start + key for key, starts in zip(keys, around, strict=True) for start in starts]
        each = _in_each(flow, names, counts)
        store = scope.stores.ordered(self.name)
        were_there = self._were_there(b"", names, scope)
        if scope.may_skip:
            try:
                _, made, largest = fold_into(
                    store, b"", self.column_fold, each, cast("Scope", _Once())
                )
            except (OperatorError, SerdeError) as error:
                ends = list(accumulate(counts))
                raise _FailedError(bisect_right(ends, error.record_index), error) from error
        else:
            _, made, largest = fold_into(store, b"", self.column_fold, each, scope)
        if closed >= 0:
            missed = {at: len(grid.starts(at)) - len(open_) for at, open_ in prefixes.items()}
            scope.dropped(TOO_LATE, sum(map(missed.__getitem__, stamps)))
        time.note_last(max(stamps))
        running = time.running(flow.times)
        if self.is_final:
            return None
        results = [
            key + start for key, starts in zip(keys, around, strict=True) for start in starts
        ]
        times = each.live_timestamps if running is stamps else repeated(running, counts)
        if self.unsent is None:
            return self._sent(each, results, made, largest, times)
        self.unsent.keep(results, made, largest, times, were_there=were_there, scope=scope)
        return None

    def _were_there(self, prefix: bytes, names: list[bytes], scope: Scope) -> frozenset[bytes]:
        """Keys of results of those windows that are in the store, where results wait; else none.

        Args:
            prefix: what stands before the name of a window in its key in the store.
            names: of the windows; one may stand there several times.
            scope: of the batch.
        """
        if self.unsent is None:
            return frozenset()
        found = scope.stores.ordered(self.name).peek({prefix + name for name in names})
        return frozenset(result_keys(key for key, entry in found.items() if entry is not None))

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
            values=self.column_fold.shown(states),
            timestamps=stamps,
            headers=flow.headers,
            trail=flow.trail,
            event_times=None if times is stamps else times,
        )


class _FailedError(Exception):
    """A record has failed, and nothing of its part was kept.

    Args:
        index: of the record in its part.
        error: of the record.
    """

    def __init__(self, index: int, error: OperatorError | SerdeError) -> None:
        super().__init__(index, error)
        self.index = index
        self.error = error


class _Once:
    """A scope that gives a record up at its first error."""

    may_skip = True

    def failed(self, flow: Flow, error: RecordError) -> Decision:  # noqa: ARG002 - whatever it is
        """The caller decides about the record as a whole."""
        return Decision.FAIL


def _prefixes(starts: range) -> list[bytes]:
    """What stands before keys in windows that begin there."""
    return list(map(start_bytes, starts))


def _in_each(flow: Flow, names: list[bytes], counts: list[int]) -> Flow:
    """Each record of a flow in each of its windows, `counts[i]` of record i, in their order."""
    values, headers = flow.values, flow.headers
    return Flow(
        count=len(names),
        keys=None,
        encoded=cast("list[bytes | None]", names),
        key_serde=flow.key_serde,
        values=None if values is None else repeated(values, counts),
        timestamps=repeated(flow.live_timestamps, counts),
        headers=None if headers is None else repeated(headers, counts),
        trail=Expanded(flow.trail, counts),
    )


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
