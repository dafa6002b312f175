"""Watches the topics under a running worker: that they are the same ones, and have not grown."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from kstash.errors import TopicMadeAnewError
from kstash.ports.kafka import Cluster, TopicInfo
from kstash.ports.process import Job
from kstash.runtime.context import Services
from kstash.runtime.layout import Layout

LOOK_INTERVAL_S = 10.0
"""Pause between two checks: a request of metadata, of which a topic made anew takes no less."""

log = structlog.get_logger("kstash.worker")


class TopicWatch:
    """Checks now and then whether topics were made anew, and whether inputs have grown.

    Args:
        cluster: makes a client for each check.
        layout: where tasks are.
        services: of the process.
        topics: as they were before the worker had joined its group.
    """

    def __init__(
        self,
        cluster: Cluster,
        layout: Layout,
        *,
        services: Services,
        topics: Mapping[str, TopicInfo],
    ) -> None:
        self._cluster = cluster
        self._layout = layout
        self._services = services
        # None while a check is out: with the cluster away each takes long, and others wait for it.
        self._look_due: float | None = self._services.clock.monotonic() + LOOK_INTERVAL_S
        self._grown: dict[str, int] = {}
        topology = layout.topology
        unread = {
            output.topic
            for stage in topology.stages
            for output in stage.outputs
            if not output.kind.carries_lineage  # no recovery needs what it held
        } - set(topology.input_topics)
        self._ids = {
            name: info.topic_id
            for name, info in topics.items()
            if info.topic_id and name not in unread
        }

    def tick(self, now: float) -> None:
        """Check when due."""
        if self._look_due is not None and now >= self._look_due:
            self._look_due = None
            self._services.background.submit("ask", self._describe, self._described)

    def _describe(self, _: Job) -> dict[str, TopicInfo]:
        admin = self._cluster.admin()
        try:
            return admin.describe(sorted({*self._ids, *self._layout.partition_counts}))
        finally:
            admin.close()

    def _described(self, found: dict[str, TopicInfo] | None, error: Exception | None) -> None:
        self._look_due = self._services.clock.monotonic() + LOOK_INTERVAL_S
        if error is not None or found is None:
            log.debug("topics not looked at, looking again", reason=str(error))
            return
        self._compare(found)
        self._count(found)

    def _compare(self, found: Mapping[str, TopicInfo]) -> None:
        """Stop at topics that are others than those that the offsets are of (H53)."""
        anew = sorted(
            name
            for name, info in found.items()
            if info.topic_id and self._ids.get(name, info.topic_id) != info.topic_id
        )
        if not anew:
            return
        topology = self._layout.topology
        written = {o.topic for s in topology.stages for o in s.outputs if not o.internal}
        only_written = written - set(topology.input_topics)
        # Where something that is read is among them, that is what must be reported.
        raise TopicMadeAnewError(
            [name for name in anew if name not in only_written] or anew,
            is_written=all(name in only_written for name in anew),
        )

    def _count(self, found: Mapping[str, TopicInfo]) -> None:
        """Say once that records are not read: the number of partitions is pinned (H16)."""
        pinned = self._layout.partition_counts
        for topic in self._layout.topology.input_topics:
            info = found.get(topic)
            count = info.partition_count if info is not None else 0
            if count > pinned[topic] and self._grown.get(topic) != count:
                self._grown[topic] = count
                log.error(
                    "partitions were added to an input, their records are not read",
                    topic=topic,
                    partitions=count,
                    read=pinned[topic],
                )
