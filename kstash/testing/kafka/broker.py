"""`MemoryKafka`: an Apache Kafka in memory, good enough to run a kstash worker on.

It does what kstash relies on, exactly, and nothing by itself: no thread, no wait, no chance. A
worker's clients come from `MemoryCluster`; tests and the `TestDriver` append, read, compact
and delete directly, hold requests or acknowledgements back (`MemoryCluster.links`), kill workers
and let their sessions expire. The same calls always give the same logs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from kstash.core import names
from kstash.errors import TopicMissingError
from kstash.ports.kafka import Headers, Partition, TopicInfo
from kstash.testing.clock import ManualClock
from kstash.testing.kafka.group import ConsumerGroup
from kstash.testing.kafka.log import MemoryRecord, PartitionLog
from kstash.testing.kafka.transactions import TransactionCoordinator

TOPIC_MESSAGE_BYTES_MAX = 1_048_588
"""Kafka's default of `max.message.bytes`."""


class MemoryKafka:
    """Topics, consumer groups and transactions of one cluster.

    Attributes:
        clock: the time, for record timestamps and delays of links.
        fetch_max: records that a consumer takes of one partition before it goes on to the next.
        poll_max: records that one poll of a consumer returns at most.
        is_away: while set, nothing is carried out or read, and admin calls fail.
        poll_interval_s: a member that does not poll for longer is put out of its group; by default
            none ever is.
        activity: a count that rises with everything that happens; standing still is idleness.
    """

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        self.coordinator = TransactionCoordinator(self.clock)
        self.poll_interval_s = math.inf
        self.fetch_max = 500
        self.poll_max = 500
        self.is_away = False
        self.activity = 0
        self._topics: dict[str, tuple[list[PartitionLog], dict[str, str]]] = {}
        self._topic_ids: dict[str, str] = {}
        self._made_count = 0
        self._groups: dict[str, ConsumerGroup] = {}

    def create_topic(
        self, topic: str, partition_count: int, config: Mapping[str, str] | None = None
    ) -> None:
        """Create a topic; one that exists is left as it is."""
        if topic not in self._topics:
            self._made_count += 1
            self._topic_ids[topic] = f"id-{self._made_count}"
        settings = dict(config or {})
        logs = [
            PartitionLog(topic, number, config=settings, clock=self.clock)
            for number in range(partition_count)
        ]
        self._topics.setdefault(topic, (logs, settings))

    def delete_topic(self, topic: str) -> None:
        """Delete a topic with its records."""
        del self._topics[topic]

    def topics(self) -> dict[str, TopicInfo]:
        """All topics by name."""
        return {
            name: TopicInfo(
                name,
                len(logs),
                1,
                {"max.message.bytes": str(TOPIC_MESSAGE_BYTES_MAX)} | config,
                self._topic_ids[name],
            )
            for name, (logs, config) in self._topics.items()
        }

    def log(self, partition: Partition) -> PartitionLog:
        """The log of a partition.

        Raises:
            TopicMissingError: no such topic, or not that many partitions.
        """
        logs, _ = self._topics.get(partition[0], ([], {}))
        if not 0 <= partition[1] < len(logs):
            raise TopicMissingError([f"{partition[0]}-{partition[1]}"])
        return logs[partition[1]]

    def message_bytes_max(self, topic: str) -> int:
        """The topic's `max.message.bytes`."""
        _, config = self._topics.get(topic, ([], {}))
        return int(config.get("max.message.bytes", TOPIC_MESSAGE_BYTES_MAX))

    def append(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int = 0,
        timestamp_ms: int | None = None,
        headers: Headers | None = None,
    ) -> MemoryRecord:
        """Append one record, as some other program would."""
        self.activity += 1
        timestamp_ms = self.clock.time_ms() if timestamp_ms is None else timestamp_ms
        return self.log((topic, partition)).append(key, value, headers, timestamp_ms)

    def read(
        self, topic: str, partition: int | None = None, *, is_committed: bool = True
    ) -> list[MemoryRecord]:
        """All records of a topic, partition by partition, as a plain reader finds them now."""
        logs, _ = self._topics.get(topic, ([], {}))
        chosen = logs if partition is None else [self.log((topic, partition))]
        return [
            record
            for log in chosen
            for record in log.read(log.start_offset, log.end_offset, is_committed=is_committed)[0]
        ]

    def group(self, application_id: str) -> ConsumerGroup:
        """The consumer group of an application."""
        lineage_topic = names.lineage_topic(application_id)

        def partition_count() -> int:
            logs, _ = self._topics.get(lineage_topic, ([], {}))
            return len(logs)

        return self._groups.setdefault(application_id, ConsumerGroup(partition_count))
