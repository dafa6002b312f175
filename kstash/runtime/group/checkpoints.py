"""When the tasks of one group are checkpointed, and when a checkpoint is published."""

from __future__ import annotations

from collections import deque
from functools import partial
from math import inf

import structlog

from kstash.core.records import Checkpoint
from kstash.ports.state import StateBackend
from kstash.runtime.context import Services
from kstash.runtime.group.lineage_writer import LineageWriter
from kstash.runtime.group.uploads import Uploads
from kstash.runtime.recovery.attempt import RecoveryAttempt
from kstash.runtime.task.task import Task
from kstash.settings.config import Config

UPLOAD_SHARE = 0.75
"""Of `shutdown_timeout_ms`, for uploads; the rest is for the RELEASE."""

FREEZES_MAX = 1_000
"""Times of checkpoints that are remembered of a task, for their age: those of hours, should none of
them get into the store."""

log = structlog.get_logger("kstash.checkpoints")


class Checkpoints:
    """Freezes states when due, and publishes them in the lineage topic when they are covered.

    Args:
        config: how often, and how long an orderly stop may take.
        services: of the process.
        state: where the tasks' states live.
        uploads: takes those that are published.
        lineage: of the group: takes the records, and counts what each task wrote since its last.
        group: its number.

    Attributes:
        waits_for_rest: whether one is due, and waits until the event under way is over.
    """

    def __init__(
        self,
        config: Config,
        services: Services,
        *,
        state: StateBackend,
        uploads: Uploads,
        lineage: LineageWriter,
        group: int,
    ) -> None:
        self.waits_for_rest = False
        self._config = config
        self._services = services
        self._state = state
        self._uploads = uploads
        self._group = group
        # Stages whose checkpoint is due, and has little left to write.
        self._written: set[int] = set()
        self._lineage = lineage
        # All of the group, as they were added.
        self._tasks: list[Task] = []
        # By stage, as the next three: monotonic time of the next freeze.
        self._due: dict[int, float] = {}
        # The newest that is acknowledged, or what the task was restored from.
        self._published: dict[int, Checkpoint] = {}
        # Positions, rising, and until when the task had not gone beyond them; never empty.
        self._covered: dict[int, deque[tuple[int, float]]] = {}
        # Monotonic time until which an orderly stop waits for uploads; None: it has not begun.
        self._upload_end_s: float | None = None
        # Whether that time is over and something was not uploaded: it is reported once.
        self._is_upload_given_up = False

    def add(self, task: Task, base: Checkpoint | None, recovery: RecoveryAttempt | None) -> None:
        """Take care of a task that was restored from `base` by a recovery, if there was one."""
        stage = task.stage.index
        interval_s = self._config.checkpoint_interval_ms / 1000
        # Spread over the interval, so that tasks do not all checkpoint at once.
        share = (self._group * 7 + stage * 3) % 10 / 20
        self._tasks.append(task)
        now = self._services.clock.monotonic()
        self._due[stage] = now + interval_s * (0.5 + share)
        self._covered[stage] = deque([(task.core.position, now)], FREEZES_MAX)
        if base is not None:
            self._published[stage] = base
        if recovery is not None:
            damaged = recovery.damaged(task.core.task)
            self._uploads.add(task, base, recovery.remote[task.core.task], damaged)

    def tick(self, now: float, *, may_publish: bool) -> None:
        """Freeze what is due, publish what may be.

        Raises:
            StateError: a checkpoint could not be written; nothing is lost.
        """
        self.waits_for_rest = False
        for task in self._tasks:
            is_due = task.checkpoints.pending is None and self._is_due(task, now)
            is_ready = is_due and self._is_written(task, now)
            if is_ready and task.is_under_way:
                self.waits_for_rest = True
            elif is_ready:
                stage = task.stage.index
                self._due[stage] = now + self._config.checkpoint_interval_ms / 1000
                self._lineage.task_bytes[stage] = 0
                self._freeze(task)
            if may_publish:
                self._publish(task)
        self._uploads.tick(now, may_publish=may_publish)

    def next_s(self, now: float) -> float:
        """When `tick` is needed, if nothing comes before: now, while a checkpoint is under way."""
        due = inf
        if self._uploads.is_busy:
            return now
        for task in self._tasks:
            if task.checkpoints.is_busy:
                return now
            stage = task.stage.index
            if task.core.position > task.checkpoints.position or stage not in self._published:
                due = min(due, self._due[stage])
        return due

    def read_back(self, record: Checkpoint) -> None:
        """An own record was read back, with no higher CLAIM before it: it counts."""
        self._uploads.read_back(record)

    def close(self) -> None:
        """Stop what is under way; what was frozen and not published is nobody's."""
        self._uploads.close()

    # -- ages ------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Note which tasks have not gone on since their last checkpoint; once a second or so."""
        for task in self._tasks:
            covered = self._covered[task.stage.index]
            if covered[-1][0] == task.core.position:
                covered[-1] = task.core.position, now

    def age_s(self, task: Task, now: float) -> float:
        """Seconds of a task's work that are in no published checkpoint.

        Of a checkpoint that was there before the task came here, as much as is known of it.
        """
        return self._age_s(task, self._published.get(task.stage.index), now)

    def newest_remote(self, task: Task) -> Checkpoint | None:
        """The newest checkpoint of a task that outlives this machine."""
        published = self._published.get(task.stage.index)
        if published is not None and published.is_remote:
            return published  # without a store there is nothing to upload
        return self._uploads.newest(task)

    def remote_age_s(self, task: Task, now: float) -> float | None:
        """The same age for those; None: there is no store for them."""
        if task.stage.stores and not self._uploads.has_store:
            return None
        return self._age_s(task, self.newest_remote(task), now)

    def _age_s(self, task: Task, newest: Checkpoint | None, now: float) -> float:
        covered = self._covered[task.stage.index]
        position = covered[0][0] if newest is None else newest.position
        if task.core.position <= position:
            return 0.0
        known = [since for at, since in covered if at <= position]
        return now - (known[-1] if known else covered[0][1])

    # -- the end ---------------------------------------------------------------------------------

    def _begin_drain(self) -> float:
        """Freeze every task that is past its checkpoint or has none; until when uploads may go."""
        config = self._config
        now = self._services.clock.monotonic()
        for task in self._tasks:
            is_new = task.core.position > task.checkpoints.position
            if task.checkpoints.pending is None and (
                is_new or task.stage.index not in self._published
            ):
                self._freeze(task)
        return now + config.shutdown_timeout_ms / 1000 * UPLOAD_SHARE

    def drain(self, now: float, *, may_publish: bool) -> bool:
        """Freeze all where they are, once no event is under way; returns whether all is published.

        Each turn calls it once, with the monotonic time at which it began.

        Uploads get their share of the time: without them the next owner needs this disk.
        """
        if any(task.is_under_way for task in self._tasks):
            return False
        if self._upload_end_s is None:
            if not all(self._is_written(task, now) for task in self._tasks):
                return False
            self._upload_end_s = self._begin_drain()
        for task in self._tasks:
            if task.checkpoints.pending is None and task.core.position > task.checkpoints.position:
                self._freeze(task)  # one frozen before the drain began was of an older position
            if may_publish:
                self._publish(task)
        now = self._services.clock.monotonic()
        self._uploads.tick(now, may_publish=may_publish)
        if any(task.checkpoints.is_busy for task in self._tasks):
            return False
        if not self._uploads.is_busy:
            return True
        if now < self._upload_end_s and not self._uploads.is_failing:
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
        config = self._config
        events = task.core.position - task.checkpoints.position
        stage = task.stage.index
        # One without any events is checkpointed once: without a checkpoint it would pin the purge.
        if not events and (stage in self._published or task.checkpoints.publishing is not None):
            return False
        return (
            now >= self._due[stage]
            or events >= config.checkpoint_events_max
            or self._lineage.task_bytes.get(stage, 0) >= config.checkpoint_lineage_bytes_max
        )

    def _is_written(self, task: Task, now: float) -> bool:
        """Write ahead for as long as this turn has time; whether a checkpoint finds little then.

        Once it does, it waits for nothing but the end of an event.
        """
        stage, interval_s = task.stage.index, self._config.checkpoint_interval_ms / 1000
        # Others may have all the time that there is: one that is very late writes beside them.
        has_time = now > self._due[stage] + interval_s
        while has_time or self._services.write_time.is_left(now, self._services.clock):
            has_time = False
            if not task.state.write_ahead():
                self._written.add(stage)
                break
        return stage in self._written

    def _freeze(self, task: Task) -> None:
        self._written.discard(task.stage.index)
        clock = self._services.clock
        started = clock.monotonic()
        task.freeze()
        self._covered[task.stage.index].append((task.core.position, started))
        self._services.metrics.observe("checkpoint_seconds", clock.monotonic() - started)

    def _publish(self, task: Task) -> None:
        # One at a time: when one is acknowledged, others are deleted from the disk, and one that is
        # still on its way to the lineage topic must not be among them.
        record = task.checkpoints.publishable() if task.checkpoints.publishing is None else None
        if record is not None:
            task.checkpoints.pending = None
            task.checkpoints.publishing = record
            self._lineage.append(record, partial(self._on_published, task, record))

    def _on_published(self, task: Task, record: Checkpoint) -> None:
        stage = task.stage
        previous = self._published.get(stage.index)
        self._published[stage.index] = record
        task.checkpoints.publishing = None
        # The one before stays: the newest may turn out damaged.
        labels = {record.label}
        if previous is not None:
            labels.add(previous.label)
        if task.checkpoints.pending is not None:
            labels.add(task.checkpoints.pending.label)
        if not record.is_remote:
            self._uploads.offer(task, record)
        labels |= self._uploads.labels(task)
        self._state.task(stage.name, self._group).retain(labels)
        self._forget_freezes(task)
        self._services.metrics.count("checkpoints")
        self._services.metrics.count("checkpoint_bytes", sum(file.size for file in record.files))

    def _forget_freezes(self, task: Task) -> None:
        """Forget the times of checkpoints that are older than the newest remote one."""
        remote, covered = self.newest_remote(task), self._covered[task.stage.index]
        oldest = self._published[task.stage.index].position
        if task.stage.stores and self._uploads.has_store:
            oldest = min(oldest, remote.position if remote is not None else 0)
        while len(covered) > 1 and covered[1][0] <= oldest:
            covered.popleft()
