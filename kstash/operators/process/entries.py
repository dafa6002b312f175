"""What is read and written in the stores of a processor, and how it is taken back.

All entries are bytes: a user's code is given what the serde makes of them, so no object of its own
is ever the state. What was written at one record is undone where that record is skipped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Set
from typing import Protocol

from kstash.operators.step import Stores
from kstash.ports.state import KeyValueStore, OrderedStore

_PAGE = 100
"""Entries of a map that are read at once."""


class Entries(Protocol):
    """One store, entry by entry."""

    def begin(self, stores: Stores, keys: Set[bytes]) -> None:
        """A batch begins, of records of these keys."""

    def read(self, key: bytes) -> bytes | None:
        """The entry of a key, if there is one."""

    def write(self, key: bytes, data: bytes | None) -> None:
        """Set an entry, or remove it."""


class Journal:
    """What entries held before a call changed them.

    Attributes:
        is_kept: whether that is asked for.
    """

    __slots__ = ("_changed", "is_kept")

    def __init__(self) -> None:
        self.is_kept = False
        self._changed: list[tuple[Entries, bytes, bytes | None]] = []

    def note(self, entries: Entries, key: bytes, data: bytes | None) -> None:
        """An entry is about to change."""
        if self.is_kept:
            self._changed.append((entries, key, data))

    def forget(self) -> None:
        """What was changed stands."""
        self._changed.clear()

    def undo(self) -> None:
        """Everything is as before."""
        changed, self._changed = self._changed, []
        is_kept, self.is_kept = self.is_kept, False
        for entries, key, data in reversed(changed):
            entries.write(key, data)
        self.is_kept = is_kept


class KeyedEntries:
    """Entries by the keys of records: those of a batch are read at once."""

    def __init__(self, name: str, journal: Journal) -> None:
        self._name = name
        self._journal = journal
        self._store: KeyValueStore
        self._keys: Collection[bytes] = ()
        self._leased: Collection[bytes] = ()
        self._live: dict[bytes, bytes | None] = {}

    def begin(self, stores: Stores, keys: Set[bytes]) -> None:
        """A batch begins; its entries are read when the first of them is asked for."""
        self._store, self._keys, self._leased = stores.store(self._name), keys, ()

    def read(self, key: bytes) -> bytes | None:
        """The entry of a key, if there is one."""
        if key not in self._leased:
            self._load(key)
        return self._live.get(key)

    def write(self, key: bytes, data: bytes | None) -> None:
        """Set an entry, or remove it."""
        if key not in self._leased:
            self._load(key)
        self._journal.note(self, key, self._live.get(key))
        self._live[key] = data

    def _load(self, key: bytes) -> None:
        if key in self._keys:
            self._leased = self._keys
        else:
            # This load lets go of the batch's keys: the rest of them is read one by one.
            self._leased, self._keys = (key,), ()
        self._live = self._store.load(self._leased)


class OrderedEntries:
    """Entries by keys of two parts, each of which is read by itself."""

    def __init__(self, name: str, journal: Journal) -> None:
        self._name = name
        self._journal = journal
        self._store: OrderedStore

    def begin(self, stores: Stores, keys: Set[bytes]) -> None:  # noqa: ARG002 - entries differ
        """A batch begins."""
        self._store = stores.ordered(self._name)

    def read(self, key: bytes) -> bytes | None:
        """The entry of a key, if there is one."""
        return self._store.load((key,)).get(key)

    def write(self, key: bytes, data: bytes | None) -> None:
        """Set an entry, or remove it."""
        live = self._store.load((key,))
        self._journal.note(self, key, live.get(key))
        live[key] = data

    def walk(self, lower: bytes, upper: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Entries from `lower` on and below `upper`, as they are when their turn comes."""
        while upper is None or lower < upper:
            page = self._store.range(lower, upper, limit=_PAGE)
            for key, _ in page:
                if (data := self.read(key)) is not None:
                    yield key, data
            if len(page) < _PAGE:
                return
            lower = page[-1][0] + b"\0"
