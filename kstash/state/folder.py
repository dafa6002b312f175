"""The state folder of an application: its lock, its metadata and the folders of its tasks.

<state_dir>/<application_id>/
    .lock                       held while a worker uses the folder; goes with the process
    kstash-metadata.json        format, and the program that used the folder last
    <stage>_<p>/live-<n>/       the open database; never used again after a crash
    <stage>_<p>/checkpoints/    one folder a checkpoint; .partial-* while being made
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from kstash.errors import StateError
from kstash.escape import short_repr
from kstash.failpoints import around

FORMAT_VERSION = 1
"""Of the folder's layout and of the databases in it. Raised when old folders become unreadable."""

FOLDER_MODE = 0o700
FILE_MODE = 0o600
"""State is as secret as what the topics hold. Each folder from the application's down is closed, so
that no other user reaches the files that RocksDB makes, whose mode the umask decides."""

LOCK_FILE = ".lock"
METADATA_FILE = "kstash-metadata.json"

LINK_HELP = (
    "a link stands where kstash has a file or folder of its own, and is not followed: see who put "
    "it there. If it is yours, move what it points at into its place; to have state on another "
    "disk, set state_dir, which may be a link"
)

_LOCK_RETRY_S = 0.02


def limit_hit(error: BaseException) -> str | None:
    """What limit of the disk or the process an error is about, with the fix; None: another one."""
    text = str(error)
    code = error.errno if isinstance(error, OSError) else None
    if code in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text or "quota" in text.lower():
        return "the disk is full: free space, or move state_dir to a larger disk, and start again"
    if code in (errno.EMFILE, errno.ENFILE) or "Too many open files" in text:
        return "the limit of open files was hit: raise it (ulimit -n) and start again"
    if code == errno.EFBIG or "File too large" in text:
        return "a file size limit was hit: raise it (ulimit -f) and start again"
    if code == errno.ELOOP:
        return LINK_HELP
    if code in (errno.EACCES, errno.EPERM, errno.EROFS) or "Permission denied" in text:
        return "give this user write access to the folder, or set another state_dir"
    return None


def io_error(folder: Path, action: str, error: BaseException) -> StateError:
    """A `StateError` that says what failed where, and what to do about it."""
    other = "check the disk (dmesg, df), or set state_dir to a sound one, and start again"
    fix = limit_hit(error) or other
    return StateError(f"{action} failed ({error}); {fix}; nothing is lost", str(folder))


def refuse_link(path: Path) -> None:
    """Refuse a link, also one that points nowhere, where a file or folder of kstash's stands.

    Raises:
        StateError: it is one; names the path.
    """
    if path.is_symlink():
        raise StateError(LINK_HELP, str(path))


def refuse_links_in(folder: Path) -> None:
    """Refuse a folder that is a link, and links in it; one that is not there is fine.

    Raises:
        StateError: there is one; names the path.
        OSError: as the operating system says it.
    """
    refuse_link(folder)
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            refuse_link(path)


