"""Remote checkpoints of one task group: uploads, their records, and the collection of old files.

A local checkpoint that is published is offered here; its files are stored by a background job, new
ones only, and a second record makes it the task's newest remote checkpoint. One upload of a task
runs at a time and the newest offer waits: what comes in between is never uploaded.

What may be deleted, and when (decision 0018): after the own record was read back from the
lineage topic with no higher CLAIM before it (H7), files that only checkpoints older than the
retained ones name; once in an incarnation also what older incarnations left behind. A file is
stored under the incarnation that stored it, and a checkpoint refers only to files of its own
incarnation and of the two newest remote checkpoints before it. So a zombie, which deletes nothing
that the two newest name or that a higher incarnation stored, deletes nothing that its successor
needs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from kstash.core.ids import Incarnation
from kstash.core.records import Checkpoint, FileEntry, encode_key
from kstash.errors import (
    CheckpointCorruptError,
    JobCancelledError,
)
from kstash.failpoints import around
from kstash.ports.process import Job
from kstash.ports.state import CheckpointStore, StateBackend
from kstash.runtime.context import Context
from kstash.runtime.group.lineage_writer import LineageWriter
from kstash.runtime.task.task import Task

RETRY_S = 1.0
RETRY_MAX_S = 60.0
"""Pause after an upload that failed, doubled each time; the next one takes the newest offer."""

REFERRED_MAX = 2
"""Newest remote checkpoints whose files may be referred to, whatever `checkpoints_retained` says:
a zombie under another setting keeps at least the files of these."""

log = structlog.get_logger("kstash.uploads")


@dataclass(slots=True)
class _Line:
    """The remote checkpoints of one task.

    Attributes:
        offered: the newest local checkpoint that is not being uploaded yet.
        uploading: what the job stores.
        stored: uploaded, its record not yet sent: (local record, files with locations).
        sent: its record is on its way to the lineage topic.
        remote: published ones, oldest first.
        old: those no longer retained whose files are not deleted yet.
        distrusted: locations that are not referred to.
    """

    task: Task
    remote: list[Checkpoint]
    distrusted: set[str]
    offered: Checkpoint | None = None
    uploading: Checkpoint | None = None
    stored: tuple[Checkpoint, tuple[FileEntry, ...]] | None = None
    sent: Checkpoint | None = None
    old: list[Checkpoint] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    is_looked_at: bool = False
    is_swept: bool = False
    due_s: float = 0.0
    failures: int = 0
    started_s: float = 0.0

    @property
    def is_busy(self) -> bool:
        return any((self.offered, self.uploading, self.stored, self.sent))

    @property
    def on_way(self) -> list[Checkpoint]:
        """Checkpoints whose files are being stored, or are stored, and which are not published."""
        stored = None if self.stored is None else self.stored[0]
        return [c for c in (self.uploading, stored, self.sent) if c is not None]

    def keep(self, job: Job) -> None:
        """Remember a job, to cancel it; only the newest ones may still be under way."""
        self.jobs = [*self.jobs[-3:], job]


class Uploads:
    """Uploads of one group's tasks, driven by `tick`; nothing here waits."""

    def __init__(self, context: Context, group: int, lineage: LineageWriter) -> None:
        self._context = context
        self._group = group
        self._lineage = lineage
        self._lines: dict[int, _Line] = {}

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint is on its way to the store, or its record to the lineage topic."""
        return any(line.is_busy for line in self._lines.values())

    @property
    def is_failing(self) -> bool:
        """Whether the store refused the last upload of a task."""
        return any(line.failures and line.is_busy for line in self._lines.values())

    def add(
        self,
        task: Task,
        base: Checkpoint | None,
        remote: Sequence[Checkpoint],
        distrusted: Iterable[str],
    ) -> None:
        """Take care of a recovered task.

        Args:
            task: the task.
            base: what it was restored from; uploaded now if it is not yet remote.
            remote: its remote checkpoints on the adopted history, oldest first.
            distrusted: locations that turned out damaged.
        """
        if self._context.store is None or not task.stage.stores:
            return
        line = self._lines[task.stage.index] = _Line(task, list(remote), set(distrusted))
        if base is not None and all(base.label != checkpoint.label for checkpoint in remote):
            line.offered = base

    def offer(self, task: Task, record: Checkpoint) -> None:
        """A local checkpoint is published: upload it, or instead of one that still waits."""
        line = self._lines.get(task.stage.index)
        if line is not None:
            line.offered = record

    def labels(self, task: Task) -> set[str]:
        """Local checkpoints of a task whose files are needed."""
        line = self._lines.get(task.stage.index)
        if line is None:
            return set()
        return {record.label for record in (line.offered, line.uploading) if record is not None}

    def newest(self, task: Task) -> Checkpoint | None:
        """The newest remote checkpoint of a task."""
        line = self._lines.get(task.stage.index)
        return line.remote[-1] if line is not None and line.remote else None

    def tick(self, now: float, *, may_publish: bool) -> None:
        """Start what may start, publish what is stored."""
        for line in self._lines.values():
            if line.stored is not None and may_publish:
                self._publish(line, *line.stored)
            is_free = line.uploading is None and line.stored is None and line.sent is None
            if is_free and line.offered is not None and now >= line.due_s:
                self._start(line, now)

    def close(self) -> None:
        """Stop; what was stored and not published is collected by a later incarnation."""
        for line in self._lines.values():
            for job in line.jobs:
                job.cancel()

    # -- uploading -------------------------------------------------------------------------------

    def _start(self, line: _Line, now: float) -> None:
        context = self._context
        record = line.uploading = line.offered
        assert record is not None
        assert context.store is not None
        line.offered = None
        line.started_s = now
        known = {
            entry.digest: entry.location
            for checkpoint in line.remote[-REFERRED_MAX:]
            for entry in checkpoint.files
            if entry.location not in line.distrusted
        }
        upload = Upload(
            context.store,
            context.state,
            group=self._group,
            stage=line.task.stage.name,
            incarnation=line.task.incarnation,
            bytes_per_s=context.config.checkpoint_upload_bytes_per_s or 0,
            known=known,
            is_known_checked=line.is_looked_at,
        )
        line.keep(
            context.background.submit(
                "upload", partial(upload.run, record), partial(self._uploaded, line, upload)
            )
        )

    def _uploaded(
        self,
        line: _Line,
        upload: Upload,
        files: tuple[FileEntry, ...] | None,
        error: Exception | None,
    ) -> None:
        context = self._context
        record, line.uploading = line.uploading, None
        assert record is not None
        now = context.clock.monotonic()
        if isinstance(error, AssertionError):
            raise error
        if error is not None:  # whatever a store's client raises: processing goes on
            self._failed(line, now, error)
            line.offered = line.offered or record
            return
        assert files is not None
        line.failures = 0
        line.is_looked_at = True
        line.stored = record, files
        context.metrics.count("checkpoint_uploads")
        context.metrics.count("checkpoint_upload_bytes", upload.stored_bytes)
        context.metrics.observe("checkpoint_upload_seconds", now - line.started_s)

    def _failed(self, line: _Line, now: float, error: Exception) -> None:
        pause_s = min(RETRY_S * 2 ** min(line.failures, 10), RETRY_MAX_S)
        line.failures += 1
        line.due_s = now + pause_s
        self._context.metrics.count("checkpoint_upload_failures")
        log.warning(
            "a checkpoint could not be uploaded, trying again; processing goes on",
            task=line.task.name,
            failures=line.failures,
            pause_s=pause_s,
            reason=str(error) or repr(error),
        )

    def _publish(self, line: _Line, local: Checkpoint, files: tuple[FileEntry, ...]) -> None:
        record = line.task.remote_record(local, files)
        if record is None:
            return
        line.stored = None
        line.sent = record
        self._lineage.append(record, partial(self._on_published, line, record))

    def _on_published(self, line: _Line, record: Checkpoint) -> None:
        if line.sent is not record:
            return  # it was read back before
        line.sent = None
        line.remote.append(record)
        self._context.metrics.count("checkpoints_remote")

    # -- collecting old files --------------------------------------------------------------------

    def read_back(self, record: Checkpoint) -> None:
        """An own record was read back, with no higher CLAIM before it: old files may go."""
        line = self._lines.get(record.task.stage)
        if line is None:
            return
        # By its key, which no two records share (H8): what was read back was decoded meanwhile.
        key = encode_key(record)
        if line.sent is not None and key == encode_key(line.sent):
            self._on_published(line, line.sent)  # its acknowledgement is not served yet
        keys = [encode_key(checkpoint) for checkpoint in line.remote]
        if key not in keys:
            return  # a local one, or one that is said again
        context = self._context
        assert context.store is not None
        end = keys.index(key) + 1
        first = max(0, end - context.config.checkpoints_retained)
        line.old += line.remote[:first]
        del line.remote[:first]
        kept = {entry.location for checkpoint in line.remote for entry in checkpoint.files}
        # A file is stored by its digest, so one on its way may be what an older checkpoint named.
        on_way = {entry.digest for checkpoint in line.on_way for entry in checkpoint.files}
        known = {
            entry.location
            for other in self._lines.values()
            for checkpoint in other.remote
            for entry in checkpoint.files
        }
        folder = task_folder(line.task.stage.name, self._group)
        collection = Collection(
            context.store,
            group=self._group,
            folder=folder,
            incarnation=line.task.incarnation,
            dropped={
                entry.location
                for checkpoint in line.old
                for entry in checkpoint.files
                # What others have is not ours to delete, whatever a record says.
                if entry.digest not in on_way and f":{folder}/" in entry.location
            }
            - kept,
            known=None if line.is_swept else known,
        )
        old = list(line.old)
        line.keep(
            context.background.submit("upload", collection.run, partial(self._collected, line, old))
        )

    def _collected(
        self, line: _Line, old: list[Checkpoint], count: int | None, error: Exception | None
    ) -> None:
        if isinstance(error, AssertionError):
            raise error
        if error is not None:
            # What is still there goes with the next collection.
            log.warning(
                "old checkpoint files could not be deleted", task=line.task.name, reason=str(error)
            )
            return
        line.is_swept = True
        line.old = [checkpoint for checkpoint in line.old if checkpoint not in old]
        self._context.metrics.count("checkpoint_files_deleted", count or 0)


_NUMBERS = re.compile("[0-9]{1,20}-[0-9]{1,20}")


def task_folder(stage: str, group: int) -> str:
    """Folder of a task's files in the store."""
    return f"{stage}_{group}"


