"""What the parts of a worker share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

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
from kstash.settings.config import Config

RECOVERIES_MAX = 50
"""Recoveries that a worker remembers, for people."""


@dataclass(slots=True)
class Producers:
    """The worker's shared producers; they fail, and are made anew, together."""

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


@dataclass(slots=True)
class Context:
    """One worker's clients, settings and partition counts."""

    config: Config
    layout: Layout
    cluster: Cluster
    admin: Admin
    membership: Membership
    consumer: Consumer
    scans: ScanService
    producers: Producers
    state: StateBackend
    store: CheckpointStore | None
    background: Background
    clock: Clock
    metrics: Metrics
    nonce: Callable[[], bytes]
    application: int
    partitioners: dict[str, Partitioner]
    start_settings: Mapping[str, str]
    lineage_times: LineageTimes
    gate: Gate
    paces: Paces
    pulse: Callable[[], None]
    ends: IdleEnds
    load: Load = field(default_factory=Load)
    # Since when the history of a task group went beyond its inputs.
    doubts: dict[int, float] = field(default_factory=dict)
    # The newest that ended in a live group, the oldest first.
    recoveries: deque[RecoveryStatus] = field(default_factory=lambda: deque(maxlen=RECOVERIES_MAX))

    @property
    def lineage_topic(self) -> str:
        """Name of the lineage topic."""
        return self.layout.topology.lineage_topic

    @property
    def has_lineage(self) -> bool:
        """Whether the guarantee is one of the exactly-once ones."""
        return self.config.guaranteed.logs_lineage

    @property
    def has_recovery(self) -> bool:
        """Whether groups are claimed and checkpointed at all."""
        return self.config.guaranteed.recovers

    @property
    def header_bytes_max(self) -> int:
        """Cap of a chunk; write-first carries none."""
        return self.config.lineage_header_bytes_max if self.config.guaranteed.sends_lineage else 0
