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
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from heapq import nsmallest
from itertools import islice, repeat
from operator import is_not
from typing import Any

from kstash.errors import StateError
from kstash.escape import error_text, short_repr
from kstash.ports.state import StoreSpec
from kstash.state.backing import Backing, Changes
from kstash.state.budget import MemoryBudget
from kstash.state.parts import PART_BYTES, PART_ENTRIES, SPREAD_KEYS, in_order
from kstash.state.sizes import estimate_entry_bytes

_SAMPLE_KEYS_MAX = 32
_LOADS_PER_SAMPLE_MAX = 64
_SCAN_MIN = 8
"""Entries of the backing that are read at once, also where one is wanted: more costs little."""

_ENTRY_BYTES_INITIAL = 300.0
"""Assumed before the first sample: a short word and a count."""


class CachedStore:
    """One store of a task: see the module's text. Not thread-safe."""

    _is_sorted = False
    """Whether its keys are kept in order, too: they leave faster in order then."""

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
        return self._load(keys, keys)

    def _load(self, keys: Collection[bytes], sought: Iterable[bytes]) -> dict[bytes, Any]:
        """The same; `sought` are those of the keys that may not be resident, all of them."""
        live = self._live
        self._loads_until_sample -= 1
        if not self._loads_until_sample:
            self._sample()
        self._leased = keys
        self._budget.recount(self, int(len(live) * self._entry_bytes))
        # Only after making room: a spill must not mistake these keys for written ones.
        self._dirty.update(keys)
        self._fetch(sought, live)
        return live

    def peek(self, keys: Collection[bytes]) -> dict[bytes, Any]:
        """The values of those of `keys` that are there: no lease, and nothing kept or dirtied.

        Raises:
            StateError: reading failed, or a value cannot be deserialized.
        """
        live = self._live
        found = {key: value for key in keys if (value := live.get(key)) is not None}
        self._fetch(keys, found)
        return found

    def range(self, lower: bytes, upper: bytes | None, *, limit: int) -> list[tuple[bytes, Any]]:
        """The first entries from `lower` on and below `upper` (None: to the last), in key order.

        Raises:
            StateError: reading failed, or a value cannot be deserialized.
        """
        resident, written = self._first(lower, upper, limit)
        found = {key: self._live[key] for key in resident}
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
        return self._encoded(sorted(self._dirty))

    def _encoded(self, keys: list[bytes]) -> Changes:
        """Encode dirty entries, whose keys are in order."""
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

    # --- making room, part by part ----------------------------------------------------------------

    def dropping_clean(self) -> Iterator[None]:
        """Drop entries that the backing holds as they are, a part with each step."""
        # A look at each key is for nothing where all are dirty, as while a state is filled.
        if len(self._live) > len(self._dirty):
            for part in self._parts(is_clean=True):
                # Those of a batch that is about to begin are leased, and not dirty yet.
                dirty, leased = self._dirty, set(self._leased)
                self._drop([key for key in part if key not in dirty and key not in leased])
                yield

    def spilling(self, put_back: Callable[[Changes], object]) -> Iterator[None]:
        """Write entries back and drop them, a part with each step; leased ones stay as they are.

        Between two steps anything may be done with the store: what stands in it then is written.

        Args:
            put_back: writes a part to the backing; what it raises ends the last step, and its part
                stays resident.

        Raises:
            StateError: the serde cannot encode a value; names store and key.
        """
        for part in self._parts(is_clean=False):
            live, dirty = self._live, self._dirty
            keys = changed = part
            # One look at all at once: as a rule none of them is leased, or clean, or gone.
            if not (dirty.issuperset(part) and set(self._leased).isdisjoint(part)):
                leased = set(self._leased)
                keys = [key for key in part if key in live and key not in leased]
                changed = [key for key in keys if key in dirty]
            changes = self._changes_of(changed)
            put_back(changes)
            self._reweigh(changes.keys, len(changes.keys))
            self._drop(keys)
            self._settle(changes)
            yield
        yield from self._forget_absent()

    def writing_ahead(self, put_back: Callable[[Changes], bool]) -> Iterator[None]:
        """Write entries back as `spilling` does, and keep them: what changes is dirty again."""
        for part in in_order(list(self._dirty), self._part_size):
            while True:
                dirty, leased = self._dirty, set(self._leased)
                keys = [key for key in part if key in dirty and key not in leased]
                if put_back(changes := self._changes_of(keys)):
                    break
                yield  # not now: it may have changed by then
            deque(map(self._live.pop, changes.deletions), maxlen=0)
            dirty.difference_update(keys)
            self._settle(changes)
            yield

    @property
    def parts_ahead(self) -> float:
        """How many parts `writing_ahead` would write, about; 0 or more."""
        return max(0, len(self._dirty) - len(self._leased)) / self._part_size

    def _forget_absent(self) -> Iterator[None]:
        """Keys that were loaded while absent, and never assigned, are dirty no more."""
        keys = list(self._dirty)
        for at in range(0, len(keys), SPREAD_KEYS):
            absent = {key for key in keys[at : at + SPREAD_KEYS] if key not in self._live}
            self._dirty -= absent.difference(self._leased)
            yield

    @property
    def _part_size(self) -> int:
        return max(1, min(PART_ENTRIES, int(PART_BYTES / self._entry_bytes)))

    def _parts(self, *, is_clean: bool) -> Iterator[list[bytes]]:
        """The keys of all resident entries in parts; some are empty while the order is found."""
        if is_clean and not self._is_sorted:
            size, keys = self._part_size, list(self._live)
            return (keys[at : at + size] for at in range(0, len(keys), size))
        return in_order(list(self._live), self._part_size)

    def _changes_of(self, keys: list[bytes]) -> Changes:
        """Encode those of the dirty entries, whose keys are in order."""
        return self._encoded(keys)

    def _drop(self, keys: list[bytes]) -> None:
        """Entries are resident no more; the backing has them as they are."""
        live = self._live
        if self._is_all_resident:
            self._is_all_resident = all(live.get(key) is None for key in keys)
        deque(map(live.pop, keys, repeat(None)), maxlen=0)
        self._dirty.difference_update(keys)
        self.bytes_counted = int(len(live) * self._entry_bytes)

    def _settle(self, changes: Changes) -> None:
        """The backing has these changes."""

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

    def _fetch(self, keys: Iterable[bytes], into: dict[bytes, Any]) -> None:
        """Add those of `keys` that only the backing has."""
        live = self._live
        missing = [] if self._is_all_resident else [key for key in keys if key not in live]
        if missing:
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
