"""What all outputs of one incarnation of a task share: who writes, and what is on its way.

An output takes task batches for its partitions, in order. The chunk of a batch goes with its first
record, the callback with the last one: records of one producer and partition are durable in order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from kstash.core.ids import Incarnation, OutPartition, TaskId
from kstash.core.outputs import Outgoing
from kstash.core.partitioner import Partitioner
from kstash.core.task import TaskCore
from kstash.core.wire import Identity
from kstash.failpoints import around
from kstash.operators.sizes import Limit
from kstash.operators.slices import Spread
from kstash.ports.kafka import DeliveredMessage, OnDelivery
from kstash.runtime.layout import Layout
from kstash.runtime.task.sent import Sent
from kstash.settings import derived
from kstash.settings.config import Config
from kstash.topology.model import StageOutput

HEADER_OVERHEAD_BYTES = 256
"""Kafka's framing of a batch (61 bytes), the identity header, the names of both headers, and the
head of a frame."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Who writes, as identity headers say it.

    Attributes:
        application: tag of the application id.
        task: the task.
        incarnation: what its outputs are signed with.
    """

    application: int
    task: TaskId
    incarnation: Incarnation

    def identity(self, position: int, count: int, first_seq: int) -> Identity:
        """Of `count` records from a sequence on, which the batch that ends at `position` made."""
        return Identity(
            application=self.application,
            task=self.task,
            incarnation=self.incarnation,
            position=position,
            count=count,
            first_seq=first_seq,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputParts:
    """What an output of any kind is made of.

    Attributes:
        declared: the stage's output.
        partitioner: of the topic.
        signature: who writes.
        core: of the task; gets the acknowledgements.
        sent: of the task; is shown what is on its way.
    """

    declared: StageOutput
    partitioner: Partitioner
    signature: Signature
    core: TaskCore
    sent: Sent


class TaskOutput(ABC):
    """A topic that one incarnation of one task writes.

    Args:
        parts: what it is made of.

    Attributes:
        ack_point: fail point around an acknowledgement; each kind of output names its own.
        kind: what the records carry, and when they are there for good.
        topic: its name.
        spread: how its records are spread over the partitions.
        has_values: whether the values are shipped.
        header_bytes: of kstash's headers, in all that was sent.
    """

    ack_point: ClassVar[str]

    def __init__(self, parts: OutputParts) -> None:
        declared = parts.declared
        self.kind = declared.kind
        self.topic = declared.topic
        self.spread = Spread(parts.partitioner, declared.key.partitioned_by)
        self.has_values = declared.value is not None
        self.header_bytes = 0
        self._signature = parts.signature
        self._core = parts.core
        self._sent = parts.sent

    @abstractmethod
    def send(self, outgoing: Outgoing) -> None:
        """Send one task batch for one partition."""

    def _on_delivery(self, outgoing: Outgoing) -> OnDelivery:
        """Callback for the last record of a batch, which is on its way from now on."""
        self._sent.add(outgoing)
        return partial(self._delivered, outgoing.partition, outgoing.position)

    def _delivered(
        self, partition: OutPartition, position: int, error: Any, message: DeliveredMessage
    ) -> None:
        # A failed record makes its producer fail as a whole, which its `poll` reports.
        if error is None:
            self._sent.acked(partition, position)
            with around(self.ack_point):
                self._core.on_output_acked(partition, position, message.offset())


def limit_of(output: StageOutput, config: Config, layout: Layout) -> Limit:
    """What the topic of a stage's output takes."""
    topic_max = layout.message_bytes_max.get(output.topic)
    client_max = derived.message_bytes_max(config)
    is_clients = topic_max is None or client_max < topic_max
    reserved = HEADER_OVERHEAD_BYTES
    if output.kind.carries_lineage:
        # The first time an output may have no lineage to carry, and in a replay a whole
        # cap of it: a record that fits once must fit always.
        reserved += config.lineage_header_bytes_max
    return Limit(
        output.topic,
        (client_max if is_clients or topic_max is None else topic_max) - reserved,
        reserved,
        client_max if is_clients else None,
        needs_keys=output.topic in layout.compacted,
    )
