"""Deletes from internal topics what no recovery needs any more (protocol, section 5, H14).

The worker with task group 0 does it for the whole application: it reads the checkpoints in all
partitions of the lineage topic, each round what is new there. Who else still believes to own group
0 does no harm: a limit holds whoever computes it, and whenever, as long as the topics are the same
ones. So the CONFIG is read again before anything is deleted (as in H63): after a reset a limit
of before would delete what no task has read.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import structlog

from kstash.core.lineage import LineageView
from kstash.core.record_keys import CHECKPOINT, CLAIM, CONFIG, START, key_incarnation
from kstash.core.trim import purge_limit, retained_remote
from kstash.failpoints import around
from kstash.ports.kafka import Headers, Message, OffsetsAnswer, Partition
from kstash.runtime.context import Clients, Services
from kstash.runtime.group.group import TaskGroup
from kstash.runtime.group.phase import Phase
from kstash.runtime.group.trim import slim
from kstash.runtime.layout import Layout
from kstash.runtime.lineage_reader import LineageReader, lineage_record
from kstash.runtime.scan import ScanJob
from kstash.settings import derived
from kstash.settings.config import Config

CHECKPOINTS_PER_ROUND = 3
"""Checkpoint intervals between two rounds: a purge frees whole segments, so there is no hurry."""

ROUND_S_MIN = 1.0
"""However short the checkpoint interval is, in seconds."""

BACKOFF_MAX = 32
"""Rounds are this many times as rare, at most, while deletions are refused."""

log = structlog.get_logger("kstash.purge")


class Purger:
    """Purges the internal topics of the application, a round at a time, without waiting.

    Args:
        config: settings.
        layout: where tasks are.
        clients: of the worker.
        services: of the process.
    """

    def __init__(
        self, config: Config, layout: Layout, *, clients: Clients, services: Services
    ) -> None:
        self._config = config
        self._layout = layout
        self._clients = clients
        self._services = services
        self._guarantee = derived.guarantee(config)
        topology = self._layout.topology
        interval_s = config.checkpoint_interval_ms / 1000 * CHECKPOINTS_PER_ROUND
        self._interval_s = max(interval_s, ROUND_S_MIN)
        self._has_work = self._guarantee.recovers and bool(topology.internal_topics)
        self._due = self._services.clock.monotonic() + self._interval_s
        self._views: dict[int, LineageView] = {}
        self._next: dict[int, int] = {}
        self._job: ScanJob | None = None
        self._ends: OffsetsAnswer | None = None
        self._deletion: OffsetsAnswer | None = None
        self._starts: dict[Partition, int] = {}
        self._asked = 0
        self._backoff = 1

    def tick(self, now: float, groups: Mapping[int, TaskGroup]) -> None:
        """Go on with a round, or begin one when due.

        Raises:
            WireCorruptError: a record of the lineage topic, with its place.
        """
        first = groups.get(0)
        if not self._has_work or first is None or first.phase is not Phase.LIVE:
            self._forget()
            return
        if self._ends is not None:
            ends = self._ends()
            if ends is not None:
                self._ends = None
                self._read(ends)
        elif self._deletion is not None:
            starts = self._deletion()
            if starts is not None:
                self._deletion = None
                is_refused = len(starts) < self._asked
                self._backoff = min(2 * self._backoff, BACKOFF_MAX) if is_refused else 1
                if is_refused:
                    self._due = now + self._interval_s * self._backoff
                self._note(starts)
        elif self._job is None and now >= self._due:
            self._due = now + self._interval_s * self._backoff
            topic = self._layout.lineage_topic
            partitions = [(topic, group) for group in range(self._layout.group_count)]
            self._ends = self._clients.admin.ask_end_offsets(partitions)

    def _forget(self) -> None:
        """Group 0 is not here: whoever has it begins with the whole lineage topic."""
        if self._job is not None:
            self._job.is_cancelled = True
        self._job = self._ends = self._deletion = None
        self._views.clear()
        self._next.clear()
        self._starts.clear()

    def _read(self, ends: Mapping[Partition, int]) -> None:
        if len(ends) < self._layout.group_count:
            return  # not all of them are known now: the next round asks again
        if any(end < self._next.get(group, 0) for (_, group), end in ends.items()):
            self._forget()  # the topic was made anew
            return
        ranges = {}
        retained = self._config.checkpoints_retained
        for (topic, group), end in ends.items():
            self._views.setdefault(group, LineageView(retained=retained))
            ranges[topic, group] = self._next.get(group, 0), end
            self._next[group] = end
        self._job = ScanJob(ranges, self._take, self._purge)
        self._clients.scans.submit(self._job)

    def _take(self, message: Message, _: Headers) -> None:
        key = message.key()
        if key is None or key_incarnation(key)[1] not in (CONFIG, CLAIM, START, CHECKPOINT):
            return  # most of the topic is segments
        record = lineage_record(message)
        if record is not None:
            self._views[message.partition()].fold(message.offset(), slim(record))

    def _purge(self) -> None:
        self._job = None
        layout = self._layout
        limits: dict[Partition, int] = {}
        for topic in layout.topology.internal_topics:
            for number in range(layout.partition_counts[topic]):
                partition = topic, number
                # Where nothing is fenced or scanned, only the readers count.
                writers = layout.outputs_to(partition) if self._guarantee.logs_lineage else []
                limit = purge_limit(self._views, layout.readers_of(partition), writers)
                if limit > self._starts.get(partition, 0):
                    limits[partition] = limit
        self._drop_old()
        config = self._views[0].generation_record
        if limits and config is not None:
            offset, _ = config
            ranges = {(self._layout.lineage_topic, 0): (offset, offset + 1)}
            reader = LineageReader()
            self._job = ScanJob(ranges, reader.take, partial(self._delete, reader, limits))
            self._clients.scans.submit(self._job)

    def _delete(self, reader: LineageReader, limits: Mapping[Partition, int]) -> None:
        self._job = None
        if self._views[0].is_another(reader.read()):
            self._forget()  # a reset; the worker finds out for itself
            return
        with around("internal.purge"):
            self._deletion = self._clients.admin.delete_records(limits)
        self._asked = len(limits)

    def _drop_old(self) -> None:
        """Keep of each task's checkpoints only those that still count."""
        for view in self._views.values():
            for task, found in view.checkpoints.items():
                base = retained_remote(view, task)
                newest = {c.position: offset for offset, c in found if c.is_remote}
                found[:] = [
                    (offset, c)
                    for offset, c in found
                    if newest.get(c.position) == offset
                    and (base is None or c.position >= base.position)
                ]

    def _note(self, starts: Mapping[Partition, int]) -> None:
        for partition, start in starts.items():
            # The first answer says nothing of how much that was.
            purged = start - self._starts.get(partition, start)
            self._starts[partition] = start
            if purged > 0:
                self._services.metrics.count("purged_offsets", purged)
        log.debug("internal topics purged", partitions=len(starts))
