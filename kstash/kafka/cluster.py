"""All Kafka clients of one worker, by one factory."""

from __future__ import annotations

import time
from collections.abc import Collection

from kstash.core import names
from kstash.kafka import client_settings as settings
from kstash.kafka.admin import KafkaAdmin
from kstash.kafka.admin_requests import AdminRequests
from kstash.kafka.consumer import KafkaConsumer
from kstash.kafka.membership import KafkaMembership
from kstash.kafka.positions import CommittedPositionsReader
from kstash.kafka.prepared_clients import PreparedClients
from kstash.kafka.producers import DelayedAcks, KafkaProducer
from kstash.kafka.reachability import BrokerWatch
from kstash.kafka.sink import KafkaSinkProducer
from kstash.kafka.statistics import STATISTICS_INTERVAL_MS, ClientStatistics
from kstash.ports.kafka import Admin, Consumer, Membership, Producer, SinkProducer
from kstash.ports.status import BrokerStatus
from kstash.settings.config import Config

SINKS_DEADLINE_S = 1.0
"""For all threads of producers together: what still waits for a broker ends with the process."""

BATCH_BYTES_MAX = 1_000_000
"""The client's default of `batch.size`."""

HEARTBEATS_OF_GRACE = 3
"""Heartbeats that the worker's consumer waits for before it raises an error of a partition: one
that comes after a long sleep is answered with the loss of the membership, and the partition with
it."""