def incarnation_of(name: str) -> Incarnation | None:
    """Who stored a file, by its name; None when the name is none of ours."""
    parts = name.split("/")
    if len(parts) != 3:
        return None
    generation, _, offset = parts[1].partition("-")
    if _NUMBERS.fullmatch(parts[1]) is None:
        return None
    return Incarnation(int(generation), int(offset))


@dataclass(slots=True)
class Upload:
    """Stores the files of one checkpoint; runs in a background job.

    Attributes:
        bytes_per_s: bound of the bandwidth, 0: none.
        known: locations of stored files, by digest: they are referred to.
        is_known_checked: they were found there before, by this incarnation.
        stored_bytes: what was stored, for the metrics.
    """

    store: CheckpointStore
    state: StateBackend
    group: int
    stage: str
    incarnation: Incarnation
    bytes_per_s: int
    known: Mapping[str, str]
    is_known_checked: bool
    stored_bytes: int = 0

    def run(self, record: Checkpoint, job: Job) -> tuple[FileEntry, ...]:
        """Store what is new.

        Returns:
            The checkpoint's files with their locations.

        Raises:
            CheckpointStoreError: the store does not answer.
            StateError: a file cannot be read, or is not what it was.
            JobCancelledError: nobody waits for it any more.
        """
        known = dict(self.known)
        if known and not self.is_known_checked:
            gone = self.store.missing(set(known.values()))
            known = {digest: at for digest, at in known.items() if at not in gone}
        folder = task_folder(self.stage, self.group)
        generation, offset = self.incarnation
        files = []
        for entry in record.files:
            location = known.get(entry.digest)
            if location is None:
                name = f"{folder}/{generation}-{offset}/{entry.digest}"
                with around("upload.put"):
                    location = self.store.put(self.group, name, self._blocks(record, entry, job))
                known[entry.digest] = location
                self.stored_bytes += entry.size
            files.append(replace(entry, location=location))
        return tuple(files)

    def _blocks(self, record: Checkpoint, entry: FileEntry, job: Job) -> Iterator[bytes]:
        found = hashlib.blake2b(digest_size=len(entry.digest) // 2)
        for block in self.state.read(self.stage, self.group, record.label, entry.name):
            if job.is_cancelled:
                raise JobCancelledError
            found.update(block)
            yield block
            if self.bytes_per_s:
                job.pause(len(block) / self.bytes_per_s)
        # Before the store takes it for whole: what was damaged on the disk stays there.
        if found.hexdigest() != entry.digest:
            raise CheckpointCorruptError(
                f"file {entry.name} of checkpoint {record.label} was damaged on this disk",
                f"{self.stage}_{self.group}",
            )


@dataclass(slots=True)
class Collection:
    """Deletes files that no retained checkpoint names; runs in a background job.

    Attributes:
        incarnation: whose collection it is.
        dropped: locations that only checkpoints name which are no longer retained.
        known: all locations that the group's retained checkpoints name, to find what older
            incarnations left behind; None: that was done before.
    """

    store: CheckpointStore
    group: int
    folder: str
    incarnation: Incarnation
    dropped: set[str]
    known: set[str] | None

    def run(self, job: Job) -> int:
        """Delete.

        Returns:
            How many files were deleted.

        Raises:
            CheckpointStoreError: the store does not answer.
        """
        doomed = set(self.dropped)
        if self.known is not None:
            for name, location in self.store.strays(self.group, self.folder, self.known):
                owner = incarnation_of(name)
                if owner is not None and owner < self.incarnation:
                    doomed.add(location)
        if doomed and not job.is_cancelled:
            with around("upload.delete"):
                self.store.delete(sorted(doomed))
        return len(doomed)
