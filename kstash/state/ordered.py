"""The ordered store: a `CachedStore` whose entries are also read and removed in key order.

What is resident is merged with the table. Invariants, beside those of the cache:

- Each key with a live value is in the sorted keys or among the unsorted ones.
- Below the floor the table has no entry that counts: each one there is deleted in the live dict, or
  expired. So no read goes there, and the next write-back removes all of them at once.

The floor keeps queues fast: RocksDB has a tombstone for each entry that was deleted by itself, and
a search for the first entry walks over all of them (decision 0063).
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from kstash.ports.state import StoreSpec
from kstash.state.budget import MemoryBudget
from kstash.state.cache import CachedStore, Changes, Table
from kstash.state.sorted_keys import SortedKeys

_UNSORTED_MAX = 4096
"""Sorted in at once, so that no range has to sort in very many."""

_CHANGES_BETWEEN_COUNTS = 256

_SCAN_MIN = 8
"""Entries of the table that are read at once, also where one is wanted: more costs little."""


class CachedOrderedStore(CachedStore):
    """`kstash.ports.state.OrderedStore` before a table: see the module's text."""

    def __init__(
        self, spec: StoreSpec, table: Table, budget: MemoryBudget, *, is_table_empty: bool
    ) -> None:
        super().__init__(spec, table, budget, is_table_empty=is_table_empty)
        self._sorted = SortedKeys()
        self._unsorted: set[bytes] = set()
        self._floor = b""
        # The table has no entry at all below this.
        self._erased_below = b""
        self._changes_until_count = _CHANGES_BETWEEN_COUNTS

    def load(self, keys: Collection[bytes]) -> dict[bytes, Any]:
        """As the store of keyed values has it."""
        self._will_have(keys)
        return super().load(keys)

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

    def range(self, lower: bytes, upper: bytes | None, *, limit: int) -> list[tuple[bytes, Any]]:
        """The first entries from `lower` on and below `upper` (None: to the last), in key order.

        Raises:
            StateError: reading failed, or a value cannot be deserialized.
        """
        resident, written = self._first(lower, upper, limit)
        live = self._live
        found = {key: live[key] for key in resident}
        if written:
            kept = sorted([*found, *written])[:limit]
            self._decode(((key, written[key]) for key in kept if key in written), found)
            return [(key, found[key]) for key in kept]
        return list(found.items())

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

    def items(self) -> list[tuple[bytes, Any]]:
        """All entries in key order, resident or not. Reads the whole table."""
        return self.range(b"", None, limit=sys.maxsize)

    # --- write-back -----------------------------------------------------------------------------

    def changes(self) -> Changes:
        """Encode all dirty entries; what lies below the floor is erased as a whole.

        Raises:
            StateError: the serde cannot encode a value; names store and key.
        """
        changes = super().changes()
        if self._floor > self._erased_below:
            return replace(changes, erased=(self._erased_below, self._floor))
        return changes

    def mark_written(self, changes: Changes) -> None:
        """Forget what is dirty, after all of it was written back between two batches."""
        super().mark_written(changes)
        self._settle(changes)

    def drop_written(self, changes: Changes) -> None:
        """Drop all but leased entries, after `changes` were written back within a batch."""
        super().drop_written(changes)
        self._settle(changes)

    def _settle(self, changes: Changes) -> None:
        """What was put below the floor is there; the rest of it is empty."""
        lowest = changes.keys[:1] or [self._floor]
        self._floor = self._erased_below = min(self._floor, lowest[0])
        for key in changes.deletions:
            if key not in self._live:
                self._sorted.discard(key)

    def _keep(self, keys: set[bytes]) -> None:
        super()._keep(keys)
        self._sorted.renew(key for key, value in self._live.items() if value is not None)
        # They may be assigned still.
        self._unsorted = set(self._leased)

    # --- reading --------------------------------------------------------------------------------

    def _will_have(self, keys: Collection[bytes]) -> None:
        """Note keys that are about to get values and are not sorted in yet."""
        if len(self._unsorted) > _UNSORTED_MAX:
            self._sort()
        get = self._live.get
        self._unsorted.update([key for key in keys if get(key) is None])

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
            for key in self._unsorted:
                if get(key) is not None:
                    add(key)
                elif key in leased:
                    waiting.add(key)
            self._unsorted = waiting

    def _first(
        self, lower: bytes, upper: bytes | None, limit: int
    ) -> tuple[list[bytes], dict[bytes, bytes]]:
        """The first entries of a range: (resident keys in order, what the table has beside them).

        Each part has what it holds of the first `limit` entries; the table's may have more.
        """
        assert limit >= 1, "a range of nothing"
        self._sort()
        live = self._live
        values = (key for key in self._sorted.walk(lower, upper) if live.get(key) is not None)
        resident = list(islice(values, limit))
        if self._is_all_resident:
            first = resident[0] if resident else upper
            if lower <= self._floor and first is not None:
                self._floor = max(self._floor, first)
            return resident, {}
        # Only what stands before the last of so many resident ones can be among the first.
        if len(resident) == limit:
            upper = resident[-1]
        return resident, self._written(lower, upper, limit)

    def _written(self, lower: bytes, upper: bytes | None, limit: int) -> dict[bytes, bytes]:
        """The first entries that only the table has; raises the floor past those that are none."""
        live, found = self._live, dict[bytes, bytes]()
        is_at_floor = lower <= self._floor
        start = max(lower, self._floor)
        while len(found) < limit and (upper is None or start < upper):
            count = max(limit - len(found), _SCAN_MIN)
            rows = self._table.scan(start, upper, count)
            for key, value in rows:
                if key not in live:
                    found[key] = value
                if is_at_floor and live.get(key, value) is not None:
                    self._floor, is_at_floor = key, False
            is_last = len(rows) < count
            end = upper if is_last else rows[-1][0] + b"\0"
            if is_at_floor and end is not None:
                self._floor = end
            if is_last:
                break
            start = rows[-1][0] + b"\0"
        return found

    def _fetch(self, missing: list[bytes], into: dict[bytes, Any]) -> None:
        """What lies below the floor is not there."""
        floor = self._floor
        super()._fetch([key for key in missing if key >= floor], into)
