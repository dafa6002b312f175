"""The state backend on RocksDB: one database per task, one column family per store.

The write-ahead log is off: what is not in a checkpoint is made again by replay, so the live files
are worth nothing after a crash and are never opened again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

from rocksdict import Cache

from kstash.core.file_names import check_file_name
from kstash.core.records import FileEntry
from kstash.errors import CheckpointCorruptError
from kstash.failpoints import around
from kstash.ports.state import StoreSpec
from kstash.state import files
from kstash.state.budget import MemoryBudget
from kstash.state.folder import (
    ApplicationFolder,
    io_error,
    limit_hit,
    make_private_folder,
    refuse_links_in,
)
from kstash.state.rocks_task import CHECKPOINTS, RocksTaskState, disk

LIVE_PREFIX = "live-"
"""A number follows: RocksDB keeps the lock of a path until nothing refers to the database."""


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
        self._tasks: dict[tuple[str, int], RocksTaskFolder] = {}

    @property
    def used_memory_bytes(self) -> int:
        """Estimated bytes of the live values of all tasks."""
        return self._budget.used_bytes

    def task(self, stage: str, partition: int) -> RocksTaskFolder:
        """The folder of a task, whether there is anything in it or not; from any thread."""
        made = RocksTaskFolder(
            self._folder.task_folder(stage, partition), self._budget, self._block_cache
        )
        # One for each task: it knows what is open, and what was verified.
        return self._tasks.setdefault((stage, partition), made)

    def close(self) -> None:
        """Close all open tasks and give up the folder's lock. Again is fine."""
        for task in list(self._tasks.values()):
            task.close()
        self._folder.close()


class RocksTaskFolder:
    """Checkpoints and live state of one task; made by `RocksBackend.task`."""

    def __init__(self, path: Path, budget: MemoryBudget, block_cache: Cache) -> None:
        self._path = path
        self._budget = budget
        self._block_cache = block_cache
        self._open: RocksTaskState | None = None
        self._open_count = 0
        # Checksums of immutable files that `verify` found right: without them the first checkpoint
        # after an `open` would read the whole state again.
        self._verified: dict[str, dict[str, FileEntry]] = {}

    def verify(self, label: str, files_: Sequence[FileEntry]) -> bool:
        """Whether this worker has that checkpoint, whole and with the right checksums."""
        folder = self._checkpoint(label)
        if not files.matches(folder, files_):
            return False
        self._verified[label] = files.immutable(files_)
        return True

    def read(self, label: str, name: str) -> Iterator[bytes]:
        """Content of one file of a checkpoint, in blocks.

        Raises:
            StateError: the file cannot be read.
        """
        check_file_name(name)
        folder = self._checkpoint(label)
        with disk(folder, f"reading {name}"):
            yield from files.blocks(folder / name)

    def adopt(
        self,
        label: str,
        files_: Sequence[FileEntry],
        fetch: Callable[[FileEntry], Iterable[bytes]],
    ) -> None:
        """Make checkpoint `label` of these files: of what is here, and of what `fetch` gives.

        Raises `CheckpointCorruptError`, `StateError`, and what `fetch` raises, as the port has it.
        """
        final = self._checkpoint(label)
        # A job that was cancelled may still write under its own name, and a process that died in
        # a restore of this very checkpoint has left one.
        partial = final.with_name(f"{files.PARTIAL_PREFIX}{time.time_ns()}-{label}")
        with disk(final.parent, f"restoring checkpoint {label!r}"):
            make_private_folder(final.parent)
            # Partial ones too: what an interrupted restore has fetched need not be fetched again.
            with around("restore.assemble"):
                files.assemble(partial, files_, list(final.parent.iterdir()), fetch)
                if final.exists():
                    shutil.rmtree(final)
            files.complete(partial, final)
        self._verified[label] = files.immutable(files_)

    def open(
        self,
        stores: Sequence[StoreSpec],
        *,
        base: str | None,
        fresh: Collection[str] = (),
    ) -> RocksTaskState:
        """Open the state as of checkpoint `base` (None: empty); live files are thrown away.

        Stores that the base does not hold begin empty, and so do those named in `fresh`; what it
        holds besides `stores` is left out.

        Raises:
            CheckpointCorruptError: the checkpoint is not there or RocksDB cannot open it.
            StateError: the folder cannot be written.
        """
        assert self._open is None, f"task {self._path.name} is open already"
        self._refuse_links()
        self._open_count += 1
        live = self._path / f"{LIVE_PREFIX}{self._open_count}"
        source = None if base is None else self._checkpoint(base)
        if source is not None and not source.is_dir():
            raise CheckpointCorruptError(f"there is no checkpoint {base!r}", str(source.parent))
        with disk(self._path, "making the live folder"):
            _renew_live(live, source)
        known = self._verified.pop(base, {}) if base is not None else {}
        try:
            state = RocksTaskState(
                live,
                stores,
                budget=self._budget,
                block_cache=self._block_cache,
                is_empty=base is None,
                known_files=known,
                fresh=fresh,
                on_close=self._closed,
            )
        except Exception as error:  # rocksdict raises bare Exceptions
            if source is None or limit_hit(error) is not None:
                raise io_error(self._path, "opening the state", error) from error
            raise CheckpointCorruptError(
                f"the checkpoint cannot be opened ({error}); check the disk (dmesg), or move "
                "the checkpoint's folder elsewhere to recover from an older one: do not delete "
                "it, a replay may need what Kafka no longer has",
                str(source),
            ) from error
        self._open = state
        return state

    def retain(self, labels: Collection[str]) -> None:
        """Delete all checkpoints of the task but these, half-made ones too.

        Raises:
            StateError: a folder cannot be deleted.
        """
        self._refuse_links()
        folder = self._path / CHECKPOINTS
        with disk(folder, "deleting old checkpoints"):
            files.delete_others(folder, labels)

    def close(self) -> None:
        """Close the live state, if there is one. Again is fine."""
        if self._open is not None:
            self._open.close()

    def _closed(self) -> None:
        self._open = None

    def _checkpoint(self, label: str) -> Path:
        check_file_name(label)
        self._refuse_links()
        return self._path / CHECKPOINTS / label

    def _refuse_links(self) -> None:
        """Refuse links in the task's folder, which may not exist yet."""
        with disk(self._path, "reading the task's folder"):
            for each in (self._path, self._path / CHECKPOINTS):
                refuse_links_in(each)


def _renew_live(live: Path, source: Path | None) -> None:
    """Make a fresh live folder, of a checkpoint's files or empty; delete all older ones."""
    for path in live.parent.glob(f"{LIVE_PREFIX}*"):
        with around("state.live.delete"):
            shutil.rmtree(path)
    with around("state.live.create"):
        make_private_folder(live.parent)
        if source is None:
            make_private_folder(live)
        else:
            files.link_or_copy(source, live)
