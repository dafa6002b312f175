"""Checkpoint folders on disk: describing, checking, linking and deleting them."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from kstash.core.file_names import check_file_name
from kstash.core.records import FileEntry
from kstash.errors import CheckpointCorruptError
from kstash.failpoints import around
from kstash.state.folder import (
    FILE_MODE,
    FOLDER_MODE,
    create_private,
    make_private_folder,
    open_file,
    sync_folder,
)

PARTIAL_PREFIX = ".partial-"
"""A checkpoint folder of this name was never completed."""

_IMMUTABLE_SUFFIX = ".sst"
"""RocksDB never changes these after writing them; every other file of it may grow."""

READ_BYTES = 256 * 1024
"""Read at once for an upload: what a bounded bandwidth lets through in one piece."""

AHEAD_BYTES = 8 * 1024 * 1024
"""Digested between two batches: some ten milliseconds."""

DIGEST_BYTES = 16
"""Content names the file, so two files must not share a digest by chance."""


def digest(path: Path) -> str:
    """BLAKE2b-128 of a file's content, in hexadecimal."""
    with open_file(path) as file:
        return hashlib.file_digest(file, new_digest).hexdigest()


def new_digest() -> hashlib.blake2b:
    """A BLAKE2b-128 of nothing yet."""
    return hashlib.blake2b(digest_size=DIGEST_BYTES)


def digesting(folder: Path, names: Sequence[str], into: dict[str, FileEntry]) -> Iterator[None]:
    """Describe immutable files, a part of `AHEAD_BYTES` with each step; none that is deleted.

    Args:
        folder: where they are; they may be deleted meanwhile.
        names: of files that nobody writes to any more.
        into: gets the entry of each file once all of it was read.

    Raises:
        OSError: as the operating system says it.
    """
    for name in names:
        with suppress(FileNotFoundError), open_file(folder / name) as file:
            found, size = new_digest(), 0
            while block := file.read(AHEAD_BYTES):
                found.update(block)
                size += len(block)
                yield
            into[name] = FileEntry(name=name, size=size, digest=found.hexdigest())


def entries_of(folder: Path, known: Mapping[str, FileEntry]) -> tuple[FileEntry, ...]:
    """All files of a checkpoint folder, by name.

    Args:
        folder: the folder; it has no subfolders.
        known: entries of immutable files that need not be read again.
    """
    entries = []
    for path in sorted(folder.iterdir()):
        name = path.name
        size = path.stat().st_size
        entry = known.get(name) if name.endswith(_IMMUTABLE_SUFFIX) else None
        if entry is None or entry.size != size:
            entry = FileEntry(name=name, size=size, digest=digest(path))
        entries.append(entry)
    return tuple(entries)


def immutable(files: Sequence[FileEntry]) -> dict[str, FileEntry]:
    """The entries that stay true for as long as files of these names exist."""
    return {
        entry.name: replace(entry, uri="")
        for entry in files
        if entry.name.endswith(_IMMUTABLE_SUFFIX)
    }


def matches(folder: Path, files: Sequence[FileEntry]) -> bool:
    """Whether the folder holds exactly these files with these sizes and digests."""
    try:
        if {path.name for path in folder.iterdir()} != {entry.name for entry in files}:
            return False
        # Sizes first: they find most damage without reading.
        return all(_regular_size(folder / entry.name) == entry.size for entry in files) and all(
            digest(folder / entry.name) == entry.digest for entry in files
        )
    except OSError:
        return False


def blocks(path: Path) -> Iterator[bytes]:
    """Content of a file, in blocks."""
    with open_file(path) as file:
        while block := file.read(READ_BYTES):
            yield block


def assemble(
    partial: Path,
    files: Sequence[FileEntry],
    sources: Sequence[Path],
    fetch: Callable[[FileEntry], Iterable[bytes]],
) -> None:
    """Make a new folder of these files: of what other folders hold, and of what is fetched.

    Args:
        partial: the new folder.
        files: what it shall hold.
        sources: folders that may hold files of the same content, under any name.
        fetch: content of a file that none of them holds.

    Raises:
        CheckpointCorruptError: a fetched content has another digest.
        OSError: as the operating system says it.
    """
    make_private_folder(partial)
    by_size: dict[int, list[Path]] = {}
    for folder in sources:
        for path in folder.iterdir():
            if (size := _regular_size(path)) is not None:
                by_size.setdefault(size, []).append(path)
    for entry in files:
        check_file_name(entry.name)
        target = partial / entry.name
        here = next(
            (path for path in by_size.get(entry.size, ()) if digest(path) == entry.digest), None
        )
        if here is None:
            _write(target, entry, fetch(entry))
        elif target.suffix == _IMMUTABLE_SUFFIX and here.suffix == _IMMUTABLE_SUFFIX:
            os.link(here, target)
        else:
            _copy(here, target)


def _write(target: Path, entry: FileEntry, content: Iterable[bytes]) -> None:
    found = new_digest()
    with create_private(target) as file:
        for block in content:
            found.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    if found.hexdigest() != entry.digest:
        raise CheckpointCorruptError(
            f"file {entry.name} has the digest {found.hexdigest()}, its checkpoint says "
            f"{entry.digest}",
            entry.uri,
        )


def link_or_copy(source: Path, target: Path) -> None:
    """Make a new folder with the files of another: immutable ones linked, the others copied.

    Raises:
        OSError: as the operating system says it.
    """
    make_private_folder(target)
    for path in source.iterdir():
        if path.suffix == _IMMUTABLE_SUFFIX:
            os.link(path, target / path.name)
        else:
            _copy(path, target / path.name)


def complete(partial: Path, final: Path) -> None:
    """Make a checkpoint folder durable and give it its name: what exists is whole.

    SST files are synced by RocksDB as it writes them, so only the small others are synced here.

    Raises:
        OSError: as the operating system says it.
    """
    partial.chmod(FOLDER_MODE)
    for path in partial.iterdir():
        path.chmod(FILE_MODE)  # RocksDB leaves it to the umask
        if path.suffix != _IMMUTABLE_SUFFIX:
            with open_file(path) as file, around("checkpoint.fsync"):
                os.fsync(file.fileno())
    with around("checkpoint.sync"):
        sync_folder(partial)
    with around("checkpoint.rename"):
        partial.rename(final)
    with around("checkpoint.rename.sync"):
        sync_folder(final.parent)


def _copy(source: Path, target: Path) -> None:
    with open_file(source) as file, create_private(target) as copy:
        shutil.copyfileobj(file, copy)


def _regular_size(path: Path) -> int | None:
    """Size of a file in bytes; None for links and all else that is not a plain file."""
    found = path.lstat()
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def delete_others(checkpoints: Path, labels: Collection[str]) -> None:
    """Delete all checkpoint folders but these, half-made ones too.

    Raises:
        OSError: as the operating system says it.
    """
    if not checkpoints.exists():
        return
    for path in checkpoints.iterdir():
        if path.name not in labels:
            with around("checkpoint.delete"):
                shutil.rmtree(path)
