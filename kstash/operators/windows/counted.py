"""Windows by the number of records: each sends its result with its last record.

They know no time: which records a window holds depends on their order alone, which is that of their
partition. All windows of a key that are not full are one entry of a store.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kstash.operators.calls import refuse
from kstash.operators.flow import Flow
from kstash.operators.fold import ColumnFold
from kstash.operators.step import Scope, Stores
from kstash.operators.windows.results import Results
from kstash.operators.windows.single import NewState, single
from kstash.topology.count_nodes import CountedFold, OpenCount, OpenCounts


class CountedWindows:
    """A fold of each key and window.

    Args:
        node: the windows.
        column_fold: the fold.
    """

    def __init__(self, node: CountedFold, column_fold: ColumnFold) -> None:
        self.name = node.name
        self.key_serde = node.record_key
        self.size, self.step = node.windows.size, node.windows.step
        self.column_fold = column_fold
        self.fold = single(column_fold)
        self.unsent = None

    def run(self, keys: list[bytes], flow: Flow, scope: Scope) -> None:
        """Put each record into its windows, and send the one that it fills."""
        run = _Run(self, keys, flow, scope=scope)
        run.take_all()
        run.results.send(flow, self.column_fold, scope, with_headers=True)

    def pass_time(self, time_ms: int, scope: Scope) -> None:
        """They know no time."""

    def idle_time_ms(self, stores: Stores) -> int | None:  # noqa: ARG002 - there is no such time
        """None closes them."""
        return None


class _Run:
    """A run over the records of a flow.

    Attributes:
        at: index of the record whose turn it is.
        results: what is sent.
    """

    def __init__(
        self, logic: CountedWindows, keys: list[bytes], flow: Flow, *, scope: Scope
    ) -> None:
        self.logic = logic
        self.keys, self.flow, self.scope = keys, flow, scope
        self.live = scope.stores.store(logic.name).load(keys)
        self.at = -1
        self.results = Results(logic.key_serde)
        self.made: list[Any] = []
        self.makers: list[int] = []

    def take_all(self) -> None:
        """Take the records in order."""
        flow, fold = self.flow, self.logic.fold
        values = self.keys if flow.values is None else flow.values
        records = zip(self.keys, values, flow.live_timestamps, flow.times, strict=True)
        while True:
            try:
                self._take(records)
                break
            except KeyboardInterrupt:
                raise
            except BaseException as cause:
                refuse(self.scope, flow, fold.error(cause, self.at))
            self.results.end_record()
        fold.check(self.made, self.makers)

    def _take(self, records: Iterator[tuple[bytes, Any, int, int]]) -> None:
        """The same up to a record that fails, of which nothing is left then."""
        live, add, apart = self.live, self.logic.fold.add, self.scope.may_skip
        for key, value, timestamp, time in records:
            self.at += 1
            counts: OpenCounts = live.get(key) or OpenCounts()
            states = [() if w.state is None else (w.state,) for w in counts.windows]
            if not counts.until:
                states.append(())
            made = [add(state, value, self.at, apart=apart) for state in states]
            # The user's code has returned: from here on the record counts.
            full = self._apply(counts, timestamp, made)
            live[key] = counts if counts.windows or counts.until else None
            if full is not None and full.state is not None:
                self.results.add(key, made[0].sent, full.latest_ms, time, was_there=True)
            self.results.end_record()

    def _apply(self, counts: OpenCounts, timestamp: int, made: list[NewState]) -> OpenCount | None:
        """Keep what a record has made of each window; returns the one that is full now."""
        if not counts.until:
            counts.windows.append(OpenCount(0, timestamp, None))
            counts.until = self.logic.step
        counts.until -= 1
        for window, new in zip(counts.windows, made, strict=True):
            window.count += 1
            window.latest_ms = max(window.latest_ms, timestamp)
            window.state = new.state
            if new.state is not None:
                self.made.append(new.state)
                self.makers.append(self.at)
        return counts.windows.pop(0) if counts.windows[0].count == self.logic.size else None
