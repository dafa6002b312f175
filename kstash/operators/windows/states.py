"""The states of windows in their store: each with the largest timestamp of its records.

An entry is (state, timestamp). A fold works on the states alone, under whatever names the caller
gives to windows: it need not know that there are any.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat
from operator import is_not
from typing import Any

from kstash.operators.flow import Flow
from kstash.operators.fold import Folder
from kstash.operators.step import Scope
from kstash.ports.state import OrderedStore

_BEFORE_ALL = -(1 << 63)
"""Below each timestamp, or as low."""

Folded = tuple[Flow | None, list[Any], list[int]]
"""Records that did not fail, the state of its window after each, the largest timestamp there."""


def fold_into(
    store: OrderedStore, windows: Mapping[bytes, bytes], folder: Folder, flow: Flow, scope: Scope
) -> Folded:
    """Fold records into the windows that they are in.

    Args:
        store: of the windows.
        windows: by name, the key of each in the store.
        folder: the fold.
        flow: the records, in the place of whose keys the names of their windows stand.
        scope: decides about those that fail: nothing of them is left.
    """
    live = store.load(windows.values())
    get = live.get
    entries = {name: entry for name, key in windows.items() if (entry := get(key)) is not None}
    states = {name: entry[0] for name, entry in entries.items()}
    names: Any = flow.encoded
    left, made = folder.fold(states, names, flow, scope)
    if left is None:
        return None, [], []
    names, stamps = left.encoded, left.live_timestamps
    is_whole = all(map(is_not, made, repeat(None)))
    before = {name: entry[1] for name, entry in entries.items()}
    if max(before.values(), default=_BEFORE_ALL) <= stamps[0] and sorted(stamps) == stamps:
        # As a rule time only goes on.
        largest, latest = stamps, dict(zip(names, stamps, strict=True))
    elif is_whole:
        largest, latest = _running(names, stamps, before), before
    else:
        largest, latest = _running_anew(names, stamps, made, before), before
    if is_whole and left is flow:
        known = map(states.__getitem__, windows), map(latest.__getitem__, windows)
        live.update(zip(windows.values(), zip(*known, strict=True), strict=True))
        return left, made, largest
    for name in dict.fromkeys(names):
        state = states.get(name)
        live[windows[name]] = None if state is None else (state, latest[name])
    return left, made, largest


def _running(names: list[bytes], stamps: list[int], latest: dict[bytes, int]) -> list[int]:
    """The largest timestamp in its window after each record; the last ones stay in `latest`."""
    largest: list[int] = []
    get, append = latest.get, largest.append
    for name, stamp in zip(names, stamps, strict=True):
        before = get(name, _BEFORE_ALL)
        if before > stamp:
            append(before)
        else:
            latest[name] = stamp
            append(stamp)
    return largest


def _running_anew(
    names: list[bytes], stamps: list[int], states: list[Any], latest: dict[bytes, int]
) -> list[int]:
    """The same where a window may be emptied, after which its records are forgotten."""
    largest: list[int] = []
    for name, stamp, state in zip(names, stamps, states, strict=True):
        newest = max(latest.get(name, _BEFORE_ALL), stamp)
        largest.append(newest)
        latest[name] = _BEFORE_ALL if state is None else newest
    return largest
