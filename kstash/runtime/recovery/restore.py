"""Bases for recovered tasks: verified on this disk, or brought back from the checkpoint store.

Verifying and fetching wait for disks and networks, so a background job does it for each task; other
task groups go on. The candidates come best first; the first one that can be had is the base.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from kstash.core.ids import TaskId
from kstash.core.records import Checkpoint, FileEntry
from kstash.errors import (
    CheckpointCorruptError,
    CheckpointStoreError,
)
from kstash.ports.process import Job, JobCancelledError
from kstash.ports.state import CheckpointStore, StateBackend, TaskFolder
from kstash.runtime.context import Services
from kstash.runtime.pauses import Pauses
from kstash.topology.model import Stage

RESTORE_RETRY_S = 0.5
RESTORE_RETRY_MAX_S = 10.0
"""Pause before a store that does not answer is asked again, doubled each time."""

COUNT_S = 1.0
"""How often what was fetched is counted, for the metrics."""

log = structlog.get_logger("kstash.restore")


@dataclass(slots=True)
class RestoreProgress:
    """Bytes to fetch and fetched for one task; its job writes, the loop reads."""

    total_bytes: int = 0
    done_bytes: int = 0


@dataclass(slots=True)
class Restored:
    """What became of one task.

    Attributes:
        base: the checkpoint that can be opened now, or None.
        damaged: URIs of stored files that turned out damaged or missing.
        fetched_bytes: from the store.
    """

    base: Checkpoint | None = None
    damaged: set[str] = field(default_factory=set)
    fetched_bytes: int = 0


class Restores:
    """The restores of one recovery.

    Args:
        services: of the process.
        state: has what is on this disk, and takes what is fetched.
        store: where it is fetched from; None: there is nothing besides this disk.
        stages: of the group's tasks.
        group: its number.

    Attributes:
        damaged: per task, URIs that must not be relied on.
    """

    def __init__(
        self,
        services: Services,
        *,
        state: StateBackend,
        store: CheckpointStore | None,
        stages: Sequence[Stage],
        group: int,
    ) -> None:
        self._services = services
        self._state = state
        self._store = store
        self._stages = {stage.index: stage for stage in stages}  # by index
        self._group = group
        # All that were begun, to cancel them.
        self._jobs: list[Job] = []
        # Of the newest job of each task.
        self._progress: dict[TaskId, RestoreProgress] = {}
        # (task, label) of what can be opened; each job adds one at most.
        self._usable: set[tuple[TaskId, str]] = set()
        # Begins a task's job, also anew.
        self._starts: dict[TaskId, Callable[[], None]] = {}
        # Monotonic time at which that is due, of tasks whose store did not answer.
        self._retries: dict[TaskId, float] = {}
        # Of all tasks: one store does not answer.
        self._failures = 0
        # Tasks whose jobs are not done; at 0 the answer is given.
        self._waiting = 0
        # Monotonic time at which it began, and at which fetched bytes were counted last.
        self._started_s = 0.0
        self._counted_s = 0.0  # at least that
        self._pauses = Pauses(0.0)
        # As far as the metrics know; it never falls, though a job may begin anew.
        self._counted_bytes = 0
        self.damaged: dict[TaskId, set[str]] = {}

    @property
    def remaining_bytes(self) -> int:
        """Bytes that are still to be fetched; 0 when nothing is fetched."""
        return max(0, self.total_bytes - self.done_bytes) if self._waiting else 0

    def eta_s(self, now: float) -> float | None:
        """Seconds that the rest takes at the speed so far; None: nothing has come."""
        done = self.done_bytes
        return self.remaining_bytes * (now - self._started_s) / done if done else None

    @property
    def total_bytes(self) -> int:
        """Bytes that are to be fetched, as far as that is known."""
        return sum(progress.total_bytes for progress in self._progress.values())

    @property
    def done_bytes(self) -> int:
        """Bytes of them that were fetched."""
        return sum(progress.done_bytes for progress in self._progress.values())

    def begin(
        self,
        candidates: Mapping[TaskId, Sequence[Checkpoint]],
        on_done: Callable[[frozenset[tuple[TaskId, str]]], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Find a base for each task.

        Args:
            candidates: checkpoints by task, best first.
            on_done: gets (task, label) of what can be opened.
            on_error: gets what ends the recovery.
        """
        stages = self._stages
        self._started_s = self._counted_s = self._services.clock.monotonic()
        self._pauses = Pauses(self._started_s)

        def done(task: TaskId, result: Restored | None, error: Exception | None) -> None:
            if isinstance(error, CheckpointStoreError):
                self._try_later(task, error)
                return
            if error is not None or result is None:
                on_error(error or AssertionError("a restore without a result"))
                return
            self.damaged[task] = result.damaged
            if result.base is not None:
                self._usable.add((task, result.base.label))
            self._waiting -= 1
            if not self._waiting:
                self._finish()
                on_done(frozenset(self._usable))

        for task, found in candidates.items():
            if not stages[task.stage].stores:
                self._usable.update((task, checkpoint.label) for checkpoint in found)
            elif found:
                self._waiting += 1
                self._starts[task] = partial(self._start, stages[task.stage], task, found, done)
                self._starts[task]()
        if not self._waiting:
            on_done(frozenset(self._usable))

    def tick(self, now: float) -> None:
        """Report progress now and then; ask a store again that did not answer."""
        for task, due in list(self._retries.items()):
            if now >= due:
                del self._retries[task]
                self._starts[task]()
        if self._waiting and now >= self._counted_s + COUNT_S:
            self._counted_s = now
            self._report(now)

    def cancel(self) -> None:
        """Stop: no recovery waits for it any more."""
        for job in self._jobs:
            job.cancel()

    def _start(
        self,
        stage: Stage,
        task: TaskId,
        found: Sequence[Checkpoint],
        done: Callable[[TaskId, Restored | None, Exception | None], None],
    ) -> None:
        progress = self._progress[task] = RestoreProgress()
        folder = self._state.task(stage.name, task.partition)
        name = f"{stage.name}_{task.partition}"
        search = BaseSearch(self._store, folder, name, found, progress)
        background = self._services.background
        self._jobs.append(background.submit("restore", search.run, partial(done, task)))

    def _try_later(self, task: TaskId, error: CheckpointStoreError) -> None:
        pause_s = min(RESTORE_RETRY_S * 2 ** min(self._failures, 10), RESTORE_RETRY_MAX_S)
        self._failures += 1
        self._retries[task] = self._services.clock.monotonic() + pause_s
        log.warning(
            "the checkpoint store does not answer, trying again",
            task=str(task),
            pause_s=pause_s,
            reason=str(error),
        )

    def _report(self, now: float, *, is_over: bool = False) -> None:
        total, done = self.total_bytes, self.done_bytes
        self._services.metrics.count("restore_bytes", max(0, done - self._counted_bytes))
        self._counted_bytes = max(done, self._counted_bytes)
        if not total or is_over or not self._pauses.is_over(now):
            return
        eta_s = self.eta_s(now)
        log.info(
            "restoring from the checkpoint store",
            group=self._group,
            megabytes=round(done / 1e6, 3),
            of_megabytes=round(total / 1e6, 3),
            percent=100 * done // total,
            megabytes_per_s=round(done / max(now - self._started_s, 1e-9) / 1e6, 1),
            remaining_s=None if eta_s is None else round(eta_s),
        )

    def _finish(self) -> None:
        now = self._services.clock.monotonic()
        self._report(now, is_over=True)
        if self._counted_bytes:
            seconds = now - self._started_s
            self._services.metrics.observe("restore_seconds", seconds)
            log.info(
                "restored from the checkpoint store",
                group=self._group,
                megabytes=round(self._counted_bytes / 1e6, 3),
                seconds=round(seconds, 3),
            )


