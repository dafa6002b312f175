"""Checkpoint folders on disk: describing, checking, linking and deleting them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from kstash.failpoints import around
from kstash.ports import FileEntry
from kstash.state.folder import sync_folder

PARTIAL_PREFIX = ".partial-"
"""A checkpoint folder of this name was never completed."""

_IMMUTABLE_SUFFIX = ".sst"
"""RocksDB never changes these after writing them; every other file of it may grow."""

DIGEST_BYTES = 16
"""Content names the file, so two files must not share a digest by chance."""


def check_label(label: str) -> None:
    """Refuse labels that are no plain file name (an `assert`: labels are made by the runtime)."""
    is_plain = bool(label) and "/" not in label and not label.startswith(".")
    assert is_plain, f"checkpoint label {label!r} is no plain file name"


def digest(path: Path) -> str:
    """BLAKE2b-128 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, new_digest).hexdigest()


def new_digest() -> hashlib.blake2b:
    """A BLAKE2b-128 of nothing yet."""
    return hashlib.blake2b(digest_size=DIGEST_BYTES)


def describe(folder: Path, known: Mapping[str, FileEntry]) -> tuple[FileEntry, ...]:
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
    return {entry.name: entry for entry in files if entry.name.endswith(_IMMUTABLE_SUFFIX)}


def matches(folder: Path, files: Sequence[FileEntry]) -> bool:
    """Whether the folder holds exactly these files with these sizes and digests."""
    try:
        if {path.name for path in folder.iterdir()} != {entry.name for entry in files}:
            return False
        # Sizes first: they find most damage without reading.
        return all((folder / entry.name).stat().st_size == entry.size for entry in files) and all(
            digest(folder / entry.name) == entry.digest for entry in files
        )
    except OSError:
        return False


def link_or_copy(source: Path, target: Path) -> None:
    """Make a new folder with the files of another: immutable ones linked, the others copied.

    Raises:
        OSError: as the operating system says it.
    """
    target.mkdir(parents=True)
    for path in source.iterdir():
        if path.suffix == _IMMUTABLE_SUFFIX:
            os.link(path, target / path.name)
        else:
            shutil.copyfile(path, target / path.name)


def complete(partial: Path, final: Path) -> None:
    """Make a checkpoint folder durable and give it its name: what exists is whole.

    SST files are synced by RocksDB as it writes them, so only the small others are synced here.

    Raises:
        OSError: as the operating system says it.
    """
    for path in partial.iterdir():
        if path.suffix != _IMMUTABLE_SUFFIX:
            with path.open("rb") as file, around("checkpoint.fsync"):
                os.fsync(file.fileno())
    with around("checkpoint.sync"):
        sync_folder(partial)
    with around("checkpoint.rename"):
        partial.rename(final)
    with around("checkpoint.rename.sync"):
        sync_folder(final.parent)


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