class KafkaCluster:
    """`kstash.ports.kafka.Cluster` over confluent-kafka.

    Each call makes a new client, or hands out the one that `prepare` made; whoever calls closes
    it. Producers are warmed, so make them first thing in the process.

    Args:
        config: the application's settings.
        program: short name of what the application runs: members that name another one are
            refused (`kstash.startup.members`).

    Attributes:
        prepared: clients that were made in advance; closed with `close`.
    """

    def __init__(self, config: Config, program: str = "any", *, tells_ends: bool = False) -> None:
        self._config = config
        self._tells_ends = tells_ends
        self.program = program
        self.prepared = PreparedClients()
        self._statistics = ClientStatistics()
        self._batch_bytes_max = BATCH_BYTES_MAX
        # A topic that producers ask for when they are made.
        self._asked: str | None = None
        # The first admin client, which learns whether there is access at all.
        self._contact: KafkaAdmin | None = None
        self._positions: CommittedPositionsReader | None = None
        # Of one membership: it and the consumer report once that the broker is away.
        self._watch: BrokerWatch | None = None
        # The newest of each transactional id.
        self._sinks: dict[tuple[int, int], KafkaSinkProducer] = {}

    def prepare(self, topics: Collection[str] = (), *, are_there: bool = False) -> None:
        """Begin to make the clients that do not depend on the worker's membership.

        They connect to the brokers and do nothing there: nobody is fenced, no group is joined.

        Args:
            topics: that the application reads; known then to who scans them.
            are_there: the application's topics are known to exist, so that producers may ask for
                one and be connected early. Asking may make a topic that does not exist.
        """
        self._asked = self.lineage_topic if are_there else self._asked
        self._positions = self._positions or self._new_positions()
        for name, make in (
            ("admin", self._new_admin),
            ("scan", lambda: self._scanner("scan", topics)),
            ("data", self._new_data_producer),
            ("lineage", self._new_lineage_producer),
            ("markers", self._new_marker_producer),
            ("claims", self._new_claim_producer),
        ):
            self.prepared.make(name, make)

    def renew(self, topics: Collection[str] = ()) -> None:
        """Prepare anew: connections may be gone by now, and metadata forgotten."""
        self.prepared.clear()
        self.prepare(topics, are_there=True)

    def take_place(self, config: Config, program: str, topics: Collection[str] = ()) -> None:
        """Go on as a certain worker, whose client begins to find the group's coordinator.

        It joins the group when it subscribes.

        Args:
            config: differs from the one before in what belongs to the membership only.
            program: short name of what the application runs.
            topics: that the worker will read.
        """
        self._config, self.program, self._watch = config, program, None
        watch = self._watch_of_membership()
        self.prepared.make("member", lambda: self._new_membership(watch))
        self.prepared.make("reader", lambda: self._new_consumer(watch, topics))

    def limit_batches(self, bytes_max: int) -> None:
        """Make no larger request for one partition out of several records.

        A topic that takes less refuses all of them, each time anew.
        """
        asked = int(str(self._config.kafka.get("batch.size", BATCH_BYTES_MAX)))
        if min(asked, bytes_max) != min(asked, self._batch_bytes_max):
            self.prepared.drop("data")
            self.prepared.drop("lineage")
        self._batch_bytes_max = bytes_max

    def close(self) -> None:
        """Close the clients that nobody has taken, and wait a moment for threads of closed ones."""
        self.prepared.close(has_access=self._contact is None or self._contact.has_access)
        deadline = time.monotonic() + SINKS_DEADLINE_S
        for sink in self._sinks.values():
            sink.join(deadline - time.monotonic())

    @property
    def lineage_topic(self) -> str:
        """Topic whose partitions are the task groups."""
        return names.lineage_topic(self._config.application_id)

    def admin(self) -> Admin:
        """Topic administration."""
        admin: Admin = self.prepared.take("admin", self._new_admin)
        return admin

    def membership(self) -> Membership:
        """The worker's membership."""
        watch = self._watch_of_membership()
        made: Membership = self.prepared.take("member", lambda: self._new_membership(watch))
        return made

    def consumer(self) -> Consumer:
        """The worker's consumer of inputs and lineage."""
        watch = self._watch_of_membership()
        consumer: Consumer = self.prepared.take("reader", lambda: self._new_consumer(watch))
        return consumer

    def uncommitted_consumer(self) -> Consumer:
        """The worker's consumer of inputs that are another application's immediate sinks."""
        return self._scanner("immediate")

    def scanner(self, *, is_committed: bool = False) -> Consumer:
        """A consumer for recovery; `is_committed` as a task reads its inputs."""
        if is_committed:
            return self._scanner("committed")
        scanner: Consumer = self.prepared.take("scan", lambda: self._scanner("scan"))
        return scanner

    def data_producer(self) -> Producer:
        """The producer of frames and END markers."""
        producer: Producer = self.prepared.take("data", self._new_data_producer)
        return producer

    def lineage_producer(self) -> Producer:
        """The producer of segments, hints and checkpoint records."""
        producer: Producer = self.prepared.take("lineage", self._new_lineage_producer)
        return producer

    def marker_producer(self) -> Producer:
        """The producer of FENCE, SEAL and START."""
        producer: Producer = self.prepared.take("markers", self._new_marker_producer)
        return producer

    def claim_producer(self) -> Producer:
        """The producer of CONFIG and CLAIM."""
        producer: Producer = self.prepared.take("claims", self._new_claim_producer)
        return producer

    def sink_producer(self, group: int, slot: int = 0) -> SinkProducer:
        """A transactional producer of a task group, which has two."""
        self._positions = self._positions or self._new_positions()
        self._sinks[group, slot] = sink = KafkaSinkProducer(
            self._limited(settings.sink_producer(self._config, group, slot)),
            position=(self.lineage_topic, group),
            positions=self._positions,
            bootstrap_servers=self._config.bootstrap_servers,
            predecessor=self._sinks.get((group, slot)),
        )
        return sink

    def brokers(self) -> tuple[BrokerStatus, ...]:
        """What reader and producers of data and lineage said last of each broker."""
        return self._statistics.brokers()

    def _limited(self, producer: settings.ClientSettings) -> settings.ClientSettings:
        asked = int(producer.get("batch.size", BATCH_BYTES_MAX))
        return producer | {"batch.size": min(asked, self._batch_bytes_max)}

    def _reporting(
        self, chosen: settings.ClientSettings, *, waits: bool = False
    ) -> settings.ClientSettings:
        """Settings of a client that reports what it knows of its brokers."""
        take = self._statistics.taker(str(chosen["client.id"]), waits=waits)
        return {"statistics.interval.ms": STATISTICS_INTERVAL_MS, **chosen, "stats_cb": take}

    def _new_admin(self) -> KafkaAdmin:
        has_access = self._contact is not None and self._contact.has_access
        admin = KafkaAdmin(AdminRequests(settings.admin(self._config), has_access=has_access))
        self._contact = self._contact or admin
        return admin

    def _watch_of_membership(self) -> BrokerWatch:
        if self._watch is None:
            member = settings.member(self._config, self.program)
            self._watch = BrokerWatch(str(member["client.id"]), self._config.bootstrap_servers)
        return self._watch

    def _new_membership(self, watch: BrokerWatch) -> KafkaMembership:
        return KafkaMembership(
            settings.member(self._config, self.program),
            admin_settings=settings.admin(self._config),
            lineage_topic=self.lineage_topic,
            bootstrap_servers=self._config.bootstrap_servers,
            watch=watch,
        )

    def _new_consumer(self, watch: BrokerWatch, topics: Collection[str] = ()) -> KafkaConsumer:
        member = settings.member(self._config, self.program)
        consumer = KafkaConsumer(
            self._reporting(settings.reader(self._config, tells_ends=self._tells_ends), waits=True),
            bootstrap_servers=self._config.bootstrap_servers,
            watch=watch,
            grace_s=HEARTBEATS_OF_GRACE * float(member["heartbeat.interval.ms"]) / 1000,
        )
        consumer.warm(topics)
        return consumer

    def _new_data_producer(self) -> KafkaProducer:
        chosen = self._reporting(self._limited(settings.data_producer(self._config)))
        return KafkaProducer(chosen, topic=self._asked)

    def _new_lineage_producer(self) -> Producer:
        chosen = self._reporting(self._limited(settings.lineage_producer(self._config)))
        producer = KafkaProducer(chosen, topic=self._asked)
        delay_s = self._config.lineage_ack_delay_ms / 1000
        return DelayedAcks(producer, delay_s) if delay_s else producer

    def _new_marker_producer(self) -> KafkaProducer:
        return KafkaProducer(settings.marker_producer(self._config), topic=self._asked)

    def _new_claim_producer(self) -> KafkaProducer:
        return KafkaProducer(settings.claim_producer(self._config), topic=self._asked)

    def _new_positions(self) -> CommittedPositionsReader:
        return CommittedPositionsReader(settings.positions(self._config))

    def _scanner(self, role: str, topics: Collection[str] = ()) -> KafkaConsumer:
        scanner = KafkaConsumer(
            settings.scanner(
                self._config, role, tells_ends=self._tells_ends and role == "immediate"
            ),
            bootstrap_servers=self._config.bootstrap_servers,
        )
        scanner.warm(topics)
        return scanner
