"""Ports for what a worker keeps: live state, checkpoints on its disk, checkpoints in a store.

`kstash.ports.kafka` offers these names too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kstash.core.records import FileEntry


class KeyValueStore(Protocol):
    """One store of a task: encoded keys, live decoded values, written back later."""

    def load(self, keys: Collection[bytes]) -> dict[bytes, Any]:
        """Make all of `keys` resident and mark them dirty; absent keys stay absent in the dict.

        The caller reads and assigns values in the returned live dict during this batch only.
        Assigning None deletes the key at the next write-back.
        """

    def peek(self, keys: Collection[bytes]) -> dict[bytes, Any]:
        """The values of those of `keys` that are there, as they are now.

        Nothing is kept in memory, leased or marked dirty by this. The values may be live ones: they
        are read or encoded at once, and never changed.
        """

    def items(self) -> list[tuple[bytes, Any]]:
        """All entries in key order: for tests and verification, not the hot path."""


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """A store of a stage: its name and how its values become bytes."""

    name: str
    serialize: Callable[[Any], bytes]
    deserialize: Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class StoreSize:
    """How large a store is, as far as that is known without looking at all of it.

    Attributes:
        entries: estimated.
        size_bytes: of what is on the disk, estimated.
    """

    entries: int
    size_bytes: int


class TaskState(Protocol):
    """The stores of one task."""

    def store(self, name: str) -> KeyValueStore:
        """A store of the task by its name."""

    def sizes(self) -> Mapping[str, StoreSize]:
        """Size of each store by name; takes a fraction of a millisecond."""

    def checkpoint(self, label: str, position: int) -> tuple[FileEntry, ...]:
        """Freeze and write all dirty state in one batch, then take a durable checkpoint `label`.

        Raises `StateError` naming the folder (disk full, I/O error); nothing is lost: the live
        state stays in memory and the older checkpoints on disk.
        """

    def close(self) -> None:
        """Let go of the state; what is not in a checkpoint is lost."""


class StateBackend(Protocol):
    """Where the states of a worker's tasks live."""

    # `verify`, `read` and `adopt` are called by background jobs: any thread, files only.

    def verify(self, stage: str, partition: int, label: str, files: Sequence[FileEntry]) -> bool:
        """Whether this worker has that checkpoint, whole and with the right digests."""

    def read(self, stage: str, partition: int, label: str, name: str) -> Iterator[bytes]:
        """Content of one file of a checkpoint, in blocks.

        Raises `StateError`: the file cannot be read.
        """

    def adopt(
        self,
        stage: str,
        partition: int,
        label: str,
        files: Sequence[FileEntry],
        fetch: Callable[[FileEntry], Iterable[bytes]],
    ) -> None:
        """Make checkpoint `label` of these files, durably; one that is there is replaced.

        Files whose content this worker has already, in any checkpoint of the task, are taken from
        there, also what an interrupted call left; `fetch` gives the content of the others. The
        checkpoint appears whole or not at all.

        Raises `CheckpointCorruptError` when a fetched content has another digest, `StateError` for
        the disk, and whatever `fetch` raises.
        """

    def open(
        self,
        stage: str,
        partition: int,
        stores: Sequence[StoreSpec],
        *,
        base: str | None,
        fresh: Collection[str] = (),
    ) -> TaskState:
        """Open the state as of checkpoint `base` (None: empty); live files are thrown away.

        Stores that the base does not hold begin empty, and so do those named in `fresh`; what it
        holds besides `stores` is left behind.
        """

    def retain(self, stage: str, partition: int, labels: Collection[str]) -> None:
        """Delete all checkpoints of the task but these."""

    def close(self) -> None:
        """Close all states."""


class CheckpointStore(Protocol):
    """Where the files of remote checkpoints are; a store outlives every worker and its disk.

    Calls wait, up to a deadline of their own, and may come from several threads at once: only
    background jobs make them. A call that the store does not answer raises `CheckpointStoreError`;
    it may be tried again.
    """

    def put(self, group: int, name: str, blocks: Iterable[bytes]) -> str:
        """Store one file; durable when this returns.

        Args:
            group: task group that the file belongs to.
            name: `<stage>_<partition>/<generation>-<claim offset>/<digest>`: of plain characters.
            blocks: the content.

        Returns:
            Its location, by which alone it is found again; it contains the name.
        """

    def get(self, location: str, size: int) -> Iterator[bytes]:
        """Content of a stored file, in blocks; it may come out longer than `size`.

        Args:
            location: as `put` returned it, or as somebody made it up.
            size: of the file in bytes, as its checkpoint says.

        Raises `CheckpointCorruptError`: it is not there, not whole, in another store, or no file of
        that size can be there.
        """

    def missing(self, locations: Collection[str]) -> set[str]:
        """Those of `locations` of which a cheap look says that they are not there."""

    def strays(self, group: int, folder: str, known: Collection[str]) -> list[tuple[str, str]]:
        """(Name, location) of what is stored under `<folder>/` and is not among `known`.

        What an interrupted `put` left behind is listed too. `known` may hold locations of other
        folders of the group: it spares looking at them.
        """

    def delete(self, locations: Collection[str]) -> None:
        """Delete stored files; those that are not there do not matter."""

    def close(self) -> None:
        """Close; calls under way may fail."""


class FinalState(Protocol):
    """What a bounded run leaves in the stores of the tasks that this worker ran to the end.

    Each key has one task, and that task ends in one worker: of several workers that share a run
    exactly one owns a key, whether it was ever seen or not.
    """

    def owns(self, store: str, key: Any) -> bool:
        """Whether this worker ran the task of a key.

        Raises:
            ConfigError: the application has no such store.
        """

    def get(self, store: str, key: Any, default: Any = None) -> Any:
        """The final value of a key, or `default` when it was never seen or is owned elsewhere.

        Raises:
            ConfigError: the application has no such store.
        """
