"""The state backend on RocksDB: one database per task, one column family per store.

The write-ahead log is off: what is not in a checkpoint is made again by replay, so the live files
are worth nothing after a crash and are never opened again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rocksdict import Cache, Checkpoint, Options, Rdict

from kstash.core.manifest import check_name
from kstash.core.records import FileEntry
from kstash.errors import CheckpointCorruptError, KstashError
from kstash.failpoints import around
from kstash.ports.state import StoreSize, StoreSpec
from kstash.state import files
from kstash.state.cache import CachedStore, Changes, MemoryBudget
from kstash.state.folder import (
    ApplicationFolder,
    io_error,
    limit_hit,
    make_private_folder,
    refuse_links_in,
)
from kstash.state.options import rocks_options
from kstash.state.writes import Writer, delete_all, put_all

_LIVE_PREFIX = "live-"
"""A number follows: RocksDB keeps the lock of a path until nothing refers to the database."""

_CHECKPOINTS = "checkpoints"
_STORE_PREFIX = "store-"
"""Of column family names, so that no store can be named like RocksDB's own `default`."""

_META_FAMILY = "default"
_POSITION_KEY = b"position"

_ENTRIES = "rocksdb.estimate-num-keys"
_BYTES = "rocksdb.estimate-live-data-size"

_BLOCK_CACHE_BYTES_MIN = 8 << 20
_BLOCK_CACHE_SHARE = 16
"""The dict in front is the real cache: RocksDB's, shared by all tasks, gets a sixteenth of it."""


