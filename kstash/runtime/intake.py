"""What a worker takes in: paused while too much waits for acknowledgements, told to lag tools."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from kstash.ports import Job, Partition
from kstash.runtime.context import Context
from kstash.runtime.group import Phase, TaskGroup

BACKLOG_RECORDS_MAX = 200_000
"""Unacknowledged or queued records at which the inputs are paused; resumed at half of it."""

COMMIT_INTERVAL_S = 1.0

LOOK_INTERVAL_S = 60.0
"""How often it is looked whether inputs have grown: nobody adds partitions often."""

log = structlog.get_logger("kstash.worker")


class Intake:
    """Backpressure, input offsets for lag tools, and a look at whether inputs have grown."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._is_paused = False
        self._commit_due = 0.0
        self._look_due = context.clock.monotonic() + LOOK_INTERVAL_S
        self._grown: dict[str, int] = {}

    def tick(self, now: float, groups: Mapping[int, TaskGroup]) -> None:
        """Do what is due."""
        self._balance(now, groups)
        if now >= self._commit_due:
            self._commit_due = now + COMMIT_INTERVAL_S
            self._commit(groups)
        if now >= self._look_due:
            self._look_due = now + LOOK_INTERVAL_S
            self._context.background.submit("look", self._count_partitions, self._counted)

    def look_anew(self, groups: Mapping[int, TaskGroup]) -> None:
        """Let all inputs flow until the next look, which counts a new group's inputs too."""
        if self._is_paused:
            self._is_paused = False
            self._context.member.resume(_consumed(groups))

    def _balance(self, now: float, groups: Mapping[int, TaskGroup]) -> None:
        """Pause all inputs while too much is unacknowledged; resume when it has drained."""
        context = self._context
        config = context.config
        backlog = len(context.producers.data)
        backlog += sum(group.sink_backlog for group in groups.values())
        lineage = max((g.lineage.unacked_bytes for g in groups.values()), default=0)
        age = max((g.lineage.oldest_age_s(now) for g in groups.values()), default=0.0)
        share = max(
            backlog / BACKLOG_RECORDS_MAX,
            lineage / config.stash_bytes_max,
            age * 1000 / config.lineage_ack_timeout_ms,
        )
        if not self._is_paused and share >= 1:
            self._is_paused = True
            context.metrics.count("stalls")
            log.warning(
                "inputs paused until outputs and lineage are acknowledged",
                unacked_records=backlog,
                lineage_bytes=lineage,
                lineage_age_s=round(age, 1),
            )
            context.member.pause(_consumed(groups))
        elif self._is_paused and share < 0.5:
            self._is_paused = False
            log.info("inputs resumed")
            context.member.resume(_consumed(groups))

    def _commit(self, groups: Mapping[int, TaskGroup]) -> None:
        offsets = {
            source.partition: source.next_offset
            for group in groups.values()
            if group.phase is Phase.LIVE
            for task in group.tasks.values()
            for index, source in task.inputs.items()
            if task.stage.inputs[index].immediate_of is None
        }
        if offsets:
            self._context.member.commit(offsets)

    def _count_partitions(self, _: Job) -> dict[str, int]:
        admin = self._context.cluster.admin()
        try:
            found = admin.describe(self._context.layout.topology.input_topics)
        finally:
            admin.close()
        return {topic: info.partition_count for topic, info in found.items()}

    def _counted(self, found: dict[str, int] | None, error: Exception | None) -> None:
        """Say once that records are not read: the number of partitions is pinned (H16)."""
        if error is not None:
            log.debug("partitions not counted, looking again", reason=str(error))
        pinned = self._context.layout.partition_counts
        for topic, count in (found or {}).items():
            if count > pinned[topic] and self._grown.get(topic) != count:
                self._grown[topic] = count
                log.error(
                    "partitions were added to an input, their records are not read",
                    topic=topic,
                    partitions=count,
                    read=pinned[topic],
                )


def _consumed(groups: Mapping[int, TaskGroup]) -> list[Partition]:
    return [
        source.partition
        for group in groups.values()
        for task in group.tasks.values()
        for index, source in task.inputs.items()
        if task.stage.inputs[index].immediate_of is None
    ]
