"""All Kafka clients of one worker, by one factory."""

from __future__ import annotations

from kstash.config import Config
from kstash.kafka import settings
from kstash.kafka.admin import KafkaAdmin
from kstash.kafka.checkpoint_topic import CheckpointTopic
from kstash.kafka.member import KafkaMember
from kstash.kafka.positions import CommittedPositionsReader
from kstash.kafka.producers import DelayedAcks, KafkaProducer
from kstash.kafka.scanner import KafkaScanner
from kstash.kafka.sink import KafkaSinkProducer
from kstash.ports import Admin, CheckpointStore, Member, Producer, Scanner, SinkProducer

BATCH_BYTES_MAX = 1_000_000
"""The client's default of `batch.size`."""


class KafkaCluster:
    """`kstash.ports.Cluster` over confluent-kafka.

    Each call makes a new client; whoever calls closes it. Producers are warmed, so make them
    first thing in the process.

    Args:
        config: the application's settings.
        program: short name of what the application runs: members that name another one are
            refused (`kstash.kafka.strangers`).

    Attributes:
        batch_bytes_max: largest request for one partition that a producer makes of several
            records: a topic that takes less refuses all of them, each time anew.
    """

    def __init__(self, config: Config, program: str = "any") -> None:
        self._config = config
        self.program = program
        self.batch_bytes_max = BATCH_BYTES_MAX
        self._positions: CommittedPositionsReader | None = None

    @property
    def lineage_topic(self) -> str:
        """Topic whose partitions are the task groups."""
        return f"{self._config.application_id}-lineage"

    def admin(self) -> Admin:
        """Topic administration."""
        return KafkaAdmin(settings.admin(self._config))

    def member(self) -> Member:
        """The worker's consumer: membership, lineage tail and data."""
        return KafkaMember(
            settings.member(self._config, self.program),
            reader_settings=settings.reader(self._config),
            admin_settings=settings.admin(self._config),
            lineage_topic=self.lineage_topic,
            bootstrap_servers=self._config.bootstrap_servers,
        )

    def uncommitted_member(self) -> Scanner:
        """The consumer for inputs that are another application's immediate sinks."""
        return self._scanner("immediate")

    def scanner(self) -> Scanner:
        """A consumer for recovery."""
        return self._scanner("scan")

    def data_producer(self) -> Producer:
        """The producer of frames and END markers."""
        return KafkaProducer(self._limited(settings.data_producer(self._config)))

    def lineage_producer(self) -> Producer:
        """The producer of segments, hints and checkpoint records."""
        producer = KafkaProducer(self._limited(settings.lineage_producer(self._config)))
        delay_s = self._config.lineage_ack_delay_ms / 1000
        return DelayedAcks(producer, delay_s) if delay_s else producer

    def marker_producer(self) -> Producer:
        """The producer of FENCE, SEAL and START."""
        return KafkaProducer(settings.marker_producer(self._config))

    def claim_producer(self) -> Producer:
        """The producer of CONFIG and CLAIM."""
        return KafkaProducer(settings.claim_producer(self._config))

    def sink_producer(self, group: int, slot: int = 0) -> SinkProducer:
        """A transactional producer of a task group, which has two."""
        if self._positions is None:
            self._positions = CommittedPositionsReader(settings.positions(self._config))
        return KafkaSinkProducer(
            self._limited(settings.sink_producer(self._config, group, slot)),
            position=(self.lineage_topic, group),
            positions=self._positions,
            bootstrap_servers=self._config.bootstrap_servers,
        )

    def checkpoint_store(self) -> CheckpointStore:
        """The store of remote checkpoints in the topic `<application id>-checkpoints`."""
        return CheckpointTopic(self._config, admin=self.admin)

    def _limited(self, producer: settings.Settings) -> settings.Settings:
        asked = int(producer.get("batch.size", BATCH_BYTES_MAX))
        return producer | {"batch.size": min(asked, self.batch_bytes_max)}

    def _scanner(self, role: str) -> KafkaScanner:
        return KafkaScanner(
            settings.scanner(self._config, role),
            bootstrap_servers=self._config.bootstrap_servers,
        )
