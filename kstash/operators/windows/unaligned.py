"""What windows that are not aligned have in common: records one by one, and a queue of closings.

All that is kept of a key is one entry of a store, and beside it a queue has what closes when
(decision 0075). A run takes the records of a flow in order, up to where very many windows close;
what is left is done later, within the same event.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from kstash.core.watermark import BEFORE_ALL_MS
from kstash.operators.calls import refuse
from kstash.operators.flow import WITHOUT_RECORDS, Flow
from kstash.operators.fold import ColumnFold
from kstash.operators.step import Scope, Stores
from kstash.operators.stream_time import WindowTime, last_of
from kstash.operators.windows.queue import ClosingQueue
from kstash.operators.windows.results import Results
from kstash.operators.windows.single import single
from kstash.operators.windows.unsent import unsent
from kstash.topology.window_nodes import WindowFold
from kstash.topology.window_places import queue_store_name

M = TypeVar("M")
"""What a record makes before it counts."""


class Unaligned(ABC, Generic[M]):
    """A fold of each window of one kind.

    Args:
        node: the windows.
        column_fold: the fold.
        length_ms: of a window that holds one record, from its start to where it could close.

    Attributes:
        grace_ms: of the windows.
        open_ms: what is so far behind the time, or less, is open.
    """

    def __init__(self, node: WindowFold[Any], column_fold: ColumnFold, length_ms: int) -> None:
        self.name = node.name
        self.queue_name = queue_store_name(node.name)
        self.result_key = node.windows.result_key(node.record_key)
        self.is_final = node.is_final
        self.grace_ms = node.grace_ms
        self.open_ms = length_ms + node.grace_ms
        self.column_fold = column_fold
        self.fold = single(column_fold)
        self.unsent = unsent(node, column_fold)

    @abstractmethod
    def begin(self, keys: list[bytes], flow: Flow, scope: Scope) -> Part[M]:
        """A run over the records of a flow."""

    def run(self, keys: list[bytes], flow: Flow, scope: Scope) -> None:
        """Put each record into its windows; what its time closes goes out before."""
        self._go_on(keys, flow, scope, None)

    def pass_time(self, time_ms: int, scope: Scope) -> None:
        """Close what is closed at a time that no record brought, or the first part of it."""
        time = WindowTime(scope.stores, self.name, self.grace_ms)
        if time_ms <= time.now_ms and not time.has_shorter_grace:
            return
        time.take(time_ms)
        self._close(scope)

    def idle_time_ms(self, stores: Stores) -> int | None:
        """When the last window closes that records have opened."""
        found = last_of(stores, self.name)
        if found is None:
            return None
        now_ms, last_ms = found
        time_ms = last_ms + self.open_ms + 1
        return time_ms if time_ms > now_ms else None

    def _close(self, scope: Scope) -> None:
        part = self.begin([], WITHOUT_RECORDS, scope)
        part.close(part.now - self.open_ms)
        part.results.end_record()
        part.keep()
        part.results.send(WITHOUT_RECORDS, self.column_fold, scope, with_headers=False)
        if part.queue.is_blocked:
            scope.later(self._close)

    def _go_on(self, keys: list[bytes], flow: Flow, scope: Scope, made: M | None) -> None:
        """Do so up to where very many windows close; the rest is left.

        What the first record made is given where it waits only for others to close.
        """
        part = self.begin(keys, flow, scope)
        left = part.take(made)
        part.keep()
        part.results.send(flow, self.column_fold, scope, with_headers=not self.is_final)
        if left is not None:
            at = part.at
            rest = flow.part(at, flow.count)
            scope.later(lambda scope: self._go_on(keys[at:], rest, scope, left))


class Part(ABC, Generic[M]):
    """A run over the records of a flow.

    Attributes:
        at: index of the record whose turn it is.
        now: the time that the operator has come to.
        last: the greatest start or end, of the two that by which windows close, of those that the
            records were put into.
        queue: what closes when.
        live: what is kept, by key: of the records' keys, and of those of which something may close.
        results: what is sent.
        made: the states that were kept, and in `makers` the indexes of their records.
    """

    def __init__(
        self,
        logic: Unaligned[M],
        keys: list[bytes],
        flow: Flow,
        *,
        scope: Scope,
        time: WindowTime | None = None,
    ) -> None:
        stores = scope.stores
        self.fold = logic.fold
        self.keys = keys
        self.flow = flow
        self.scope = scope
        self.at = -1
        self._time = time or WindowTime(stores, logic.name, logic.grace_ms)
        self.now = self._time.now_ms
        self.last = BEFORE_ALL_MS
        latest = max([self.now, *flow.times])
        self.queue = ClosingQueue(stores.ordered(logic.queue_name), latest - logic.open_ms)
        self.live = stores.store(logic.name).load([*keys, *self.queue.keys])
        self.results = Results(logic.result_key, logic.unsent)
        self.made: list[Any] = []
        self.makers: list[int] = []

    def keep(self) -> None:
        """Write what has changed beside the windows."""
        self.fold.check(self.made, self.makers)
        self._time.take(self.now)
        self._time.note_last(self.last)
        self.queue.keep()

    def take(self, made: M | None) -> M | None:
        """Take the records in order; returns what was made by one that has to wait for others."""
        flow = self.flow
        values = self.keys if flow.values is None else flow.values
        records = zip(self.keys, values, flow.live_timestamps, flow.times, strict=True)
        while True:
            try:
                return self.take_records(records, made)
            except KeyboardInterrupt:
                raise
            except BaseException as cause:
                refuse(self.scope, flow, self.fold.error(cause, self.at))
            made = None
            self.results.end_record()

    @abstractmethod
    def close(self, horizon: int) -> None:
        """Close what closes before, in order, up to where very many windows do."""

    @abstractmethod
    def take_records(
        self, records: Iterator[tuple[bytes, Any, int, int]], made: M | None
    ) -> M | None:
        """The same up to a record that fails, of which nothing is left then.

        Args:
            records: key, value, timestamp and time of each.
            made: by the first of them, or None.
        """
