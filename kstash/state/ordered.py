"""The ordered store: a `CachedStore` whose entries are also read and removed in key order.

What is resident is merged with the backing. Invariants, beside those of the cache:

- Each key with a live value is in the sorted keys or among the unsorted ones.
- Below the floor the backing has no entry that counts: each one is deleted in the live dict, or
  expired. So no read goes there, and the next write-back removes all of them at once.

The floor keeps queues fast: RocksDB has a tombstone for each entry that was deleted by itself, and
a search for the first entry walks over all of them (decision 0063).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kstash.ports.state import StoreSpec
from kstash.state.backing import Backing, Changes
from kstash.state.budget import MemoryBudget
from kstash.state.cache import CachedStore
from kstash.state.sorted_keys import SortedKeys

_UNSORTED_MAX = 4096
"""Sorted in at once, so that no range has to sort in very many."""

_CHANGES_BETWEEN_COUNTS = 256


class CachedOrderedStore(CachedStore):
    """`kstash.ports.state.OrderedStore` before a backing: see the module's text."""

    _is_sorted = True

    def __init__(
        self, spec: StoreSpec, backing: Backing, budget: MemoryBudget, *, is_backing_empty: bool
    ) -> None:
        super().__init__(spec, backing, budget, is_backing_empty=is_backing_empty)
        self._sorted = SortedKeys()
        self._unsorted: set[bytes] = set()
        self._floor = b""
        # The backing has no entry at all below this.
        self._erased_below = b""
        self._changes_until_count = _CHANGES_BETWEEN_COUNTS

    def load(self, keys: Collection[bytes]) -> dict[bytes, Any]:
        """As the store of keyed values has it."""
        return self._load(keys, self._will_have(keys))

    def put(self, entries: Mapping[bytes, Any]) -> None:
        """Set entries whose older values nobody needs. A value is not None.

        Raises:
            StateError: writing to make room failed. Nothing is lost.
        """
        self._will_have(entries)
        self._live.update(entries)
        self._changed(entries)

    def delete(self, keys: Collection[bytes]) -> None:
        """Delete entries without reading them; those that are not there are fine.

        Raises:
            StateError: writing to make room failed. Nothing is lost.
        """
        for key in keys:
            self._live[key] = None
            self._sorted.discard(key)
        self._changed(keys)

    def expire_below(self, bound: bytes, *, limit: int) -> bool:
        """Remove the first entries below `bound`, at most `limit`; returns whether more are left.

        Raises:
            StateError: reading failed.
        """
        resident, written = self._first(b"", bound, limit + 1)
        keys = sorted([*resident, *written])
        is_more = len(keys) > limit
        if is_more:
            bound = keys[limit]
        leased = set(self._leased)
        for key in self._sorted.drop_below(bound):
            # What is not resident does not count below the floor, so it need not be deleted; a
            # leased key stays dirty, for its caller may assign it again.
            self._live.pop(key, None)
            if key in leased:
                self._unsorted.add(key)
            else:
                self._dirty.discard(key)
        self._floor = max(self._floor, bound)
        return is_more

    # --- write-back -----------------------------------------------------------------------------

    def changes(self) -> Changes:
        """Encode all dirty entries; what lies below the floor is erased as a whole.

        Raises:
            StateError: the serde cannot encode a value; names store and key.
        """
        return self._with_erased(super().changes())

    def _changes_of(self, keys: list[bytes]) -> Changes:
        return self._with_erased(super()._changes_of(keys))

    def _with_erased(self, changes: Changes) -> Changes:
        if self._floor > self._erased_below:
            return replace(changes, erased=(self._erased_below, self._floor))
        return changes

    def mark_written(self, changes: Changes) -> None:
        """Forget what is dirty, after all of it was written back between two batches."""
        super().mark_written(changes)
        self._settle(changes)

    def _settle(self, changes: Changes) -> None:
        """What was put below the floor is there; the rest of it is empty."""
        lowest = changes.keys[:1] or [self._floor]
        self._floor = self._erased_below = min(self._floor, lowest[0])
        for key in changes.deletions:
            if key not in self._live:
                self._sorted.discard(key)

    def _drop(self, keys: list[bytes]) -> None:
        super()._drop(keys)
        self._sorted.discard_all(keys)

    # --- reading --------------------------------------------------------------------------------

    def _will_have(self, keys: Collection[bytes]) -> list[bytes]:
        """Note keys that are about to get values and are not sorted in yet; returns these."""
        if len(self._unsorted) > _UNSORTED_MAX:
            self._sort()
        get = self._live.get
        absent = [key for key in keys if get(key) is None]
        self._unsorted.update(absent)
        return absent

    def _changed(self, keys: Collection[bytes]) -> None:
        """Note what was put or deleted, and make room now and then."""
        self._dirty.update(keys)
        self._changes_until_count -= len(keys)
        if self._changes_until_count <= 0:
            self._changes_until_count = _CHANGES_BETWEEN_COUNTS
            self._reweigh(list(keys), len(self._dirty))
            self._budget.recount(self, int(len(self._live) * self._entry_bytes))

    def _sort(self) -> None:
        """Sort in the keys that have a value by now; leased ones may get one later."""
        if self._unsorted:
            get, add = self._live.get, self._sorted.add
            leased = set(self._leased)
            waiting = set()
            # In order, so that one after the other goes into the same chunk.
            for key in sorted(self._unsorted):
                if get(key) is not None:
                    add(key)
                elif key in leased:
                    waiting.add(key)
            self._unsorted = waiting

    def _first(
        self, lower: bytes, upper: bytes | None, limit: int
    ) -> tuple[list[bytes], dict[bytes, bytes]]:
        """As in general; and what stands at the front is known from then on."""
        self._sort()
        resident, written = super()._first(lower, upper, limit)
        first = resident[0] if resident else upper
        if self._is_all_resident and lower <= self._floor and first is not None:
            self._floor = max(self._floor, first)
        return resident, written

    def _resident(self, lower: bytes, upper: bytes | None, limit: int) -> Iterable[bytes]:  # noqa: ARG002 - as many as are taken
        live = self._live
        return (key for key in self._sorted.walk(lower, upper) if live.get(key) is not None)

    def _written(self, start: bytes, upper: bytes | None, limit: int) -> dict[bytes, bytes]:
        return super()._written(max(start, self._floor), upper, limit)

    def _scanned(
        self, start: bytes, end: bytes | None, rows: Sequence[tuple[bytes, bytes]]
    ) -> None:
        """Raise the floor past rows that do not count, where they stand at it."""
        if start > self._floor:
            return
        for key, value in rows:
            if self._live.get(key, value) is not None:
                self._floor = key
                return
        if end is not None:
            self._floor = end

    def _fetch(self, keys: Iterable[bytes], into: dict[bytes, Any]) -> None:
        """What lies below the floor is not there."""
        floor = self._floor
        super()._fetch((key for key in keys if key >= floor), into)
