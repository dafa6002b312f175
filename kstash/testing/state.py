"""The state backend in memory, for tests: checkpoints survive a crash as frozen encoded copies.

The stores are the same `CachedStore`s as over RocksDB, so spilling and write-back are too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from kstash.core.records import FileEntry
from kstash.errors import CheckpointCorruptError, StateError
from kstash.ports.state import StoreSize, StoreSpec
from kstash.state.backing import Changes
from kstash.state.budget import MemoryBudget
from kstash.state.task_stores import TaskStores

_MEMORY_BYTES = 1 << 30

_POSITION = "position"
_SUFFIX = ".table"
_Entries = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class _Frozen:
    """A checkpoint, of which its files are made: position, encoded entries of each store."""

    position: int
    backings: Mapping[str, Mapping[bytes, bytes]]
    files: tuple[FileEntry, ...]
    is_sound: bool = True


class MemoryBackend:
    """States in dicts. Keep the object over a crash: it stands for the disk.

    Args:
        memory_bytes: bound of the live values, as of the real backend; 1 or more.
    """

    def __init__(self, memory_bytes: int = _MEMORY_BYTES) -> None:
        self._budget = MemoryBudget(memory_bytes)
        self._tasks: dict[tuple[str, int], MemoryTaskFolder] = {}

    def task(self, stage: str, partition: int) -> MemoryTaskFolder:
        """The folder of a task, whether there is anything in it or not."""
        made = MemoryTaskFolder(f"{stage}_{partition}", self._budget)
        return self._tasks.setdefault((stage, partition), made)

    def close(self) -> None:
        """Nothing to close: what is checkpointed stays."""

    def lose(self) -> None:
        """Delete all checkpoints of all tasks, as a disk that was lost."""
        for task in self._tasks.values():
            task.lose()


class MemoryTaskFolder:
    """Checkpoints and live state of one task; made by `MemoryBackend.task`."""

    def __init__(self, name: str, budget: MemoryBudget) -> None:
        self._name = name
        self._budget = budget
        self._checkpoints: dict[str, _Frozen] = {}
        self._open: MemoryTaskState | None = None

    def verify(self, label: str, files: Sequence[FileEntry]) -> bool:
        """Whether the checkpoint is there with these files."""
        frozen = self._checkpoints.get(label)
        return frozen is not None and _content_of(frozen.files) == _content_of(files)

    def read(self, label: str, name: str) -> Iterator[bytes]:
        """Content of one file of a checkpoint, in one block.

        Raises:
            StateError: there is no such file.
        """
        frozen = self._checkpoints.get(label)
        if frozen is None:
            raise StateError(f"there is no checkpoint {label!r}", self._name)
        yield _contents(frozen.position, frozen.backings)[name]

    def adopt(
        self,
        label: str,
        files: Sequence[FileEntry],
        fetch: Callable[[FileEntry], Iterable[bytes]],
    ) -> None:
        """Make checkpoint `label` of these files: of what is here, and of what `fetch` gives.

        Raises:
            CheckpointCorruptError: a fetched content has another digest.
            KstashError: whatever `fetch` raises.
        """
        here = {
            _digest(content): content
            for frozen in self._checkpoints.values()
            if frozen.is_sound
            for content in _contents(frozen.position, frozen.backings).values()
        }
        contents = {}
        for entry in files:
            content = here.get(entry.digest)
            if content is None:
                content = b"".join(fetch(entry))
                if _digest(content) != entry.digest:
                    raise CheckpointCorruptError(f"file {entry.name} is damaged", entry.uri)
            contents[entry.name] = content
        backings = {
            name.removesuffix(_SUFFIX): dict(msgspec.msgpack.decode(content, type=_Entries))
            for name, content in contents.items()
            if name.endswith(_SUFFIX)
        }
        position = int(contents[_POSITION])
        self._checkpoints[label] = _Frozen(position, backings, _describe(position, backings))

    def open(
        self,
        stores: Sequence[StoreSpec],
        *,
        base: str | None,
        fresh: Collection[str] = (),
    ) -> MemoryTaskState:
        """Open the state as of checkpoint `base` (None: empty), with the stores in `fresh` empty.

        A state of the task that is still open, as after a crash, is forgotten.

        Raises:
            CheckpointCorruptError: there is no such checkpoint.
        """
        if self._open is not None:
            self._open.close()
        frozen = _Frozen(0, {}, ())
        if base is not None:
            if base not in self._checkpoints:
                raise CheckpointCorruptError(f"there is no checkpoint {base!r}", self._name)
            frozen = self._checkpoints[base]
            kept = {name: backing for name, backing in frozen.backings.items() if name not in fresh}
            frozen = replace(frozen, backings=kept)
        state = MemoryTaskState(
            frozen, stores, budget=self._budget, keep=self._checkpoints.__setitem__
        )
        self._open = state
        return state

    def retain(self, labels: Collection[str]) -> None:
        """Delete all checkpoints of the task but these."""
        for label in [label for label in self._checkpoints if label not in labels]:
            del self._checkpoints[label]

    def labels(self) -> list[str]:
        """Its checkpoints, oldest first."""
        return list(self._checkpoints)

    def corrupt(self, label: str) -> None:
        """Damage a checkpoint, so that `verify` says False."""
        frozen = self._checkpoints[label]
        damaged = tuple(replace(entry, digest=entry.digest[::-1]) for entry in frozen.files)
        self._checkpoints[label] = replace(frozen, files=damaged, is_sound=False)

    def lose(self) -> None:
        """Delete all checkpoints, as a disk that was lost."""
        self._checkpoints.clear()


class MemoryTaskState(TaskStores):
    """The stores of one task; made by `MemoryBackend.open`."""

    def __init__(
        self,
        frozen: _Frozen,
        stores: Sequence[StoreSpec],
        *,
        budget: MemoryBudget,
        keep: Callable[[str, _Frozen], None],
    ) -> None:
        self.position = frozen.position
        """Of the checkpoint that was opened, or of the last one taken; 0 for an empty state."""
        self._budget = budget
        self._keep = keep
        self._backings = {
            spec.name: _DictBacking(frozen.backings.get(spec.name, {})) for spec in stores
        }
        super().__init__(
            stores,
            backing_of=self._backings.__getitem__,
            is_empty=lambda name: not frozen.backings.get(name),
            budget=budget,
        )
        budget.add(self)

    def sizes(self) -> dict[str, StoreSize]:
        """Size of each store by name."""
        return {
            name: StoreSize(
                self.count(name, len(backing.entries)),
                sum(map(len, (*backing.entries, *backing.entries.values()))),
            )
            for name, backing in self._backings.items()
        }

    def checkpoint(self, label: str, position: int) -> tuple[FileEntry, ...]:
        """Write all dirty state back and keep a frozen copy of the backings as `label`.

        Raises:
            StateError: a value cannot be serialized.
        """
        changes = self.changes()
        self._write(changes)
        self.mark_written(changes)
        backings = {name: dict(backing.entries) for name, backing in self._backings.items()}
        entries = _describe(position, backings)
        self._keep(label, _Frozen(position, backings, entries))
        self.position = position
        return entries

    def _write_part(self, name: str, changes: Changes) -> None:
        self._write({name: changes})

    def close(self) -> None:
        """Forget the live state; checkpoints stay. Again is fine."""
        self._budget.remove(self)

    def _write(self, changes: Mapping[str, Changes]) -> None:
        for name, change in changes.items():
            self._backings[name].apply(change)


class _DictBacking:
    """Encoded entries of one store in a dict: a `Backing`."""

    def __init__(self, entries: Mapping[bytes, bytes]) -> None:
        self.entries = dict(entries)

    def fetch(self, keys: list[bytes]) -> list[bytes | None]:
        return list(map(self.entries.get, keys))

    def scan(self, lower: bytes, upper: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        return [
            entry
            for entry in sorted(self.entries.items())
            if entry[0] >= lower and (upper is None or entry[0] < upper)
        ][:limit]

    def apply(self, changes: Changes) -> None:
        if changes.erased is not None:
            lower, upper = changes.erased
            for key in [key for key in self.entries if lower <= key < upper]:
                del self.entries[key]
        self.entries.update(zip(changes.keys, changes.values, strict=True))
        for key in changes.single_deletions:
            self.entries.pop(key, None)


def _contents(position: int, backings: Mapping[str, Mapping[bytes, bytes]]) -> dict[str, bytes]:
    """A checkpoint as files, by name."""
    return {
        _POSITION: b"%d" % position,
        **{
            name + _SUFFIX: msgspec.msgpack.encode(sorted(backing.items()))
            for name, backing in backings.items()
        },
    }


def _describe(
    position: int, backings: Mapping[str, Mapping[bytes, bytes]]
) -> tuple[FileEntry, ...]:
    return tuple(
        FileEntry(name, len(content), _digest(content))
        for name, content in _contents(position, backings).items()
    )


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _content_of(files: Sequence[FileEntry]) -> set[tuple[str, int, str]]:
    return {(entry.name, entry.size, entry.digest) for entry in files}
