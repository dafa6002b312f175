"""The stores of one task in RocksDB: live files, and checkpoints made of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rocksdict import Cache, Checkpoint, Options, Rdict, ReadOptions

from kstash.core.file_names import check_file_name
from kstash.core.records import FileEntry
from kstash.errors import KstashError
from kstash.failpoints import around
from kstash.ports.state import StoreSize, StoreSpec
from kstash.state import files
from kstash.state.backing import Changes
from kstash.state.budget import MemoryBudget
from kstash.state.folder import io_error, make_private_folder, refuse_links_in
from kstash.state.options import rocks_options
from kstash.state.task_stores import TaskStores
from kstash.state.writes import Fill, Writer, delete_all, erase, put_all

CHECKPOINTS = "checkpoints"

_STORE_PREFIX = "store-"
"""Of column family names, so that no store can be named like RocksDB's own `default`."""

_META_FAMILY = "default"

_POSITION_KEY = b"position"

_ENTRIES = "rocksdb.estimate-num-keys"

_BYTES = "rocksdb.estimate-live-data-size"

WAITS_MAX = 500
"""Some seconds of turns: then a part is written that waits as long as it takes, or fails."""


class RocksTaskState(TaskStores):
    """The stores of one task; made by `RocksBackend.open`."""

    def __init__(
        self,
        live: Path,
        stores: Sequence[StoreSpec],
        *,
        budget: MemoryBudget,
        block_cache: Cache,
        is_empty: bool,
        known_files: Mapping[str, FileEntry],
        fresh: Collection[str],
        on_close: Callable[[], object],
    ) -> None:
        self._live = live
        self._checkpoints = live.parent / CHECKPOINTS
        self._budget = budget
        self._known_files = dict(known_files)
        self._on_close = on_close
        self._is_closed = False
        # Calls of `write_ahead`, one after the other, that left RocksDB to itself.
        self._waits = 0
        families = {_META_FAMILY} | {_STORE_PREFIX + spec.name for spec in stores}
        if not is_empty:
            kept = families - {_STORE_PREFIX + name for name in fresh}
            _drop_families(self._live, kept, rocks_options(block_cache))
        with around("state.live.open"):
            self._database = Rdict(
                str(self._live),
                rocks_options(block_cache),
                column_families={name: rocks_options(block_cache) for name in sorted(families)},
            )
        self._handles = {
            name: self._database.get_column_family_handle(name) for name in sorted(families)
        }
        self._backings = {
            spec.name: self._database.get_column_family(_STORE_PREFIX + spec.name)
            for spec in stores
        }
        super().__init__(
            stores,
            backing_of=lambda name: _RocksBacking(self._backings[name], live),
            is_empty=lambda _: is_empty,
            budget=budget,
        )
        shown = [self._database, *self._backings.values()]
        self._writer = Writer(self._database, shown, folder=live, name=live.parent.name)
        position = self._database.get(_POSITION_KEY)
        self.position = 0 if position is None else int(position)
        """Of the checkpoint that was opened, or of the last one taken; 0 for an empty state."""
        budget.add(self)

    def sizes(self) -> dict[str, StoreSize]:
        """Size of each store by name. Updates count until RocksDB has merged them."""
        found = {}
        for name, backing in self._backings.items():
            written = backing.property_int_value(_ENTRIES) or 0
            size_bytes = backing.property_int_value(_BYTES) or 0
            found[name] = StoreSize(self.count(name, written), size_bytes)
        return found

    def write_ahead(self) -> bool:
        """Write a part of what is dirty, unless RocksDB has to catch up: then a later call does.

        Raises:
            StateError: as of `checkpoint`.
        """
        if self._waits < WAITS_MAX and self._writer.is_stopped():
            self._waits += 1
            return True
        return super().write_ahead()

    def checkpoint(self, label: str, position: int) -> tuple[FileEntry, ...]:
        """Write all dirty state, then take a durable checkpoint `label`.

        Args:
            label: a plain file name; a checkpoint of that name is replaced.
            position: the task's position; it is stored with the state.

        Returns:
            The checkpoint's files by name; never empty.

        Raises:
            StateError: disk full, I/O error, or a value that cannot be serialized. The live state
                stays in memory, dirty as it was, and older checkpoints stay on disk.
        """
        check_file_name(label)
        changes = self.changes()
        meta = self._handles[_META_FAMILY]
        partial = self._checkpoints / (files.PARTIAL_PREFIX + label)
        final = self._checkpoints / label
        with disk(self._checkpoints, f"checkpoint {label!r}"):
            refuse_links_in(self._checkpoints)
            self._write(changes)
            self._writer.apply(lambda batch: batch.put(_POSITION_KEY, b"%d" % position, meta))
            for folder in (partial, final):
                if folder.exists():
                    shutil.rmtree(folder)
            make_private_folder(self._checkpoints)
            # Flushes the column families together, syncs the new files and links all of them.
            with around("checkpoint.create"):
                Checkpoint(self._database).create_checkpoint(str(partial))
            entries = files.entries_of(partial, self._known_files)
            files.complete(partial, final)
        self.mark_written(changes)
        self._known_files = files.immutable(entries)
        self.position = position
        return entries

    def _write_part(self, name: str, changes: Changes) -> None:
        with disk(self._live, "writing state to make room in memory"):
            self._write({name: changes})

    def _undigested(self) -> dict[str, int]:
        """Sizes of complete files whose digest is not known, by name."""
        # What a flush or a compaction still writes is not listed, and a number is never used again.
        found = {file["name"].lstrip("/"): file["size"] for file in self._database.live_files()}
        return {name: size for name, size in found.items() if name not in self._known_files}

    def _file_parts_ahead(self) -> float:
        return sum(self._undigested().values()) / files.AHEAD_BYTES

    def _digesting(self) -> Iterator[None]:
        with disk(self._live, "reading the state's files"):
            yield from files.digesting(self._live, sorted(self._undigested()), self._known_files)

    def _write(self, changes: Mapping[str, Changes]) -> None:
        for name, change in changes.items():
            for fill in self._pieces(name, change):
                self._writer.apply(fill)

    def _write_part_ahead(self, name: str, changes: Changes) -> bool:
        if self._waits >= WAITS_MAX:
            self._write_part(name, changes)
        else:
            with disk(self._live, "writing state ahead of a checkpoint"):
                for fill in self._pieces(name, changes):
                    if self._writer.attempt(fill) is not None:
                        self._waits += 1
                        return False
        self._waits = 0
        return True

    def _pieces(self, name: str, changes: Changes) -> Iterator[Fill]:
        handle = self._handles[_STORE_PREFIX + name]
        if changes.erased is not None:
            yield erase(handle, *changes.erased)
        yield from put_all(handle, changes.keys, changes.values)
        yield from delete_all(handle, changes.single_deletions)

    def close(self) -> None:
        """Close and delete the live files; checkpoints stay. Again is fine."""
        if self._is_closed:
            return
        self._is_closed = True
        self._budget.remove(self)
        self._on_close()
        # RocksDB closes, and frees its memory, only when nothing refers to it.
        self._handles.clear()
        for part in (*self._backings.values(), self._database):
            # Closing flushes. What cannot be flushed now is in no checkpoint and thrown away; a
            # failing disk was reported by `checkpoint` already, to the caller that depends on it.
            with suppress(Exception):
                part.close()
        with around("state.live.close"):
            shutil.rmtree(self._live, ignore_errors=True)


