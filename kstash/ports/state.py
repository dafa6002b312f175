"""Ports for what a worker keeps: live state, checkpoints on its disk, checkpoints in a store."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

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

    def range(self, lower: bytes, upper: bytes | None, *, limit: int) -> list[tuple[bytes, Any]]:
        """The first entries from `lower` on and below `upper` (None: to the last), in key order.

        For all keys of a prefix, `upper` is `end_of_prefix`. To go on, begin at the last key and
        one zero byte more. As of `peek`, nothing is leased, and the values are never changed.

        Only an ordered store finds what is in memory without a look at all of it.

        Args:
            lower: the first key, or what would stand before it.
            upper: what stands after the last key.
            limit: of the entries, 1 or more.
        """

    def items(self) -> list[tuple[bytes, Any]]:
        """All entries in key order: for tests and verification, not the hot path."""


class OrderedStore(KeyValueStore, Protocol):
    """A store whose entries are read and removed in the order of their encoded keys too.

    For windows, maps and the buffers of joins: an operator encodes its keys so that what belongs
    together stands together, and what is given up first comes first.
    """

    def put(self, entries: Mapping[bytes, Any]) -> None:
        """Set entries whose older values nobody needs: they are not read. A value is not None."""

    def delete(self, keys: Collection[bytes]) -> None:
        """Delete entries without reading them; those that are not there are fine."""

    def expire_below(self, bound: bytes, *, limit: int) -> bool:
        """Remove the first entries whose keys are below `bound`, at most `limit` of them.

        How many that are depends on the entries alone, not on what is in memory. On the disk they
        are removed together, at the next write-back.

        Returns:
            Whether entries below `bound` are left.
        """


class Timer(NamedTuple):
    """A timer that is set. Timers are due in the order of these fields.

    Attributes:
        at_ms: when it is due: Unix time in milliseconds, by the clock that the operator uses.
        key: encoded.
        name: of the timer; a key has at most one of each name.
        every_ms: milliseconds after which it is due again; 0: it is due once.
    """

    at_ms: int
    key: bytes
    name: str
    every_ms: int = 0


class Timers(Protocol):
    """A store of timers. It is opened without reading any, however many are set."""

    def set(self, key: bytes, name: str, at_ms: int, every_ms: int = 0) -> None:
        """Set a timer of a key, or move it. Who lets it fire sets it again where it repeats.

        Args:
            key: encoded; any bytes.
            name: any text that UTF-8 can encode.
            at_ms: within 64 bits, signed.
            every_ms: kept with it; 0 or more, within 63 bits.
        """

    def cancel(self, key: bytes, name: str) -> bool:
        """Remove a timer, also one that was due and has fired; returns whether it was set."""

    def due(self, until_ms: int, *, limit: int) -> list[Timer]:
        """The first timers that are due at `until_ms` or before, in order, at most `limit`.

        They stay set: whoever lets one fire cancels it.
        """

    def next_due(self) -> int | None:
        """When the first timer is due; None: none is set."""


class StoreKind(enum.Enum):
    """What a store can do, and how it lies on the disk."""

    KEYED = "keyed"
    ORDERED = "ordered"
    TIMERS = "timers"


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """A store of a stage.

    Attributes:
        name: unique in the application.
        serialize: makes bytes of a value; what a store of timers keeps needs none.
        deserialize: its reverse.
        kind: of the store; another kind under the same name cannot read what is there.
    """

    name: str
    serialize: Callable[[Any], bytes]
    deserialize: Callable[[bytes], Any]
    kind: StoreKind = StoreKind.KEYED


def end_of_prefix(prefix: bytes) -> bytes | None:
    """What stands after all keys that begin with `prefix`; None: nothing does."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None


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
        """A store of keyed values of the task, or an ordered one, by its name."""

    def ordered(self, name: str) -> OrderedStore:
        """An ordered store of the task by its name."""

    def timers(self, name: str) -> Timers:
        """A store of timers of the task by its name."""

    def sizes(self) -> Mapping[str, StoreSize]:
        """Size of each store by name; takes a fraction of a millisecond."""

    def write_ahead(self) -> bool:
        """Write a part of what is dirty, at any time; returns whether a checkpoint should wait.

        Of a state of any size a checkpoint finds little to write after this has returned False. A
        call takes milliseconds. Raises `StateError` as `checkpoint` does.
        """

    def checkpoint(self, label: str, position: int) -> tuple[FileEntry, ...]:
        """Freeze and write all dirty state in one batch, then take a durable checkpoint `label`.

        Raises `StateError` naming the folder (disk full, I/O error); nothing is lost: the live
        state stays in memory and the older checkpoints on disk.
        """

    def close(self) -> None:
        """Let go of the state; what is not in a checkpoint is lost."""


class TaskFolder(Protocol):
    """What this worker keeps of one task: its checkpoints, and the live state made of one.

    `verify`, `read` and `adopt` are called by background jobs: any thread, files only.
    """

    def verify(self, label: str, files: Sequence[FileEntry]) -> bool:
        """Whether this worker has that checkpoint, whole and with the right digests."""

    def read(self, label: str, name: str) -> Iterator[bytes]:
        """Content of one file of a checkpoint, in blocks.

        Raises `StateError`: the file cannot be read.
        """

    def adopt(
        self,
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
        self, stores: Sequence[StoreSpec], *, base: str | None, fresh: Collection[str] = ()
    ) -> TaskState:
        """Open the state as of checkpoint `base` (None: empty); live files are thrown away.

        Stores that the base does not hold begin empty, and so do those named in `fresh`; what it
        holds besides `stores` is left out.
        """

    def retain(self, labels: Collection[str]) -> None:
        """Delete all checkpoints of the task but these."""


class StateBackend(Protocol):
    """Where the states of a worker's tasks live."""

    def task(self, stage: str, partition: int) -> TaskFolder:
        """The folder of a task, whether there is anything in it or not; from any thread."""

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
            Its URI, by which alone it is found again; it contains the name.
        """

    def get(self, uri: str, size: int) -> Iterator[bytes]:
        """Content of a stored file, in blocks; it may come out longer than `size`.

        Args:
            uri: as `put` returned it, or as somebody made it up.
            size: of the file in bytes, as its checkpoint says.

        Raises `CheckpointCorruptError`: it is not there, not whole, in another store, or no file of
        that size can be there.
        """

    def missing(self, uris: Collection[str]) -> set[str]:
        """Those of `uris` that a cheap check does not find."""

    def unknown_files(
        self, group: int, folder: str, known: Collection[str]
    ) -> list[tuple[str, str]]:
        """(Name, URI) of what is stored under `<folder>/` and is not among `known`.

        What an interrupted `put` left is listed too. `known` may hold URIs of other folders
        of the group, which are then not read.
        """

    def delete(self, uris: Collection[str]) -> None:
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
