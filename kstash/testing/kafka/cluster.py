"""The clients of one worker, made over a `MemoryKafka`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from kstash.core import names
from kstash.errors import KafkaUnavailableError
from kstash.ports.kafka import NewTopic, OffsetsAnswer, Partition, TopicInfo
from kstash.ports.status import BrokerStatus
from kstash.testing.kafka.allowance import Allowance
from kstash.testing.kafka.broker import MemoryKafka
from kstash.testing.kafka.consumers import MemoryConsumer
from kstash.testing.kafka.membership import MemoryMembership
from kstash.testing.kafka.producers import Link, MemoryProducer, MemorySinkProducer


class MemoryCluster:
    """`kstash.ports.kafka.Cluster`: makes the clients of one worker and remembers them.

    Args:
        kafka: the broker.
        application_id: names the group, the lineage topic and the transactional ids.
        member_id: the worker's name in the group.
        is_static: whether a new worker with the same id takes the membership over at once.
        allowance: how many of the worker's writes are carried out; by default all.

    Attributes:
        links: the way to the cluster for each kind of producer: `data`, `lineage`, `marker`,
            `claim` and `sink`.
        producers: every producer made, for `kill`.
    """

    def __init__(
        self,
        kafka: MemoryKafka,
        application_id: str,
        *,
        member_id: str = "worker-0",
        is_static: bool = True,
        allowance: Allowance | None = None,
    ) -> None:
        self.kafka = kafka
        self.application_id = application_id
        self.member_id = member_id
        allowance = allowance or Allowance()
        kinds = ("data", "lineage", "marker", "claim", "sink")
        self.links = {kind: Link(allowance=allowance) for kind in kinds}
        self.producers: list[MemoryProducer] = []
        self._is_static = is_static

    def admin(self) -> MemoryAdmin:
        """Topic administration."""
        return MemoryAdmin(self.kafka)

    def membership(self) -> MemoryMembership:
        """The worker's membership in the application's group."""
        return MemoryMembership(
            self.kafka,
            self.kafka.group(self.application_id),
            member_id=self.member_id,
            is_static=self._is_static,
        )

    def consumer(self) -> MemoryConsumer:
        """The worker's consumer of inputs and lineage."""
        return MemoryConsumer(self.kafka, is_committed=True)

    def uncommitted_consumer(self) -> MemoryConsumer:
        """The worker's consumer of inputs that are another application's immediate sinks."""
        return MemoryConsumer(self.kafka)

    def scanner(self, *, is_committed: bool = False) -> MemoryConsumer:
        """A consumer for recovery."""
        return MemoryConsumer(self.kafka, is_committed=is_committed)

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

        Its membership stays until `expire` or until a worker with the same id comes.

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
    """`kstash.ports.kafka.Admin`."""

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

    def create(self, topics: Sequence[NewTopic]) -> list[str]:
        """Create topics; one that exists already is left as it is, and named."""
        self._check()
        existing = [topic.name for topic in topics if topic.name in self._kafka.topics()]
        for topic in topics:
            self._kafka.create_topic(topic.name, topic.partition_count, topic.config)
        return existing

    def end_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """High watermark of each partition."""
        self._check()
        return {partition: self._kafka.log(partition).end_offset for partition in partitions}

    def ask_end_offsets(self, partitions: Collection[Partition]) -> OffsetsAnswer:
        """The answer is there at once; nothing is known while Kafka is away."""
        ends = {} if self._kafka.is_away else self.end_offsets(partitions)
        return lambda: ends

    def ask_stable_ends(self, partitions: Collection[Partition]) -> OffsetsAnswer:
        """The answer is there at once; nothing is known while Kafka is away."""
        logs = {} if self._kafka.is_away else {p: self._kafka.log(p) for p in partitions}
        ends = {partition: log.last_stable_offset for partition, log in logs.items()}
        return lambda: ends

    def ask_start_offsets(self, partitions: Collection[Partition]) -> OffsetsAnswer:
        """The answer is there at once; nothing is known while Kafka is away."""
        starts = {} if self._kafka.is_away else self.start_offsets(partitions)
        return lambda: starts

    def delete_records(self, limits: Mapping[Partition, int]) -> OffsetsAnswer:
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
