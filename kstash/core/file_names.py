"""What the list of files of a checkpoint may say, before anybody opens, links or deletes by it.

A CKPT comes from a topic. Who can write there could have any path of this machine read, written or
deleted by it, and files of other tasks deleted in the checkpoint store.
"""

from __future__ import annotations

import re

from kstash.core.records import Checkpoint, FileEntry
from kstash.errors import CheckpointCorruptError

NAME_BYTES_MAX = 255
"""Of a file name on the usual file systems."""

FILE_BYTES_MAX = 1 << 40
"""No file of a state is as large: RocksDB cuts its files at some hundred megabytes."""

URI_CHARS_MAX = 1 << 20

_DIGEST = re.compile(r"[0-9a-f]{32}")
# `<store>:<stage>_<partition>/<generation>-<claim offset>/<digest>`; in a topic the partition and
# the offsets stand before the name, and the attempt that stored it after it.
_URI = re.compile(
    r"[a-z]+:(?:([0-9]{1,10}):[0-9+,]*:)?[^/]+_([0-9]{1,10})/[0-9]{1,20}-[0-9]{1,20}/"
    r"([0-9a-f]{32})(?:~[0-9a-z]{1,40})?"
)


def check_file_name(name: str) -> None:
    """Refuse what is no plain name of a file in one folder, such as `../x`, `/x` or `.lock`.

    Raises:
        CheckpointCorruptError: says which name, as it would be written in Python.
    """
    is_plain = (
        name.isprintable()
        and not name.startswith(".")
        and not {"/", "\\"}.intersection(name)
        and 1 <= len(name.encode(errors="replace")) <= NAME_BYTES_MAX
    )
    if not is_plain:
        raise CheckpointCorruptError(f"{name[:80]!r} is no plain file name")


def check_file_names(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint whose label or files cannot be what kstash wrote.

    Raises:
        CheckpointCorruptError: says what is wrong; such a checkpoint is no base for anything.
    """
    check_file_name(checkpoint.label)
    seen = set()
    for entry in checkpoint.files:
        check_file_name(entry.name)
        if entry.name in seen:
            raise CheckpointCorruptError(f"file {entry.name!r} is named twice")
        seen.add(entry.name)
        _check_entry(checkpoint, entry)


def is_sound(checkpoint: Checkpoint) -> bool:
    """Whether `check_file_names` passes."""
    try:
        check_file_names(checkpoint)
    except CheckpointCorruptError:
        return False
    return True


def _check_entry(checkpoint: Checkpoint, entry: FileEntry) -> None:
    if not 0 <= entry.size <= FILE_BYTES_MAX:
        raise CheckpointCorruptError(f"file {entry.name!r} has {entry.size} bytes")
    if _DIGEST.fullmatch(entry.digest) is None:
        raise CheckpointCorruptError(f"file {entry.name!r} has no digest: {entry.digest[:80]!r}")
    if not entry.uri and not checkpoint.is_remote:
        return
    found = None
    if len(entry.uri) <= URI_CHARS_MAX:
        found = _URI.fullmatch(entry.uri)
    group = checkpoint.task.partition
    if (
        found is None
        or found[3] != entry.digest
        or {found[1] or found[2], found[2]} != {str(group)}
    ):
        raise CheckpointCorruptError(
            f"file {entry.name!r} has a URI that is none of its own: {entry.uri[:80]!r}"
        )
