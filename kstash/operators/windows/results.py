"""What windows send that take record by record: columns of results, and the records too late."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain, repeat
from operator import sub
from typing import Any, cast

from kstash.operators.flow import Expanded, Flow
from kstash.operators.fold import ColumnFold
from kstash.operators.step import Scope
from kstash.operators.windows.keys import start_bytes
from kstash.operators.windows.step import Bounds, drop_late
from kstash.operators.windows.unsent import Unsent
from kstash.serdes import Serde


class Results:
    """What the records of a flow make, from the first one on.

    Args:
        key_serde: of the windows' keys.
        unsent: where results wait for their interval; None: they are sent at once.
    """

    def __init__(self, key_serde: Serde[Any], unsent: Unsent | None = None) -> None:
        self._key_serde = key_serde
        self._unsent = unsent
        self._ends: list[int] = []
        self._windows: list[bytes | None] = []
        self._states: list[Any] = []
        self._timestamps: list[int] = []
        self._times: list[int] = []
        # Whether each window was there before the first of its results.
        self._was_there: dict[bytes, bool] = {}
        self._late: dict[int, Bounds] = {}

    def add(self, window: bytes, state: Any, timestamp: int, time: int, *, was_there: bool) -> None:
        """Add a result of the record whose turn it is.

        Args:
            window: its encoded key.
            state: of the fold; None sends a tombstone.
            timestamp: of the result.
            time: that it carries to operators after this one.
            was_there: whether there was such a window before the record.
        """
        if self._unsent is not None:
            self._was_there.setdefault(window, was_there)
        self._windows.append(window)
        self._states.append(state)
        self._timestamps.append(timestamp)
        self._times.append(time)

    def add_all(
        self,
        key: bytes,
        starts: list[int],
        states: list[Any],
        timestamps: list[int],
        time: int,
        *,
        were_there: Collection[int],
    ) -> None:
        """Add results of windows of one key, all at one time.

        Args:
            key: of the records, encoded.
            starts: of the windows.
            states: of each, as of `add`.
            timestamps: of each.
            time: that each carries.
            were_there: starts of those that there were before the record.
        """
        windows = [key + data for data in map(start_bytes, starts)]
        if self._unsent is not None:
            for window, start in zip(windows, starts, strict=True):
                self._was_there.setdefault(window, start in were_there)
        self._windows += windows
        self._states += states
        self._timestamps += timestamps
        self._times += [time] * len(starts)

    def add_late(self, index: int, windows: Bounds) -> None:
        """Note that a record came too late for these."""
        self._late[index] = windows

    def end_record(self) -> None:
        """It is the turn of the next record."""
        self._ends.append(len(self._states))

    def send(
        self, flow: Flow, column_fold: ColumnFold, scope: Scope, *, with_headers: bool
    ) -> None:
        """Send all that the first records of a flow have made, as many as had their turn.

        Args:
            flow: the records.
            column_fold: says what is sent of a state.
            scope: of the batch.
            with_headers: whether results have those of their records.
        """
        if self._late:
            late = flow.select([index in self._late for index in range(flow.count)])
            assert late is not None
            drop_late(late, list(self._late.values()), scope)
        if not self._states:
            return
        if self._unsent is not None:
            windows = cast("list[bytes]", self._windows)
            were_there = {window for window, was_there in self._was_there.items() if was_there}
            self._unsent.keep(
                windows,
                self._states,
                self._timestamps,
                self._times,
                were_there=were_there,
                scope=scope,
            )
            return
        counts = list(map(sub, self._ends, [0, *self._ends]))
        headers = None
        if with_headers and flow.headers is not None:
            headers = list(chain.from_iterable(map(repeat, flow.headers, counts)))
        scope.out(
            Flow(
                count=len(self._states),
                keys=None,
                encoded=self._windows,
                key_serde=self._key_serde,
                values=column_fold.shown(self._states),
                timestamps=self._timestamps,
                headers=headers,
                trail=Expanded(flow.trail, counts),
                event_times=None if self._times == self._timestamps else self._times,
            )
        )
