"""A factory of a worker's clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kstash.ports.kafka.admin import Admin
from kstash.ports.kafka.consumer import Consumer
from kstash.ports.kafka.membership import Membership
from kstash.ports.kafka.producer import Producer, SinkProducer
from kstash.ports.status import BrokerStatus


class Cluster(Protocol):
    """A factory of the clients of one worker: the one port that the runtime is given for Kafka."""

    def admin(self) -> Admin:
        """Topic administration."""

    def membership(self) -> Membership:
        """The worker's membership in the application's group."""

    def consumer(self) -> Consumer:
        """The worker's consumer of inputs and lineage; it reads `read_committed`."""

    def uncommitted_consumer(self) -> Consumer:
        """The worker's consumer of inputs that are another application's immediate sinks."""

    def scanner(self, *, is_committed: bool = False) -> Consumer:
        """A consumer for one recovery; with `is_committed` it sees what a task sees of an input."""

    def data_producer(self) -> Producer:
        """Idempotent, gapless, `message.timeout.ms=0`: frames and END markers."""

    def lineage_producer(self) -> Producer:
        """Idempotent, linger 0 to 5 ms: segments, hints and checkpoint records."""

    def marker_producer(self) -> Producer:
        """Not idempotent, one request in flight, `acks=all`: FENCE, SEAL, START."""

    def claim_producer(self) -> Producer:
        """As `marker_producer` with `retries=0`: CONFIG and CLAIM."""

    def sink_producer(self, group: int, slot: int = 0) -> SinkProducer:
        """A transactional producer of a task group, which has two: slots 0 and 1."""

    def brokers(self) -> Sequence[BrokerStatus]:
        """What the clients that carry most said last of each broker; does not wait."""
