"""`MemoryKafka`: an Apache Kafka in memory, good enough to run a kstash worker on.

It does what kstash relies on, exactly, and nothing by itself: no thread, no wait, no chance. A
worker's clients come from `MemoryKafka.cluster`; tests and the `TestDriver` append, read, compact
and delete directly, hold requests or acknowledgements back (`MemoryCluster.links`), kill workers
and let their sessions expire. The same calls always give the same logs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from kstash.core import names
from kstash.errors import KafkaUnavailableError, TopicMissingError
from kstash.ports import BrokerStatus, Headers, NewTopic, Partition, TopicInfo
from kstash.testing.clock import ManualClock
from kstash.testing.consumers import MemoryMember, MemoryScanner
from kstash.testing.group import ConsumerGroup
from kstash.testing.log import MemoryRecord, PartitionLog
from kstash.testing.producers import Link, MemoryProducer, MemorySinkProducer
from kstash.testing.transactions import TransactionCoordinator

MESSAGE_BYTES_MAX = 1_048_588
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
            PartitionLog(topic, number, settings, self.clock) for number in range(partition_count)
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
                {"max.message.bytes": str(MESSAGE_BYTES_MAX)} | config,
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
        return int(config.get("max.message.bytes", MESSAGE_BYTES_MAX))

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

    def cluster(
        self, application_id: str, *, member_id: str = "worker-0", is_static: bool = True
    ) -> MemoryCluster:
        """The clients of one worker.

        Args:
            application_id: names the group, the lineage topic and the transactional ids.
            member_id: the worker's name in the group.
            is_static: whether a new worker with the same id takes the place over at once.
        """
        return MemoryCluster(self, application_id, member_id=member_id, is_static=is_static)

    def group(self, application_id: str) -> ConsumerGroup:
        """The consumer group of an application."""
        lineage_topic = names.lineage_topic(application_id)

        def partition_count() -> int:
            logs, _ = self._topics.get(lineage_topic, ([], {}))
            return len(logs)

        return self._groups.setdefault(application_id, ConsumerGroup(partition_count))


class MemoryCluster:
    """`kstash.ports.Cluster`: makes the clients of one worker and remembers them.

    Attributes:
        links: the way to the cluster for each kind of producer: `data`, `lineage`, `marker`,
            `claim` and `sink`.
        producers: every producer made, for `kill`.
    """

    def __init__(
        self, kafka: MemoryKafka, application_id: str, *, member_id: str, is_static: bool
    ) -> None:
        self.kafka = kafka
        self.application_id = application_id
        self.member_id = member_id
        self.links = {kind: Link() for kind in ("data", "lineage", "marker", "claim", "sink")}
        self.producers: list[MemoryProducer] = []
        self._is_static = is_static

    def admin(self) -> MemoryAdmin:
        """Topic administration."""
        return MemoryAdmin(self.kafka)

    def member(self) -> MemoryMember:
        """The worker's consumer in the application's group."""
        return MemoryMember(
            self.kafka,
            self.kafka.group(self.application_id),
            names.lineage_topic(self.application_id),
            member_id=self.member_id,
            is_static=self._is_static,
        )

    def uncommitted_member(self) -> MemoryScanner:
        """The consumer for inputs that are another application's immediate sinks."""
        return MemoryScanner(self.kafka)

    def scanner(self, *, is_committed: bool = False) -> MemoryScanner:
        """A consumer for recovery."""
        return MemoryScanner(self.kafka, is_committed=is_committed)

    def data_producer(self) -> MemoryProducer:
        """For frames and END markers."""
        return self._keep(MemoryProducer(self.kafka, self.links["data"], is_gapless=True))

    def lineage_producer(self) -> MemoryProducer:
        """For segments, hints and checkpoint records."""
        return self._keep(MemoryProducer(self.kafka, self.links["lineage"], is_gapless=True))

    def marker_producer(self) -> MemoryProducer:
        """For FENCE, SEAL and START."""
        return self._keep(MemoryProducer(self.kafka, self.links["marker"], is_gapless=False))

    def claim_producer(self) -> MemoryProducer:
        """For CONFIG and CLAIM."""
        return self._keep(MemoryProducer(self.kafka, self.links["claim"], is_gapless=False))

    def sink_producer(self, group: int, slot: int = 0) -> MemorySinkProducer:
        """A transactional producer of one task group, which has two."""
        producer = MemorySinkProducer(
            self.kafka,
            self.links["sink"],
            transactional_id=names.transactional_id(self.application_id, group, slot),
            position=(
                names.positions_group(self.application_id),
                (names.lineage_topic(self.application_id), group),
            ),
        )
        self.producers.append(producer)
        return producer

    def brokers(self) -> Sequence[BrokerStatus]:
        """There is none."""
        return ()

    def kill(self, *, arrive_late: bool = False) -> list[MemoryProducer]:
        """The worker is dead: nothing that its producers still had waiting is carried out.

        Its place in the group stays until `expire` or until a worker with the same id comes.

        Args:
            arrive_late: leave the waiting requests with the producers returned, whose
                `carry_out_late` lets them arrive after all, whenever the test wants.

        Returns:
            The producers that had requests waiting.
        """
        late = [producer for producer in self.producers if len(producer) > 0]
        if not arrive_late:
            for producer in late:
                producer.close()
        return late

    def expire(self) -> None:
        """The worker's session has timed out: the others of the group get its partitions."""
        self.kafka.group(self.application_id).expire(self.member_id)

    def _keep(self, producer: MemoryProducer) -> MemoryProducer:
        self.producers.append(producer)
        return producer


