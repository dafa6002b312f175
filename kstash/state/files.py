"""Checkpoint folders on disk: describing, checking, linking and deleting them."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from kstash.ports import FileEntry
from kstash.state.folder import sync_folder

PARTIAL_PREFIX = ".partial-"
"""A checkpoint folder of this name was never completed."""

_IMMUTABLE_SUFFIX = ".sst"
"""RocksDB never changes these after writing them; every other file of it may grow."""

_READ_BYTES = 1 << 20


def check_label(label: str) -> None:
    """Refuse labels that are no plain file name (an `assert`: labels are made by the runtime)."""
    is_plain = bool(label) and "/" not in label and not label.startswith(".")
    assert is_plain, f"checkpoint label {label!r} is no plain file name"


def checksum(path: Path) -> int:
    """CRC-32 of a file's content."""
    crc32 = 0
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            crc32 = zlib.crc32(block, crc32)
    return crc32


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
            entry = FileEntry(name=name, size=size, crc32=checksum(path))
        entries.append(entry)
    return tuple(entries)


def immutable(files: Sequence[FileEntry]) -> dict[str, FileEntry]:
    """The entries that stay true for as long as files of these names exist."""
    return {entry.name: entry for entry in files if entry.name.endswith(_IMMUTABLE_SUFFIX)}


def matches(folder: Path, files: Sequence[FileEntry]) -> bool:
    """Whether the folder holds exactly these files with these sizes and checksums."""
    try:
        if {path.name for path in folder.iterdir()} != {entry.name for entry in files}:
            return False
        # Sizes first: they find most damage without reading.
        return all((folder / entry.name).stat().st_size == entry.size for entry in files) and all(
            checksum(folder / entry.name) == entry.crc32 for entry in files
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
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(partial)
    partial.rename(final)
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
            shutil.rmtree(path)