class ApplicationFolder:
    """The locked state folder of one application.

    Args:
        state_dir: parent of all applications' folders; made when missing.
        application_id: names the folder.
        topology_hash: of the program that will use the state. That of another one is replaced: the
            lineage topic knows which checkpoints the program may take over (decision 0015).
        program: description of the program (`kstash.core.manifest`), for people and for `reset`.
        lock_wait_s: how long to wait for a dying predecessor's lock.

    Raises:
        StateError: another process holds the lock, the state belongs to another program or format,
            or the folder cannot be used.
    """

    def __init__(
        self,
        state_dir: Path,
        application_id: str,
        *,
        topology_hash: str,
        program: str = "{}",
        lock_wait_s: float = 1.0,
    ) -> None:
        self.path = state_dir / quote(application_id, safe="")
        refuse_link(self.path)
        try:
            make_private_folder(self.path)
            self._lock = os.open(
                self.path / LOCK_FILE,
                os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW,
                FILE_MODE,
            )
        except OSError as error:
            raise io_error(self.path, "opening the state folder", error) from error
        try:
            self._acquire(lock_wait_s)
            self._check_metadata(application_id, topology_hash, program)
        except BaseException:
            os.close(self._lock)
            raise

    def task_folder(self, stage: str, partition: int) -> Path:
        """Folder of one task; it may not exist yet."""
        return self.path / f"{quote(stage, safe='')}_{partition}"

    def close(self) -> None:
        """Give up the lock. Again is fine."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _acquire(self, wait_s: float) -> None:
        # flock belongs to the open file, so it ends with the process however that dies, and also
        # holds between two backends of one process.
        deadline_s = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline_s:
                    raise self._locked() from None
                time.sleep(_LOCK_RETRY_S)
            except OSError as error:
                raise io_error(self.path, "locking the state folder", error) from error
        with suppress(OSError):  # only for people: who holds it
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _locked(self) -> StateError:
        holder = "another process"
        with suppress(OSError):
            holder = f"process {os.pread(self._lock, 32, 0).decode().strip() or 'unknown'}"
        return StateError(
            f"the state folder is in use by {holder}; stop it, or give this worker another "
            "state_dir or application_id",
            str(self.path),
        )

    def _check_metadata(self, application_id: str, topology_hash: str, program: str) -> None:
        path = self.path / METADATA_FILE
        wanted = {"format": FORMAT_VERSION, "application_id": application_id}
        metadata = {**wanted, "topology_hash": topology_hash, "program": json.loads(program)}
        found = None
        try:
            with suppress(FileNotFoundError), open_file(path) as file:
                found = json.loads(file.read())
        except (OSError, ValueError, RecursionError) as error:
            refuse_link(path)
            raise StateError(
                f"{METADATA_FILE} cannot be read ({error}): make it readable or, if it is damaged, "
                "move it out of this folder, which is left as it is otherwise: it is written anew",
                str(self.path),
            ) from error
        for name, value in wanted.items():
            if found is not None and (not isinstance(found, dict) or found.get(name) != value):
                was = found.get(name) if isinstance(found, dict) else None
                raise StateError(
                    f"the state was written with {name} {short_repr(was)}, this program has "
                    f"{value!r}; run what wrote it, or give this worker another state_dir: its "
                    "state comes from the checkpoint store then, or from a replay",
                    str(self.path),
                )
        if found != metadata:
            self._write_metadata(path, metadata)

    def _write_metadata(self, path: Path, metadata: dict[str, object]) -> None:
        partial = path.with_suffix(".partial")
        try:
            # A new file: what is there was left by a crash, or put there by another program.
            partial.unlink(missing_ok=True)
            with create_private(partial) as file:
                file.write(json.dumps(metadata, indent=2).encode() + b"\n")
                file.flush()
                with around("folder.metadata.fsync"):
                    os.fsync(file.fileno())
            with around("folder.metadata.rename"):
                partial.replace(path)
            with around("folder.metadata.sync"):
                sync_folder(self.path)
        except OSError as error:
            raise io_error(self.path, f"writing {METADATA_FILE}", error) from error


def make_private_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, for this user alone.

    A folder that exists and belongs to this user becomes so too: older releases left that to the
    umask. One of another user, as a volume of a container, is taken as it is.

    Raises:
        OSError: as the operating system says it.
    """
    for folder in reversed((path, *path.parents)):
        with suppress(FileExistsError):
            folder.mkdir(FOLDER_MODE)
    if path.stat().st_uid == os.geteuid():
        path.chmod(FOLDER_MODE)


def create_private(path: Path) -> BinaryIO:
    """Make a file for this user alone, and open it to write; no link is followed.

    Raises:
        OSError: as the operating system says it; also where there is one of this name.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, FILE_MODE), "wb")


def open_file(path: Path) -> BufferedReader:
    """Open a file to read; no link is followed, and a pipe in its place is not waited for.

    Raises:
        OSError: as the operating system says it.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags), "rb")


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable.

    Raises:
        OSError: as the operating system says it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