class _RocksBacking:
    """One column family as a `Backing`."""

    def __init__(self, family: Rdict, folder: Path) -> None:
        # The stub knows neither lists of bytes as keys nor what raw mode returns.
        self._family: Any = family
        self._folder = folder

    def fetch(self, keys: list[bytes]) -> list[bytes | None]:
        with disk(self._folder, "reading state"):
            found: list[bytes | None] = self._family.get(keys)
        return found

    def scan(self, lower: bytes, upper: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        options = ReadOptions()
        if upper is not None:
            # Without it RocksDB searches on for the next entry, over all that was deleted there.
            options.set_iterate_upper_bound(upper)
        rows: list[tuple[bytes, bytes]] = []
        with disk(self._folder, "reading state"):
            entries = self._family.iter(options)
            entries.seek(lower)
            while len(rows) < limit and entries.valid():
                rows.append((entries.key(), entries.value()))
                entries.next()
            # An iterator that fails is at its end: only this says why.
            entries.status()
        return rows


@contextmanager
def disk(folder: Path, action: str) -> Iterator[None]:
    """Turn what RocksDB and the file system raise into a `StateError`."""
    try:
        yield
    except KstashError:
        raise
    except Exception as error:  # rocksdict raises bare Exceptions
        raise io_error(folder, action, error) from error


def _drop_families(live: Path, kept: Collection[str], options: Options) -> None:
    """Drop column families that a changed program has no use for; if there are none, do nothing."""
    held = Rdict.list_cf(str(live), options)
    dropped = [name for name in held if name not in kept]
    if dropped:
        with around("state.live.open"):
            database = Rdict(str(live), options, column_families=dict.fromkeys(held, options))
        for name in dropped:
            database.drop_column_family(name)
        database.close()