@dataclass(slots=True)
class BaseSearch:
    """Finds the best checkpoint of one task that this worker can open; runs in a background job.

    Attributes:
        store: of remote checkpoints, or None.
        folder: of the task on this disk.
        task: its name, for the log.
        candidates: best first.
        progress: counts what is fetched.
    """

    store: CheckpointStore | None
    folder: TaskFolder
    task: str
    candidates: Sequence[Checkpoint]
    progress: RestoreProgress

    def run(self, job: Job) -> Restored:
        """Find it, and fetch it if need be.

        Raises:
            CheckpointStoreError: the store does not answer; what was fetched is kept for the next
                try.
            StateError: the disk is full or fails.
            JobCancelledError: no recovery waits for it any more.
        """
        result = Restored()
        tried: set[str] = set()
        for checkpoint in self.candidates:
            if checkpoint.label in tried:
                continue  # the local record of one whose remote record came first
            tried.add(checkpoint.label)
            # Without files: the stage had no store yet.
            if not checkpoint.files or self.folder.verify(checkpoint.label, checkpoint.files):
                result.base = checkpoint
                return result
            where = {
                "task": self.task,
                "label": checkpoint.label,
                "position": checkpoint.position,
            }
            if not checkpoint.is_remote or self.store is None:
                log.warning(
                    "checkpoint is not whole on this disk and not in the checkpoint store, falling "
                    "back to an older one",
                    **where,
                )
                continue
            try:
                self._fetch(self.store, checkpoint, job, result)
            except CheckpointCorruptError as error:
                log.warning(
                    "remote checkpoint is damaged, falling back to an older one",
                    **where,
                    reason=str(error),
                )
                continue
            result.base = checkpoint
            return result
        return result

    def _fetch(
        self, store: CheckpointStore, checkpoint: Checkpoint, job: Job, result: Restored
    ) -> None:
        """Make a remote checkpoint a local one."""

        def blocks(entry: FileEntry) -> Iterator[bytes]:
            try:
                size = 0
                for block in store.get(entry.uri, entry.size):
                    if job.is_cancelled:
                        raise JobCancelledError
                    size += len(block)
                    if size > entry.size:
                        raise CheckpointCorruptError(
                            f"more than its {entry.size} bytes are stored", entry.uri
                        )
                    self.progress.done_bytes += len(block)
                    result.fetched_bytes += len(block)
                    yield block
            except CheckpointCorruptError:
                result.damaged.add(entry.uri)
                raise

        self.progress.total_bytes += sum(entry.size for entry in checkpoint.files)
        try:
            self.folder.adopt(checkpoint.label, checkpoint.files, blocks)
        except CheckpointCorruptError as error:
            if error.folder is not None:
                result.damaged.add(error.folder)
            raise
