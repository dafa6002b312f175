"""Files of checkpoints in the store: put there and deleted, by jobs in the background."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from kstash.core.files import FileDeletion
from kstash.core.records import Checkpoint, FileEntry
from kstash.errors import CheckpointCorruptError
from kstash.failpoints import around
from kstash.ports.process import Job, JobCancelledError
from kstash.ports.state import CheckpointStore, TaskFolder


@dataclass(slots=True)
class Upload:
    """Stores the files of one checkpoint; runs in a background job.

    Attributes:
        folder: of the task on this disk.
        task: its name, for errors.
        name_of: gives the name under which a file is stored, by its digest.
        bytes_per_s: bound of the bandwidth, 0: none.
        known: URIs of stored files, by digest: they are referred to.
        is_known_checked: they were found there before, by this incarnation.
        stored_bytes: what was stored, for the metrics.
    """

    store: CheckpointStore
    folder: TaskFolder
    group: int
    task: str
    name_of: Callable[[str], str]
    bytes_per_s: int
    known: Mapping[str, str]
    is_known_checked: bool
    stored_bytes: int = 0

    def run(self, record: Checkpoint, job: Job) -> tuple[FileEntry, ...]:
        """Store what is new.

        Returns:
            The checkpoint's files with their URIs.

        Raises:
            CheckpointStoreError: the store does not answer.
            StateError: a file cannot be read, or is not what it was.
            JobCancelledError: no upload waits for it any more.
        """
        known = dict(self.known)
        if known and not self.is_known_checked:
            gone = self.store.missing(set(known.values()))
            known = {digest: at for digest, at in known.items() if at not in gone}
        files = []
        for entry in record.files:
            uri = known.get(entry.digest)
            if uri is None:
                name = self.name_of(entry.digest)
                with around("upload.put"):
                    uri = self.store.put(self.group, name, self._blocks(record, entry, job))
                known[entry.digest] = uri
                self.stored_bytes += entry.size
            files.append(replace(entry, uri=uri))
        return tuple(files)

    def _blocks(self, record: Checkpoint, entry: FileEntry, job: Job) -> Iterator[bytes]:
        found = hashlib.blake2b(digest_size=len(entry.digest) // 2)
        for block in self.folder.read(record.label, entry.name):
            if job.is_cancelled:
                raise JobCancelledError
            found.update(block)
            yield block
            if self.bytes_per_s:
                job.pause(len(block) / self.bytes_per_s)
        # Raised before the store takes the file for whole: damage on the disk stays there.
        if found.hexdigest() != entry.digest:
            raise CheckpointCorruptError(
                f"file {entry.name} of checkpoint {record.label} was damaged on this disk",
                self.task,
            )


@dataclass(slots=True)
class Collection:
    """Deletes files that no retained checkpoint names; runs in a background job.

    Attributes:
        folder: of the task's files in the store.
        deletion: what is to go.
    """

    store: CheckpointStore
    group: int
    folder: str
    deletion: FileDeletion

    def run(self, job: Job) -> int:
        """Delete.

        Returns:
            How many files were deleted.

        Raises:
            CheckpointStoreError: the store does not answer.
        """
        doomed, known = set(self.deletion.dropped), self.deletion.known
        if known is not None:
            doomed |= self.deletion.left_over(
                self.store.unknown_files(self.group, self.folder, known)
            )
        if doomed and not job.is_cancelled:
            with around("upload.delete"):
                self.store.delete(sorted(doomed))
        return len(doomed)
