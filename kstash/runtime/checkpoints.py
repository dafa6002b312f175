"""When the tasks of one group are checkpointed, and when a checkpoint is published."""

from __future__ import annotations

from functools import partial
from math import inf

import structlog

from kstash.core.records import Checkpoint
from kstash.runtime.context import Context
from kstash.runtime.lineage import LineageWriter
from kstash.runtime.recovery import Recovery
from kstash.runtime.task import Task
from kstash.runtime.uploads import Uploads

UPLOAD_SHARE = 0.75
"""Of `shutdown_timeout_ms`, for uploads; the rest is for the RELEASE."""

log = structlog.get_logger("kstash.checkpoints")


class Checkpoints:
    """Freezes states when due, and publishes them in the lineage topic when they are covered."""

    def __init__(self, context: Context, group: int, lineage: LineageWriter) -> None:
        self.uploads = Uploads(context, group, lineage)
        self._context = context
        self._group = group
        self._lineage = lineage
        self._tasks: list[Task] = []
        self._due: dict[int, float] = {}
        self._published: dict[int, Checkpoint] = {}
        self._upload_end_s = 0.0
        self._is_upload_given_up = False

    def add(self, task: Task, base: Checkpoint | None, recovery: Recovery | None) -> None:
        """Take care of a task that was restored from `base` by a recovery, if there was one."""
        stage = task.stage.index
        interval_s = self._context.config.checkpoint_interval_ms / 1000
        # Spread over the interval, so that tasks do not all checkpoint at once.
        share = (self._group * 7 + stage * 3) % 10 / 20
        self._tasks.append(task)
        self._due[stage] = self._context.clock.monotonic() + interval_s * (0.5 + share)
        if base is not None:
            self._published[stage] = base
        if recovery is not None:
            damaged = recovery.restores.damaged.get(task.core.task, ())
            self.uploads.add(task, base, recovery.remote[task.core.task], damaged)

    def tick(self, now: float, *, may_publish: bool) -> None:
        """Freeze what is due, publish what may be.

        Raises:
            StateError: a checkpoint could not be written; nothing is lost.
        """
        for task in self._tasks:
            if task.pending is None and self._is_due(task, now):
                stage = task.stage.index
                self._due[stage] = now + self._context.config.checkpoint_interval_ms / 1000
                self._lineage.task_bytes[stage] = 0
                self._freeze(task)
            if may_publish:
                self._publish(task)
        self.uploads.tick(now, may_publish=may_publish)

    def next_s(self, now: float) -> float:
        """When `tick` is needed, if nothing comes before: now, while a checkpoint is under way."""
        due = inf
        if self.uploads.is_busy:
            return now
        for task in self._tasks:
            if task.pending is not None or task.publishing is not None:
                return now
            stage = task.stage.index
            if task.core.position > task.checkpointed_position or stage not in self._published:
                due = min(due, self._due[stage])
        return due

    def begin_drain(self) -> None:
        """Freeze every task that is past its checkpoint or has none."""
        config = self._context.config
        self._upload_end_s = (
            self._context.clock.monotonic() + config.shutdown_timeout_ms / 1000 * UPLOAD_SHARE
        )
        for task in self._tasks:
            is_new = task.core.position > task.checkpointed_position
            if task.pending is None and (is_new or task.stage.index not in self._published):
                self._freeze(task)

    def drain(self, *, may_publish: bool) -> bool:
        """Publish what `begin_drain` froze; returns whether all of it is acknowledged.

        Uploads get their share of the time: without them the next owner needs this disk.
        """
        for task in self._tasks:
            if task.pending is None and task.core.position > task.checkpointed_position:
                self._freeze(task)  # one frozen before the drain began was of an older position
            if may_publish:
                self._publish(task)
        now = self._context.clock.monotonic()
        self.uploads.tick(now, may_publish=may_publish)
        if any(task.pending is not None or task.publishing is not None for task in self._tasks):
            return False
        if not self.uploads.is_busy:
            return True
        if now < self._upload_end_s and not self.uploads.is_failing:
            return False
        if not self._is_upload_given_up:
            self._is_upload_given_up = True
            log.warning(
                "the last checkpoint is not in the checkpoint store: the next start needs this "
                "disk, or replays from the remote checkpoint before",
                group=self._group,
            )
        return True

    def _is_due(self, task: Task, now: float) -> bool:
        config = self._context.config
        events = task.core.position - task.checkpointed_position
        stage = task.stage.index
        # One without any events is checkpointed once: without a checkpoint it would pin the purge.
        if not events and (stage in self._published or task.publishing is not None):
            return False
        return (
            now >= self._due[stage]
            or events >= config.checkpoint_events_max
            or self._lineage.task_bytes.get(stage, 0) >= config.checkpoint_lineage_bytes_max
        )

    def _freeze(self, task: Task) -> None:
        clock = self._context.clock
        started = clock.monotonic()
        task.freeze()
        self._context.metrics.observe("checkpoint_seconds", clock.monotonic() - started)

    def _publish(self, task: Task) -> None:
        # One at a time: when one is acknowledged, others are deleted from the disk, and one that is
        # still on its way to the lineage topic must not be among them.
        record = task.publishable() if task.publishing is None else None
        if record is not None:
            task.pending = None
            task.publishing = record
            self._lineage.append(record, partial(self._on_published, task, record))

    def _on_published(self, task: Task, record: Checkpoint) -> None:
        stage = task.stage
        previous = self._published.get(stage.index)
        self._published[stage.index] = record
        task.publishing = None
        # The one before stays: the newest may turn out damaged.
        labels = {record.label}
        if previous is not None:
            labels.add(previous.label)
        if task.pending is not None:
            labels.add(task.pending.label)
        if not record.is_remote:
            self.uploads.offer(task, record)
        labels |= self.uploads.labels(task)
        self._context.state.retain(stage.name, self._group, labels)
        self._context.metrics.count("checkpoints")
        self._context.metrics.count("checkpoint_bytes", sum(file.size for file in record.files))
