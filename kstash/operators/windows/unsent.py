"""Results of windows that wait for their interval: the newest of each window, kept in stores.

A place in the queue says when its window has changed first since it was sent, in the operator's
stream time. So results leave in an order in which that time rises, and an operator after this one
finds none of them late that it would not have found late when it changed.

A window that begins and goes within an interval was never sent, so nothing takes it back. An entry
says whether that is so; a window that is there and has none was sent.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

from kstash.operators.flow import ENTERED, Expanded, Flow
from kstash.operators.fold import ColumnFold
from kstash.operators.step import Scope, Stores
from kstash.serdes import Serde
from kstash.topology.traits import PART_RECORDS, STAMP_BYTES, stamp, stamped_at_ms
from kstash.topology.window_nodes import WindowFold
from kstash.topology.window_places import (
    Place,
    decode_place,
    encode_place,
    queue_store_name,
    unsent_store_name,
)

_COUNT = b""
"""The key of how many wait; no window has it."""

_GONE, _THERE = 0, 1
"""The second number of a place: windows that are taken back come before those that are new."""

_FIRST = 2
"""What stands in an entry in its place where nothing of the window was sent before."""


class Unsent:
    """What an operator has not sent yet.

    An entry is a place's two numbers, a timestamp, and the encoded state where there is one. In
    place of the second number stands `_FIRST` where nothing was sent before.

    Args:
        node: the windows.
        column_fold: says what is sent of a state.
    """

    def __init__(self, node: WindowFold[Any], column_fold: ColumnFold) -> None:
        self._name = unsent_store_name(node.name)
        self._queue = queue_store_name(self._name)
        self._column_fold = column_fold
        self._state: Serde[Any] = node.fold.state
        self._key_serde: Serde[Any] = node.windows.result_key(node.record_key)

    def are_there(self, stores: Stores) -> bool:
        """Whether anything waits."""
        return _count_in(stores.store(self._name).peek((_COUNT,))) > 0

    def keep(
        self,
        windows: list[bytes],
        states: list[Any],
        timestamps: list[int],
        times: list[int],
        were_there: Collection[bytes],
        scope: Scope,
    ) -> None:
        """Windows have changed, one after the other: the last result of each counts.

        One that is taken back is so only where something of it was sent.

        Args:
            windows: their encoded keys; one may stand there several times.
            states: of each; None: it is taken back.
            timestamps: of each result.
            times: of the operator, when each of them changed.
            were_there: those of the windows that there were before the first of these changes.
            scope: of the batch.
        """
        stores = scope.stores
        first = dict(zip(reversed(windows), reversed(times), strict=True))
        last = dict(zip(windows, zip(states, timestamps, strict=True), strict=True))
        live = stores.store(self._name).load([*last, _COUNT])
        queue = stores.ordered(self._queue)
        gone: list[bytes] = []
        places: dict[bytes, bytes] = {}
        serialize = self._state.serialize
        more = 0  # that wait
        for window, (state, timestamp) in last.items():
            what = _GONE if state is None else _THERE
            known: bytes | None = live.get(window)
            at_ms, was, is_first = max(first[window], 0), None, window not in were_there
            if known is not None:
                at_ms, kind = stamped_at_ms(known), known[STAMP_BYTES]
                was, is_first = min(kind, _THERE), kind == _FIRST
            if was is not None and was != what:
                gone.append(encode_place((at_ms, was, window)))
            if state is None and is_first:
                more -= known is not None
                live[window] = None
                continue
            more += known is None
            if was != what:
                places[encode_place((at_ms, what, window))] = b""
            head = stamp(at_ms) + bytes((_FIRST if is_first else what,)) + stamp(timestamp)
            live[window] = head if state is None else head + serialize(state)
        if gone:
            queue.delete(gone)
        if places:
            queue.put(places)
        left = _count_in(live) + more
        live[_COUNT] = stamp(left) if left else None

    def send(self, scope: Scope) -> None:
        """Send what waits, or the first part of it."""
        stores = scope.stores
        queue = stores.ordered(self._queue)
        found = queue.range(b"", None, limit=PART_RECORDS)
        if not found:
            return
        places: list[Place] = [decode_place(place) for place, _ in found]
        windows = [window for _, _, window in places]
        live = stores.store(self._name).load([*windows, _COUNT])
        kept: list[bytes] = [live[window] for window in windows]
        deserialize = self._state.deserialize
        states = [
            deserialize(data[2 * STAMP_BYTES + 1 :]) if what == _THERE else None
            for (_, what, _), data in zip(places, kept, strict=True)
        ]
        scope.out(
            Flow(
                count=len(windows),
                keys=None,
                encoded=cast("list[bytes | None]", windows),
                key_serde=self._key_serde,
                values=self._column_fold.shown(states),
                timestamps=[stamped_at_ms(data[STAMP_BYTES + 1 :]) for data in kept],
                headers=None,
                trail=Expanded(ENTERED, [len(windows)]),
                event_times=[at_ms for at_ms, _, _ in places],
            )
        )
        for window in windows:
            live[window] = None
        queue.expire_below(found[-1][0] + b"\0", limit=len(found))
        left = _count_in(live) - len(windows)
        live[_COUNT] = stamp(left) if left else None


def _count_in(entries: dict[bytes, Any]) -> int:
    data = entries.get(_COUNT)
    return 0 if data is None else stamped_at_ms(data)


def unsent(node: WindowFold[Any], column_fold: ColumnFold) -> Unsent | None:
    """Of windows that send at intervals; None: they send at once."""
    return None if node.every_ms is None else Unsent(node, column_fold)
