"""Remote checkpoints of one task group: uploads, their records, and the collection of old files.

A local checkpoint that is published is offered here; its files are stored by a background job, new
ones only, and a second record makes it the task's newest remote checkpoint. One upload of a task
runs at a time and the newest offer waits: what comes in between is never uploaded.

What is referred to, what may be deleted and when is said by `core.files`; here it is carried out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from kstash.core.files import FileDeletion, RemoteFiles, task_folder, uris_of
from kstash.core.record_keys import encode_key
from kstash.core.records import Checkpoint, FileEntry
from kstash.ports.process import Job
from kstash.ports.state import CheckpointStore, StateBackend
from kstash.runtime.context import Services
from kstash.runtime.group.lineage_writer import LineageWriter
from kstash.runtime.group.stored_files import Collection, Upload
from kstash.runtime.task.task import Task
from kstash.settings.config import Config

UPLOAD_RETRY_S = 1.0
UPLOAD_RETRY_MAX_S = 60.0
"""Pause after an upload that failed, doubled each time; the next one takes the newest offer."""

log = structlog.get_logger("kstash.uploads")


@dataclass(slots=True)
class _Line:
    """The remote checkpoints of one task.

    A checkpoint is `offered`, then `uploading`, `stored` and `sent`; of the last three one at most
    is not None.

    Attributes:
        task: the task.
        files: published ones, and what they name.
        offered: the newest local checkpoint that is not being uploaded yet.
        uploading: what the job stores.
        stored: uploaded, its record not yet sent: (local record, files with URIs).
        sent: its record is on its way to the lineage topic.
        jobs: the newest, of which some may still be under way; to cancel them.
        is_looked_at: whether an upload of this incarnation has checked that known files are there.
        due_s: monotonic time before which no upload begins: there was a failure.
        failures: uploads that failed one after the other; 0 after one that did not.
        started_s: when the newest upload began, in monotonic seconds.
    """

    task: Task
    files: RemoteFiles
    offered: Checkpoint | None = None
    uploading: Checkpoint | None = None
    stored: tuple[Checkpoint, tuple[FileEntry, ...]] | None = None
    sent: Checkpoint | None = None
    jobs: list[Job] = field(default_factory=list)
    is_looked_at: bool = False
    due_s: float = 0.0
    failures: int = 0
    started_s: float = 0.0

    @property
    def is_busy(self) -> bool:
        return any((self.offered, self.uploading, self.stored, self.sent))

    @property
    def on_way(self) -> list[Checkpoint]:
        """Checkpoints whose files are being stored, or are stored, and which are not published."""
        stored = self.stored[0] if self.stored is not None else None
        return [c for c in (self.uploading, stored, self.sent) if c is not None]

    def keep(self, job: Job) -> None:
        """Remember a job, to cancel it; only the newest ones may still be under way."""
        self.jobs = [*self.jobs[-3:], job]


class Uploads:
    """Uploads of one group's tasks, driven by `tick`; nothing here waits.

    Args:
        config: how many remote checkpoints are kept, and how fast uploads may be.
        services: of the process.
        state: has the files.
        store: takes them; None: checkpoints stay on this disk, and nothing is done here.
        lineage: of the group: takes the records of what was uploaded.
        group: its number.
    """

    def __init__(
        self,
        config: Config,
        services: Services,
        *,
        state: StateBackend,
        store: CheckpointStore | None,
        lineage: LineageWriter,
        group: int,
    ) -> None:
        self._config = config
        self._services = services
        self._state = state
        self._store = store
        self._group = group
        self._lineage = lineage
        # By stage; without a store there are none.
        self._lines: dict[int, _Line] = {}

    @property
    def has_store(self) -> bool:
        """Whether checkpoints go to a store besides this disk."""
        return self._store is not None

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
            distrusted: URIs that turned out damaged.
        """
        if self._store is None or not task.stage.stores:
            return
        files = RemoteFiles(
            task_folder(task.stage.name, self._group),
            task.incarnation,
            retained=self._config.checkpoints_retained,
            remote=remote,
            distrusted=distrusted,
        )
        line = self._lines[task.stage.index] = _Line(task, files)
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
        return line.files.newest if line is not None else None

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
        record = line.uploading = line.offered
        assert record is not None
        assert self._store is not None
        line.offered = None
        line.started_s = now
        upload = Upload(
            self._store,
            self._state.task(line.task.stage.name, self._group),
            group=self._group,
            task=line.task.name,
            name_of=line.files.name_of,
            bytes_per_s=self._config.checkpoint_upload_bytes_per_s or 0,
            known=line.files.referable(),
            is_known_checked=line.is_looked_at,
        )
        line.keep(
            self._services.background.submit(
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
        record, line.uploading = line.uploading, None
        assert record is not None
        now = self._services.clock.monotonic()
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
        self._services.metrics.count("checkpoint_uploads")
        self._services.metrics.count("checkpoint_upload_bytes", upload.stored_bytes)
        self._services.metrics.observe("checkpoint_upload_seconds", now - line.started_s)

    def _failed(self, line: _Line, now: float, error: Exception) -> None:
        pause_s = min(UPLOAD_RETRY_S * 2 ** min(line.failures, 10), UPLOAD_RETRY_MAX_S)
        line.failures += 1
        line.due_s = now + pause_s
        self._services.metrics.count("checkpoint_upload_failures")
        log.warning(
            "a checkpoint could not be uploaded, trying again; processing goes on",
            task=line.task.name,
            failures=line.failures,
            pause_s=pause_s,
            reason=str(error) or repr(error),
        )

    def _publish(self, line: _Line, local: Checkpoint, files: tuple[FileEntry, ...]) -> None:
        record = line.task.checkpoints.remote_record(local, files)
        if record is None:
            return
        line.stored = None
        line.sent = record
        self._lineage.append(record, partial(self._on_published, line, record))

    def _on_published(self, line: _Line, record: Checkpoint) -> None:
        if line.sent is not record:
            return  # it was read back before
        line.sent = None
        line.files.published(record)
        self._services.metrics.count("checkpoints_remote")

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
        others = {
            uri
            for other in self._lines.values()
            if other is not line
            for uri in uris_of(other.files.remote)
        }
        deletion = line.files.read_back(record, on_way=line.on_way, others=others)
        if deletion is None:
            return
        assert self._store is not None
        collection = Collection(
            self._store, self._group, folder=line.files.folder, deletion=deletion
        )
        done = partial(self._collected, line, deletion)
        line.keep(self._services.background.submit("upload", collection.run, done))

    def _collected(
        self, line: _Line, deletion: FileDeletion, count: int | None, error: Exception | None
    ) -> None:
        if isinstance(error, AssertionError):
            raise error
        if error is not None:
            # What is still there goes with the next collection.
            log.warning(
                "old checkpoint files could not be deleted", task=line.task.name, reason=str(error)
            )
            return
        line.files.deleted(deletion)
        self._services.metrics.count("checkpoint_files_deleted", count or 0)
