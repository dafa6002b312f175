"""The states of windows in their store: each with the largest timestamp of its records.

An entry is (state, timestamp). A fold works on the states alone, under whatever names the caller
gives to windows: it need not know that there are any.
"""

from __future__ import annotations

from itertools import repeat
from operator import is_not
from typing import Any

from kstash.operators.flow import Flow
from kstash.operators.fold import ColumnFold
from kstash.operators.step import Scope
from kstash.ports.state import OrderedStore

_BEFORE_ALL = -(1 << 63)
"""Below each timestamp, or as low."""

Folded = tuple[Flow | None, list[Any], list[int]]
"""Records that did not fail, the state of its window after each, the largest timestamp there."""


def fold_into(
    store: OrderedStore, prefix: bytes, column_fold: ColumnFold, flow: Flow, scope: Scope
) -> Folded:
    """Fold records into the windows that they are in.

    Args:
        store: of the windows.
        prefix: what stands before the name of a window in its key in the store.
        column_fold: the fold.
        flow: the records, in the place of whose keys the names of their windows stand.
        scope: decides about those that fail: nothing of them is left.
    """
    names: Any = flow.encoded
    # In the order of their first records; each with the timestamp of its last one.
    latest: dict[bytes, int] = dict(zip(names, flow.live_timestamps, strict=True))
    keys = [prefix + name for name in latest]
    live = store.load(keys)
    found = list(map(live.get, keys))
    states = {name: e[0] for name, e in zip(latest, found, strict=True) if e is not None}
    newest = max([entry[1] for entry in found if entry is not None], default=_BEFORE_ALL)
    left, made = column_fold.fold(states, names, flow, scope)
    if left is None:
        return None, [], []
    stamps = left.live_timestamps
    is_whole = left is flow and all(map(is_not, made, repeat(None)))
    if is_whole and newest <= stamps[0] and sorted(stamps) == stamps:
        # As a rule time only goes on.
        columns = map(states.__getitem__, latest), latest.values()
        live.update(zip(keys, zip(*columns, strict=True), strict=True))
        return left, made, stamps
    before = {name: e[1] for name, e in zip(latest, found, strict=True) if e is not None}
    largest = _running(left, made, before)
    for name, key in zip(latest, keys, strict=True):
        if name in before:
            state = states.get(name)
            live[key] = None if state is None else (state, before[name])
    return left, made, largest


def _running(flow: Flow, states: list[Any], latest: dict[bytes, int]) -> list[int]:
    """The largest timestamp in its window after each record; the last ones stay in `latest`.

    Where a window is emptied its records are forgotten.
    """
    largest: list[int] = []
    names: Any = flow.encoded
    get, append = latest.get, largest.append
    for name, stamp, state in zip(names, flow.live_timestamps, states, strict=True):
        newest = get(name, _BEFORE_ALL)
        if newest < stamp:
            newest = stamp
        append(newest)
        latest[name] = _BEFORE_ALL if state is None else newest
    return largest
