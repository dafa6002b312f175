"""The store that operators see: a dict of live decoded values before a backing of encoded ones.

Invariants:
- Every entry of the live dict that differs from the backing is in the dirty set.
- The keys of the last `load` are leased: they stay resident and dirty until the next `load` of the
  same store or the next checkpoint, even when others are spilled, because the caller may still
  assign them.
- The backing holds only what was written back. It is read only for keys that are not resident.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import islice, repeat
from operator import is_not
from typing import Any, Protocol

from kstash.errors import StateError
from kstash.escape import error_text, short_repr
from kstash.ports.state import StoreSpec
from kstash.state.budget import MemoryBudget
from kstash.state.sizes import estimate_entry_bytes

_SAMPLE_KEYS_MAX = 32
_LOADS_PER_SAMPLE_MAX = 64
_SCAN_MIN = 8
"""Entries of the backing that are read at once, also where one is wanted: more costs little."""

_ENTRY_BYTES_INITIAL = 300.0
"""Assumed before the first sample: a short word and a count."""


class Backing(Protocol):
    """Encoded entries of one store, as of the last write-back."""

    def fetch(self, keys: list[bytes]) -> list[bytes | None]:
        """Encoded values in the order of `keys`; None where a key is absent."""

    def scan(self, lower: bytes, upper: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        """The first entries from `lower` on and below `upper` (None: to the last), in key order.

        At most `limit`; fewer are all that there are.
        """


@dataclass(frozen=True, slots=True)
class Changes:
    """What one store writes back, in this order: what is erased, then what is put and deleted.

    Attributes:
        keys: to put, in order.
        values: encoded, as many as `keys`.
        deletions: keys to delete, in order.
        erased: from, to: all entries from the one key on and below the other go, and so do those
            of `deletions` that are there; None: no such part.
    """

    keys: list[bytes]
    values: list[bytes]
    deletions: list[bytes]
    erased: tuple[bytes, bytes] | None = None

    @property
    def single_deletions(self) -> list[bytes]:
        """Those of `deletions` that are not erased together with others."""
        if self.erased is None:
            return self.deletions
        lower, upper = (bisect_left(self.deletions, bound) for bound in self.erased)
        return self.deletions[:lower] + self.deletions[upper:]


class CachedStore:
    """One store of a task: see the module's text. Not thread-safe."""

    def __init__(
        self, spec: StoreSpec, backing: Backing, budget: MemoryBudget, *, is_backing_empty: bool
    ) -> None:
        self.name = spec.name
        self._serialize = spec.serialize
        self._deserialize = spec.deserialize
        self._backing = backing
        self._budget = budget
        self._live: dict[bytes, Any] = {}
        self._dirty: set[bytes] = set()
        self._leased: Collection[bytes] = ()
        # While the backing holds nothing that is not resident, a miss needs no look-up.
        self._is_all_resident = is_backing_empty
        self._entry_bytes = _ENTRY_BYTES_INITIAL
        self._loads_between_samples = 1
        self._loads_until_sample = 1
        self.bytes_counted = 0

    def load(self, keys: Collection[bytes]) -> dict[bytes, Any]:
        """Make all of `keys` resident and dirty; absent keys stay absent in the dict.

        The caller may read and assign the values of `keys` until its next `load` of this store.

        Raises:
            StateError: reading, or writing to make room, failed. Nothing is lost.
        """
        live = self._live
        self._loads_until_sample -= 1
        if not self._loads_until_sample:
            self._sample()
        self._leased = keys
        self._budget.recount(self, int(len(live) * self._entry_bytes))
        # Only after making room: a spill must not mistake these keys for written ones.
        self._dirty.update(keys)
        if not self._is_all_resident:
            missing = [key for key in keys if key not in live]
            if missing:
                self._fetch(missing, live)
        return live

    def peek(self, keys: Collection[bytes]) -> dict[bytes, Any]:
        """The values of those of `keys` that are there: no lease, and nothing kept or dirtied.

        Raises:
            StateError: reading failed, or a value cannot be deserialized.
        """
        live = self._live
        found = {key: value for key in keys if (value := live.get(key)) is not None}
        if not self._is_all_resident:
            missing = [key for key in keys if key not in live]
            if missing:
                self._fetch(missing, found)
        return found

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

    def items(self) -> list[tuple[bytes, Any]]:
        """All entries in key order, resident or not. Reads the whole backing."""
        return self.range(b"", None, limit=sys.maxsize)

    def __len__(self) -> int:
        """Resident entries."""
        return len(self._live)

    def count(self, written: int) -> int:
        """About how many entries there are, when the backing has about `written`."""
        return len(self) if self._is_all_resident else max(len(self), written)

    def changes(self) -> Changes:
        """Encode all dirty entries.

        Raises:
            StateError: the serde cannot encode a value; names store and key.
        """
        # In key order: RocksDB takes sorted keys several times faster, and no run depends on the
        # order of a set.
        keys = sorted(self._dirty)
        values = list(map(self._live.get, keys))
        deletions: list[bytes] = []
        if not all(map(is_not, values, repeat(None))):
            # Deleted, or loaded while absent and never assigned.
            deletions = [key for key in keys if key in self._live and self._live[key] is None]
            keys = [key for key in keys if self._live.get(key) is not None]
            values = [self._live[key] for key in keys]
        try:
            return Changes(keys, list(map(self._serialize, values)), deletions)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a user's code, which may call sys.exit
            raise self._unserializable(keys, error) from error

    def mark_written(self, changes: Changes) -> None:
        """Forget what is dirty, after all of it was written back between two batches."""
        for key in changes.deletions:
            del self._live[key]
        self._reweigh(changes.keys, len(changes.keys))
        self._dirty = set()
        self._leased = ()

    def drop_clean(self) -> None:
        """Drop entries that the backing holds as they are."""
        self._keep(self._dirty.union(self._leased))

    def drop_written(self, changes: Changes) -> None:
        """Drop all but leased entries, after `changes` were written back within a batch.

        Leased keys may be assigned still, so they stay dirty.
        """
        self._reweigh(changes.keys, len(changes.keys))
        self._dirty = set(self._leased)
        self._keep(self._dirty)

    def _keep(self, keys: set[bytes]) -> None:
        live = self._live
        kept = {key: live[key] for key in keys if key in live}
        self._is_all_resident = self._is_all_resident and len(kept) == len(live)
        # The same dict object: a caller may hold it in the middle of its batch.
        live.clear()
        live.update(kept)
        self.bytes_counted = int(len(live) * self._entry_bytes)

    def _first(
        self, lower: bytes, upper: bytes | None, limit: int
    ) -> tuple[list[bytes], dict[bytes, bytes]]:
        """The first entries of a range: (resident keys in order, what the backing has beside them).

        Each part has what it holds of the first `limit` entries; the backing's may have more.
        """
        assert limit >= 1, "a range of nothing"
        resident = list(islice(self._resident(lower, upper, limit), limit))
        if self._is_all_resident:
            return resident, {}
        # Only what stands before the last of so many resident ones can be among the first.
        if len(resident) == limit:
            upper = resident[-1]
        return resident, self._written(lower, upper, limit)

    def _resident(self, lower: bytes, upper: bytes | None, limit: int) -> Iterable[bytes]:
        """The first keys of a range that have live values, `limit` or all of them, in order."""
        return nsmallest(
            limit,
            (
                key
                for key, value in self._live.items()
                if value is not None and key >= lower and (upper is None or key < upper)
            ),
        )

    def _written(self, start: bytes, upper: bytes | None, limit: int) -> dict[bytes, bytes]:
        """The first entries of a range that only the backing has: `limit` or more, or all."""
        live, found = self._live, dict[bytes, bytes]()
        while len(found) < limit and (upper is None or start < upper):
            count = max(limit - len(found), _SCAN_MIN)
            rows = self._backing.scan(start, upper, count)
            found.update((key, value) for key, value in rows if key not in live)
            is_last = len(rows) < count
            end = upper if is_last else rows[-1][0] + b"\0"
            self._scanned(start, end, rows)
            if is_last or end is None:
                break
            start = end
        return found

    def _scanned(
        self, start: bytes, end: bytes | None, rows: Sequence[tuple[bytes, bytes]]
    ) -> None:
        """The backing has these rows from `start` on and below `end`, and no other ones."""

    def _fetch(self, missing: list[bytes], into: dict[bytes, Any]) -> None:
        """Add those of `missing`, which are not resident, that the backing has."""
        self._decode(zip(missing, self._backing.fetch(missing), strict=True), into)

    def _decode(
        self, entries: Iterable[tuple[bytes, bytes | None]], into: dict[bytes, Any]
    ) -> None:
        """Add entries of the backing, decoded; a value of None is none."""
        deserialize = self._deserialize
        key = b""
        try:
            for key, value in entries:
                if value is not None:
                    into[key] = deserialize(value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a user's code, which may call sys.exit
            raise StateError(
                f"store {self.name!r}: the state of key {short_repr(key)} cannot be deserialized "
                f"({error_text(error)}): the serde is not the one that wrote it, and a "
                "changed format wants a serde of a new name"
            ) from error

    def _sample(self) -> None:
        """Weigh the entries of the last batch: the caller has assigned them by now."""
        self._loads_between_samples = min(2 * self._loads_between_samples, _LOADS_PER_SAMPLE_MAX)
        self._loads_until_sample = self._loads_between_samples
        self._reweigh(list(self._leased), len(self._dirty))

    def _reweigh(self, keys: Sequence[bytes], changed_count: int) -> None:
        """Estimate the mean entry from some `keys`, which stand for all that changed."""
        live = self._live
        if not live or not keys:
            return
        step = max(1, len(keys) // _SAMPLE_KEYS_MAX)
        sizes = [estimate_entry_bytes(key, live[key]) for key in keys[::step] if key in live]
        if sizes:
            weight = min(1.0, max(changed_count, len(sizes)) / len(live))
            sampled = sum(sizes) / len(sizes)
            self._entry_bytes += (sampled - self._entry_bytes) * weight

    def _unserializable(self, keys: list[bytes], error: BaseException) -> StateError:
        for key in keys:
            try:
                self._serialize(self._live[key])
            except BaseException:
                return StateError(
                    f"store {self.name!r}: the value of key {short_repr(key)} cannot be serialized "
                    f"({error_text(error)}); give the store a serde that fits"
                )
        return StateError(f"store {self.name!r}: a value cannot be serialized: {error_text(error)}")
