"""The stores of one task, whatever their kinds, before the backings that keep them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from kstash.ports.state import StoreKind, StoreSpec
from kstash.state.backing import Backing, Changes
from kstash.state.budget import MemoryBudget
from kstash.state.cache import CachedStore
from kstash.state.ordered import CachedOrderedStore
from kstash.state.timers import StoredTimers, entries_spec

AHEAD_PARTS_MIN = 4
"""Less than so many parts are left to the checkpoint: it writes them within milliseconds."""

AHEAD_PASSES_MAX = 8
"""Each pass writes what changed during the one before. Where that does not become less, as values
change faster than they are encoded, the checkpoint is as long as what is left."""


class TaskStores(ABC):
    """What the states of both backends have in common.

    Args:
        specs: the task's stores.
        backing_of: gives the backing of a store, by its name.
        is_empty: whether the backing of a store is known to be empty, by its name.
        budget: of the worker.
    """

    def __init__(
        self,
        specs: Sequence[StoreSpec],
        *,
        backing_of: Callable[[str], Backing],
        is_empty: Callable[[str], bool],
        budget: MemoryBudget,
    ) -> None:
        self._stores: dict[str, CachedStore] = {}
        self._ordered: dict[str, CachedOrderedStore] = {}
        self._timers: dict[str, StoredTimers] = {}
        # What is under way for the next checkpoint; None: nothing was begun, or all is done.
        self._ahead: Iterator[None] | None = None
        for spec in specs:
            backing, is_backing_empty = backing_of(spec.name), is_empty(spec.name)
            if spec.kind is StoreKind.KEYED:
                keyed = CachedStore(spec, backing, budget, is_backing_empty=is_backing_empty)
                self._stores[spec.name] = keyed
                continue
            kept = entries_spec(spec) if spec.kind is StoreKind.TIMERS else spec
            ordered = CachedOrderedStore(kept, backing, budget, is_backing_empty=is_backing_empty)
            self._stores[spec.name] = ordered
            if spec.kind is StoreKind.TIMERS:
                self._timers[spec.name] = StoredTimers(ordered)
            else:
                self._ordered[spec.name] = ordered

    def store(self, name: str) -> CachedStore:
        """The store of this name (KeyError when the stage has none such)."""
        return self._stores[name]

    def ordered(self, name: str) -> CachedOrderedStore:
        """The ordered store of this name (KeyError when the stage has none such)."""
        return self._ordered[name]

    def timers(self, name: str) -> StoredTimers:
        """The timers of this name (KeyError when the stage has none such)."""
        return self._timers[name]

    def cached_stores(self) -> Sequence[CachedStore]:
        """All stores, for the memory budget."""
        return tuple(self._stores.values())

    def count(self, name: str, written: int) -> int:
        """About how many entries a store has, when its backing has about `written`."""
        entries = self._stores[name].count(written)
        # A timer is two of them.
        return entries // 2 if name in self._timers else entries

    def changes(self) -> dict[str, Changes]:
        """All dirty entries, by store, encoded.

        Raises:
            StateError: a value cannot be serialized; names store and key.
        """
        return {name: store.changes() for name, store in self._stores.items()}

    def mark_written(self, changes: Mapping[str, Changes]) -> None:
        """Note that all of it was written back, between two batches."""
        for name, change in changes.items():
            self._stores[name].mark_written(change)

    def spilling(self) -> Iterator[None]:
        """Write entries back and drop all that are not leased, a part with each step.

        Raises:
            StateError: the disk is full or fails, or a value cannot be serialized; what is not
                written stays resident.
        """
        for name, store in self._stores.items():
            yield from store.spilling(partial(self._write_part, name))

    def write_ahead(self) -> bool:
        """Write a part of what is dirty; returns whether a checkpoint should wait for more.

        Raises:
            StateError: as of `spilling`.
        """
        steps = self._ahead or self._writing_ahead()
        self._ahead = None
        if next(steps, True):
            return False
        self._ahead = steps
        return True

    def _writing_ahead(self) -> Iterator[None]:
        for _ in range(AHEAD_PASSES_MAX):
            left = sum(store.parts_ahead for store in self._stores.values())
            if left + self._file_parts_ahead() < AHEAD_PARTS_MIN:
                return
            for name, store in self._stores.items():
                yield from store.writing_ahead(partial(self._write_part_ahead, name))
            yield from self._digesting()

    def _file_parts_ahead(self) -> float:
        """How many parts `_digesting` would take, about; 0 or more."""
        return 0.0

    def _digesting(self) -> Iterator[None]:
        """Find digests of the files that a checkpoint would have, a part with each step."""
        return iter(())

    def _write_part_ahead(self, name: str, changes: Changes) -> bool:
        """Write some changes of a store, unless that would wait; returns whether they are there."""
        self._write_part(name, changes)
        return True

    @abstractmethod
    def _write_part(self, name: str, changes: Changes) -> None:
        """Write some changes of a store to its backing."""