class MemoryAdmin:
    """`kstash.ports.Admin`."""

    def __init__(self, kafka: MemoryKafka) -> None:
        self._kafka = kafka

    def describe(
        self,
        topics: Sequence[str],
        *,
        are_created: bool = False,  # noqa: ARG002 - there is one broker
        may_be_new: bool = False,  # noqa: ARG002 - the same
    ) -> dict[str, TopicInfo]:
        """Existing topics among `topics`."""
        self._check()
        existing = self._kafka.topics()
        return {topic: existing[topic] for topic in topics if topic in existing}

    def create(self, topics: Sequence[NewTopic]) -> None:
        """Create topics; one that exists already is left as it is."""
        self._check()
        for topic in topics:
            self._kafka.create_topic(topic.name, topic.partition_count, topic.config)

    def end_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """High watermark of each partition."""
        self._check()
        return {partition: self._kafka.log(partition).end_offset for partition in partitions}

    def ask_end_offsets(
        self, partitions: Collection[Partition]
    ) -> Callable[[], dict[Partition, int] | None]:
        """The answer is there at once; nothing is known while Kafka is away."""
        ends = {} if self._kafka.is_away else self.end_offsets(partitions)
        return lambda: ends

    def ask_stable_ends(
        self, partitions: Collection[Partition]
    ) -> Callable[[], dict[Partition, int] | None]:
        """The answer is there at once; nothing is known while Kafka is away."""
        logs = {} if self._kafka.is_away else {p: self._kafka.log(p) for p in partitions}
        ends = {partition: log.last_stable_offset for partition, log in logs.items()}
        return lambda: ends

    def ask_start_offsets(
        self, partitions: Collection[Partition]
    ) -> Callable[[], dict[Partition, int] | None]:
        """The answer is there at once; nothing is known while Kafka is away."""
        starts = {} if self._kafka.is_away else self.start_offsets(partitions)
        return lambda: starts

    def delete_records(
        self, limits: Mapping[Partition, int]
    ) -> Callable[[], dict[Partition, int] | None]:
        """Done at once."""
        self._check()
        for partition, limit in limits.items():
            self._kafka.log(partition).delete_before(limit)
        starts = self.start_offsets(limits)
        return lambda: starts

    def start_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Log start offset of each partition."""
        self._check()
        return {partition: self._kafka.log(partition).start_offset for partition in partitions}

    def close(self) -> None:
        """Nothing is open."""

    def _check(self) -> None:
        if self._kafka.is_away:
            raise KafkaUnavailableError("the in-memory Kafka is away")
