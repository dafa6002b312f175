"""What the parts of a worker share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kstash.core.guarantee import Guarantee
from kstash.core.partitioner import Partitioner
from kstash.ports.kafka import Admin, Cluster, Consumer, Membership, Producer, TopicInfo
from kstash.ports.process import Background, Clock, Metrics
from kstash.ports.state import CheckpointStore, StateBackend
from kstash.ports.status import RecoveryStatus
from kstash.runtime.ends import IdleEnds
from kstash.runtime.gate import Gate
from kstash.runtime.layout import Layout
from kstash.runtime.load import Load
from kstash.runtime.pace import Paces
from kstash.runtime.scan import ScanService
from kstash.runtime.write_time import WriteTime
from kstash.settings.config import Config

RECOVERIES_MAX = 50
"""Recoveries that a worker remembers, for people."""


@dataclass(slots=True)
class Producers:
    """The worker's shared producers; they fail, and are made anew, together.

    Attributes:
        data: internal topics, and sinks without transactions.
        lineage: segments, checkpoints and what else a live group says of itself.
        markers: FENCE, SEAL, START and RUN.
        claims: CLAIM and CONFIG.
    """

    data: Producer
    lineage: Producer
    markers: Producer
    claims: Producer

    @classmethod
    def create(cls, cluster: Cluster) -> Producers:
        """Make all four; a fresh idempotent one needs up to a second before its first ack."""
        return cls(
            cluster.data_producer(),
            cluster.lineage_producer(),
            cluster.marker_producer(),
            cluster.claim_producer(),
        )

    def renew(self, cluster: Cluster) -> None:
        """Close all four and make others in their place."""
        self.close()
        fresh = Producers.create(cluster)
        self.data, self.lineage = fresh.data, fresh.lineage
        self.markers, self.claims = fresh.markers, fresh.claims

    def poll(self) -> None:
        """Serve callbacks. Raises `ProducerFailedError`."""
        self.data.poll()
        self.lineage.poll()
        self.markers.poll()
        self.claims.poll()

    def __len__(self) -> int:
        return len(self.data) + len(self.lineage) + len(self.markers) + len(self.claims)

    def close(self) -> None:
        """Purge and destroy."""
        for producer in (self.data, self.lineage, self.markers, self.claims):
            producer.close()


@dataclass(frozen=True, slots=True)
class LineageTimes:
    """Settings of the lineage topic that the runtime minds (H23).

    Attributes:
        segment_s: an idle group writes once in this time, so that its segment is rolled.
        tombstone_s: tombstones stay this long at least: no read may take longer.
    """

    segment_s: float = 600.0
    tombstone_s: float = 600.0

    @classmethod
    def of(cls, info: TopicInfo | None) -> LineageTimes:
        """As the topic has them; defaults where it does not exist or does not say."""
        config = info.config if info is not None else {}
        return cls(
            float(config.get("segment.ms", 600_000)) / 1000,
            float(config.get("delete.retention.ms", 600_000)) / 1000,
        )


@dataclass(frozen=True, slots=True)
class Clients:
    """What a worker talks to Kafka with.

    Attributes:
        cluster: makes further clients.
        admin: asks for topics and offsets, and deletes records.
        membership: of the worker in the application's group.
        consumer: reads the inputs, and the lineage partitions of live groups.
        scans: reads lineage and the tails of outputs, for recoveries.
        producers: append everything but the outputs of sinks with transactions.
    """

    cluster: Cluster
    admin: Admin
    membership: Membership
    consumer: Consumer
    scans: ScanService
    producers: Producers

    def close(self, *, leave: bool) -> None:
        """Close all but the cluster; with `leave` the worker's membership is free at once."""
        self.membership.close(leave=leave)
        self.consumer.close()
        self.scans.close()
        self.producers.close()
        self.admin.close()


@dataclass(frozen=True, slots=True)
class Services:
    """What a worker has of its process.

    Attributes:
        clock: time.
        metrics: what is counted.
        background: runs what waits for disks and stores.
        nonce: gives 16 fresh random bytes a call, for the keys of CLAIM and CONFIG.
        write_time: of a turn, for what checkpoints write ahead.
    """

    clock: Clock
    metrics: Metrics
    background: Background
    nonce: Callable[[], bytes]
    write_time: WriteTime = field(default_factory=WriteTime)


@dataclass(frozen=True, slots=True)
class RuntimeContext:
    """What task groups and their recoveries are made of; other parts are handed what they use.

    Attributes:
        config: settings.
        guarantee: what a crash may do to results, under these settings.
        layout: where tasks are, and how many partitions topics have.
        clients: of Kafka.
        services: of the process.
        state: where the tasks' states live.
        store: where remote checkpoints go; None: they stay on this disk.
        application: tag of the application id, in all that is written.
        partitioners: by topic, of those that are read or written.
        start_settings: what START says of settings that change results, and of the program.
        lineage_times: settings of the lineage topic.
        gate: pauses inputs.
        paces: sizes of batches, by task and input; they outlive incarnations.
        pulse: keeps the membership while a batch goes on for long.
        ends: where the outputs end, asked for once for all groups.
        load: how much of what was made is still in memory.
        doubts: by task group, since when its history has gone beyond its inputs, in monotonic
            seconds; over the attempts to recover it.
        recoveries: the newest that ended in a live group, the oldest first.
    """

    config: Config
    guarantee: Guarantee
    layout: Layout
    clients: Clients
    services: Services
    state: StateBackend
    store: CheckpointStore | None
    application: int
    partitioners: dict[str, Partitioner]
    start_settings: Mapping[str, str]
    lineage_times: LineageTimes
    gate: Gate
    paces: Paces
    pulse: Callable[[], None]
    ends: IdleEnds
    load: Load = field(default_factory=Load)
    doubts: dict[int, float] = field(default_factory=dict)
    recoveries: deque[RecoveryStatus] = field(default_factory=lambda: deque(maxlen=RECOVERIES_MAX))
