"""What a worker takes in: paused while too much waits, and committed for lag tools."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from kstash.ports.kafka import Partition
from kstash.ports.process import Metrics
from kstash.runtime.context import Clients
from kstash.runtime.gate import Gate
from kstash.runtime.group.group import TaskGroup
from kstash.runtime.group.phase import Phase
from kstash.settings.config import Config

BACKLOG_RECORDS_MAX = 200_000
"""Unacknowledged or queued records at which the inputs are paused; resumed at half of it."""

COMMIT_INTERVAL_S = 1.0

log = structlog.get_logger("kstash.worker")


class Intake:
    """Backpressure, and input offsets for lag tools.

    Args:
        config: settings: how much may wait.
        clients: of the worker.
        gate: pauses inputs.
        metrics: what is counted.
    """

    def __init__(self, config: Config, *, clients: Clients, gate: Gate, metrics: Metrics) -> None:
        self._config = config
        self._clients = clients
        self._gate = gate
        self._metrics = metrics
        self._is_paused = False
        self._commit_due = 0.0

    def tick(self, now: float, groups: Mapping[int, TaskGroup]) -> None:
        """Do what is due."""
        self._balance(now, groups)
        if now >= self._commit_due:
            self._commit_due = now + COMMIT_INTERVAL_S
            self._commit(groups)

    def look_anew(self, groups: Mapping[int, TaskGroup]) -> None:
        """Let all inputs flow until the next check, which counts a new group's inputs too."""
        if self._is_paused:
            self._is_paused = False
            self._gate.resume(_consumed(groups), "backlog")

    def _balance(self, now: float, groups: Mapping[int, TaskGroup]) -> None:
        """Pause all inputs while too much is unacknowledged; resume when it has drained."""
        config = self._config
        backlog = len(self._clients.producers.data)
        awake = [group for group in groups.values() if group.wakes_at <= now]
        backlog += sum(group.sink_backlog for group in awake)
        lineage = max((group.lineage.unacked_bytes for group in awake), default=0)
        age = max((group.lineage.oldest_age_s(now) for group in awake), default=0.0)
        share = max(
            backlog / BACKLOG_RECORDS_MAX,
            lineage / config.stash_bytes_max,
            age * 1000 / config.lineage_ack_timeout_ms,
        )
        if not self._is_paused and share >= 1:
            self._is_paused = True
            self._metrics.count("stalls")
            log.warning(
                "inputs paused until outputs and lineage are acknowledged",
                unacked_records=backlog,
                lineage_bytes=lineage,
                lineage_age_s=round(age, 1),
            )
            self._gate.pause(_consumed(groups), "backlog")
        elif self._is_paused and share < 0.5:
            self._is_paused = False
            log.info("inputs resumed")
            self._gate.resume(_consumed(groups), "backlog")

    def finish(self, groups: Mapping[int, TaskGroup]) -> None:
        """Commit the last positions of a worker that stops: nothing moves any more."""
        self._commit(groups)

    def _commit(self, groups: Mapping[int, TaskGroup]) -> None:
        for group in groups.values():
            group.note_positions()
        offsets = {
            source.partition: source.next_offset
            for group in groups.values()
            if group.phase is not Phase.RECOVERING
            for task in group.tasks.values()
            if not task.is_replaying  # of a replay that was broken off
            for source in task.inputs.values()
            if not source.kind.is_uncommitted
        }
        if offsets:
            self._clients.membership.commit(offsets)


def _consumed(groups: Mapping[int, TaskGroup]) -> list[Partition]:
    return [partition for group in groups.values() for partition in group.inputs.partitions]