class RocksBackend:
    """The states of a worker's tasks under `<state_dir>/<application_id>/`.

    Args:
        state_dir: parent of the application's folder; made when missing.
        application_id: names the folder, which is locked until `close` or the process's end.
        topology_hash: of the program, and
        program: its description: what the folder says about who used it last.
        memory_bytes: bound of the live values of all tasks together, estimated; 1 or more.

    Raises:
        StateError: the folder is in use, belongs to another program or cannot be used.
    """

    def __init__(
        self,
        state_dir: Path,
        application_id: str,
        *,
        topology_hash: str,
        memory_bytes: int,
        program: str = "{}",
    ) -> None:
        self._folder = ApplicationFolder(
            state_dir, application_id, topology_hash=topology_hash, program=program
        )
        self._budget = MemoryBudget(memory_bytes)
        self._block_cache = Cache(max(_BLOCK_CACHE_BYTES_MIN, memory_bytes // _BLOCK_CACHE_SHARE))
        self._open: dict[tuple[str, int], RocksTaskState] = {}
        self._open_count = 0
        # Checksums of immutable files found right by `verify`: the first checkpoint after an
        # `open` would else read the whole state again.
        self._verified: dict[Path, dict[str, FileEntry]] = {}

    @property
    def used_memory_bytes(self) -> int:
        """Estimated bytes of the live values of all tasks."""
        return self._budget.used_bytes

    def verify(self, stage: str, partition: int, label: str, files_: Sequence[FileEntry]) -> bool:
        """Whether this worker has that checkpoint, whole and with the right checksums."""
        folder = self._checkpoint_folder(stage, partition, label)
        if not files.matches(folder, files_):
            return False
        self._verified[folder] = files.immutable(files_)
        return True

    def read(self, stage: str, partition: int, label: str, name: str) -> Iterator[bytes]:
        """Content of one file of a checkpoint, in blocks.

        Raises:
            StateError: the file cannot be read.
        """
        check_name(name)
        folder = self._checkpoint_folder(stage, partition, label)
        with _disk(folder, f"reading {name}"):
            yield from files.blocks(folder / name)

    def adopt(
        self,
        stage: str,
        partition: int,
        label: str,
        files_: Sequence[FileEntry],
        fetch: Callable[[FileEntry], Iterable[bytes]],
    ) -> None:
        """Make checkpoint `label` of these files: of what is here, and of what `fetch` gives.

        Raises `CheckpointCorruptError`, `StateError`, and what `fetch` raises, as the port has it.
        """
        final = self._checkpoint_folder(stage, partition, label)
        # A job that was cancelled may still write under its own name, and a process that died in
        # a restore of this very checkpoint has left one.
        partial = final.with_name(f"{files.PARTIAL_PREFIX}{time.time_ns()}-{label}")
        with _disk(final.parent, f"restoring checkpoint {label!r}"):
            make_private_folder(final.parent)
            # Partial ones too: what an interrupted restore has fetched need not be fetched again.
            with around("restore.assemble"):
                files.assemble(partial, files_, list(final.parent.iterdir()), fetch)
                if final.exists():
                    shutil.rmtree(final)
            files.complete(partial, final)
        self._verified[final] = files.immutable(files_)

    def open(
        self,
        stage: str,
        partition: int,
        stores: Sequence[StoreSpec],
        *,
        base: str | None,
        fresh: Collection[str] = (),
    ) -> RocksTaskState:
        """Open the state as of checkpoint `base` (None: empty); live files are thrown away.

        Stores that the base does not hold begin empty, and so do those named in `fresh`; what it
        holds besides `stores` is left behind.

        Raises:
            CheckpointCorruptError: the checkpoint is not there or RocksDB cannot open it.
            StateError: the folder cannot be written.
        """
        key = (stage, partition)
        assert key not in self._open, f"task {stage}_{partition} is open already"
        task_folder = self._task_folder(stage, partition)
        self._open_count += 1
        live = task_folder / f"{_LIVE_PREFIX}{self._open_count}"
        source = None if base is None else self._checkpoint_folder(stage, partition, base)
        if source is not None and not source.is_dir():
            raise CheckpointCorruptError(f"there is no checkpoint {base!r}", str(source.parent))
        with _disk(task_folder, "making the live folder"):
            _renew_live(live, source)
        known = self._verified.pop(source, {}) if source is not None else {}
        try:
            state = RocksTaskState(
                live,
                stores,
                budget=self._budget,
                block_cache=self._block_cache,
                is_empty=base is None,
                known_files=known,
                fresh=fresh,
                on_close=lambda: self._open.pop(key, None),
            )
        except Exception as error:  # rocksdict raises bare Exceptions
            if source is None or limit_hit(error) is not None:
                raise io_error(task_folder, "opening the state", error) from error
            raise CheckpointCorruptError(
                f"the checkpoint cannot be opened ({error}); check the disk (dmesg), or move "
                "the checkpoint's folder elsewhere to recover from an older one: do not delete "
                "it, a replay may need what Kafka no longer has",
                str(source),
            ) from error
        self._open[key] = state
        return state

    def retain(self, stage: str, partition: int, labels: Collection[str]) -> None:
        """Delete all checkpoints of the task but these, half-made ones too.

        Raises:
            StateError: a folder cannot be deleted.
        """
        folder = self._task_folder(stage, partition) / _CHECKPOINTS
        with _disk(folder, "deleting old checkpoints"):
            files.delete_others(folder, labels)

    def close(self) -> None:
        """Close all open tasks and give up the folder's lock. Again is fine."""
        for state in list(self._open.values()):
            state.close()
        self._folder.close()

    def _checkpoint_folder(self, stage: str, partition: int, label: str) -> Path:
        check_name(label)
        return self._task_folder(stage, partition) / _CHECKPOINTS / label

    def _task_folder(self, stage: str, partition: int) -> Path:
        """Folder of one task, in which no folder is a link; it may not exist yet."""
        folder = self._folder.task_folder(stage, partition)
        with _disk(folder, "reading the task's folder"):
            for each in (folder, folder / _CHECKPOINTS):
                refuse_links_in(each)
        return folder


class RocksTaskState:
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
        self._checkpoints = live.parent / _CHECKPOINTS
        self._budget = budget
        self._known_files = dict(known_files)
        self._on_close = on_close
        self._is_closed = False
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
        self._tables: list[Rdict] = []
        self._stores: dict[str, CachedStore] = {}
        for spec in stores:
            family = _STORE_PREFIX + spec.name
            table = self._database.get_column_family(family)
            self._tables.append(table)
            self._stores[spec.name] = CachedStore(
                spec, _RocksTable(table, self._live), budget, is_table_empty=is_empty
            )
        shown = [self._database, *self._tables]
        self._writer = Writer(self._database, shown, live, live.parent.name)
        position = self._database.get(_POSITION_KEY)
        self.position = 0 if position is None else int(position)
        """Of the checkpoint that was opened, or of the last one taken; 0 for an empty state."""
        budget.add(self)

    def store(self, name: str) -> CachedStore:
        """The store of this name (KeyError when the stage has none such)."""
        return self._stores[name]

    def cached_stores(self) -> Sequence[CachedStore]:
        """All stores, for the memory budget."""
        return tuple(self._stores.values())

    def sizes(self) -> dict[str, StoreSize]:
        """Size of each store by name. Updates count until RocksDB has merged them."""
        found = {}
        for (name, store), table in zip(self._stores.items(), self._tables, strict=True):
            written = table.property_int_value(_ENTRIES) or 0
            size_bytes = table.property_int_value(_BYTES) or 0
            found[name] = StoreSize(store.count(written), size_bytes)
        return found

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
        check_name(label)
        changes = self._changes()
        meta = self._handles[_META_FAMILY]
        partial = self._checkpoints / (files.PARTIAL_PREFIX + label)
        final = self._checkpoints / label
        with _disk(self._checkpoints, f"checkpoint {label!r}"):
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
            entries = files.describe(partial, self._known_files)
            files.complete(partial, final)
        for name, change in changes.items():
            self._stores[name].mark_written(change)
        self._known_files = files.immutable(entries)
        self.position = position
        return entries

    def spill(self) -> None:
        """Write dirty entries back and drop all entries that are not leased (memory budget).

        Raises:
            StateError: the disk is full or fails; all entries stay resident.
        """
        changes = self._changes()
        with _disk(self._live, "writing state to make room in memory"):
            self._write(changes)
        for name, change in changes.items():
            self._stores[name].drop_written(change)

    def _changes(self) -> dict[str, Changes]:
        """All dirty entries, by store, encoded."""
        return {name: store.changes() for name, store in self._stores.items()}

    def _write(self, changes: Mapping[str, Changes]) -> None:
        for name, change in changes.items():
            handle = self._handles[_STORE_PREFIX + name]
            for fill in put_all(handle, change.keys, change.values):
                self._writer.apply(fill)
            for fill in delete_all(handle, change.deletions):
                self._writer.apply(fill)

    def close(self) -> None:
        """Close and delete the live files; checkpoints stay. Again is fine."""
        if self._is_closed:
            return
        self._is_closed = True
        self._budget.remove(self)
        self._on_close()
        # RocksDB closes, and frees its memory, only when nothing refers to it.
        self._handles.clear()
        for part in (*self._tables, self._database):
            # Closing flushes. What cannot be flushed now is in no checkpoint and thrown away, and
            # whoever had to know of a failing disk was told by `checkpoint`.
            with suppress(Exception):
                part.close()
        with around("state.live.close"):
            shutil.rmtree(self._live, ignore_errors=True)


class _RocksTable:
    """One column family as a `Table`."""

    def __init__(self, family: Rdict, folder: Path) -> None:
        # The stub knows neither lists of bytes as keys nor what raw mode returns.
        self._family: Any = family
        self._folder = folder

    def fetch(self, keys: list[bytes]) -> list[bytes | None]:
        with _disk(self._folder, "reading state"):
            found: list[bytes | None] = self._family.get(keys)
        return found

    def items(self) -> Iterable[tuple[bytes, bytes]]:
        with _disk(self._folder, "reading state"):
            pairs: list[tuple[bytes, bytes]] = list(self._family.items())
        return pairs


@contextmanager
def _disk(folder: Path, action: str) -> Iterator[None]:
    """Turn what RocksDB and the file system raise into a `StateError`."""
    try:
        yield
    except KstashError:
        raise
    except Exception as error:  # rocksdict raises bare Exceptions
        raise io_error(folder, action, error) from error


def _renew_live(live: Path, source: Path | None) -> None:
    """Make a fresh live folder, of a checkpoint's files or empty; delete all older ones."""
    for path in live.parent.glob(f"{_LIVE_PREFIX}*"):
        with around("state.live.delete"):
            shutil.rmtree(path)
    with around("state.live.create"):
        make_private_folder(live.parent)
        if source is None:
            make_private_folder(live)
        else:
            files.link_or_copy(source, live)


def _drop_families(live: Path, kept: Collection[str], options: Options) -> None:
    """Drop column families that a changed program has no use for; without any nothing is opened."""
    held = Rdict.list_cf(str(live), options)
    dropped = [name for name in held if name not in kept]
    if dropped:
        with around("state.live.open"):
            database = Rdict(str(live), options, column_families=dict.fromkeys(held, options))
        for name in dropped:
            database.drop_column_family(name)
        database.close()
