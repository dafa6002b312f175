"""The outputs of one incarnation of a task, by their kind: from a batch to Kafka records.

An output takes task batches for its partitions, in order. The chunk of a batch goes with its first
record, the callback with the last one: records of one producer and partition are durable in order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from typing import Any, Protocol

from kstash.core.frames import encode_frame
from kstash.core.ids import Incarnation, OutPartition, TaskId
from kstash.core.kinds import OutputKind
from kstash.core.outputs import Outgoing
from kstash.core.partitioner import Partitioner
from kstash.core.task import TaskCore
from kstash.core.wire import IDENTITY_HEADER, LINEAGE_HEADER, SEQUENCE, Identity
from kstash.failpoints import around
from kstash.operators.batch import Batch
from kstash.operators.sizes import RECORD_OVERHEAD_BYTES, Limit, content_bytes, record_sizes
from kstash.operators.slices import Spread, slice_of
from kstash.ports.kafka import DeliveredMessage, Headers, OnDelivery, Producer
from kstash.runtime.layout import Layout
from kstash.runtime.task.refusals import Sent
from kstash.settings.config import Config
from kstash.topology.model import StageOutput

FRAME_RECORDS_MAX = 500
"""Records in a frame, at most: a frame is one event, which nothing interrupts at its reader."""

HEADER_OVERHEAD_BYTES = 256
"""Kafka's framing of a batch (61 bytes), the identity header, the names of both headers, and the
head of a frame."""

Produce = Callable[..., None]
"""`Producer.produce` of some producer."""

HandOver = Callable[[Outgoing, Produce], None]
"""Hands one task batch for one partition to a producer."""


class Route(Protocol):
    """The way of a sink's batches: it says which producer takes one, and when."""

    def send(self, outgoing: Outgoing, hand_over: HandOver) -> None:
        """Call `hand_over` with a producer, now or later; batches of a partition stay in order."""


class DirectRoute:
    """The way under the guarantees without transactions: one producer takes all, at once."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    def send(self, outgoing: Outgoing, hand_over: HandOver) -> None:
        """Hand it over now."""
        hand_over(outgoing, self._producer.produce)


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


class TaskOutput(ABC):
    """A topic that one incarnation of one task writes.

    Args:
        declared: the stage's output.
        partitioner: of the topic.
        signature: who writes.
        core: of the task; gets the acknowledgements.
        sent: of the task; is shown what is on its way.

    Attributes:
        kind: what the records carry, and when they are there for good.
        topic: its name.
        spread: how its records are spread over the partitions.
        has_values: whether the values are shipped.
        header_bytes: of kstash's headers, in all that was sent.
    """

    def __init__(
        self,
        declared: StageOutput,
        partitioner: Partitioner,
        signature: Signature,
        core: TaskCore,
        sent: Sent,
    ) -> None:
        self.kind = declared.kind
        self.topic = declared.topic
        self.spread = Spread(partitioner, declared.key.partitioned_by)
        self.has_values = declared.value is not None
        self.header_bytes = 0
        self._signature = signature
        self._core = core
        self._sent = sent

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
            with around("frame.ack" if self.kind is OutputKind.FRAMES else "sink.ack"):
                self._core.on_output_acked(partition, position, message.offset())


class FrameOutput(TaskOutput):
    """An internal topic: frames of logical records.

    Args:
        declared: the stage's output.
        partitioner: of the topic.
        signature: who writes.
        core: of the task.
        sent: of the task.
        producer: takes the frames at once: their readers know whose lineage is missing.
        frame_bytes_max: content of a frame, unless a single record is larger.
    """

    def __init__(
        self,
        declared: StageOutput,
        partitioner: Partitioner,
        signature: Signature,
        core: TaskCore,
        sent: Sent,
        *,
        producer: Producer,
        frame_bytes_max: int,
    ) -> None:
        super().__init__(declared, partitioner, signature, core, sent)
        self._produce = producer.produce
        self._frame_bytes_max = frame_bytes_max

    def send(self, outgoing: Outgoing) -> None:
        """Produce one task batch for one partition, in frames."""
        with around("frame.append"):
            self._produce_frames(outgoing, self._on_delivery(outgoing))

    def _produce_frames(self, outgoing: Outgoing, on_delivery: OnDelivery) -> None:
        batch: Batch = outgoing.payload
        partition = outgoing.partition[1]
        slices = list(self._frames(batch))
        first_seq = outgoing.first_seq
        chunk = outgoing.chunk
        for part in slices:
            value = encode_frame(
                part.keys,
                part.values if self.has_values else None,
                part.timestamps,
                part.headers,
            )
            identity = self._signature.identity(outgoing.position, len(part), first_seq).encode()
            headers: Headers = [(IDENTITY_HEADER, identity)]
            self.header_bytes += len(identity)
            if chunk is not None:
                headers.append((LINEAGE_HEADER, chunk))
                self.header_bytes += len(chunk)
                chunk = None
            callback = on_delivery if part is slices[-1] else None
            timestamp = max(part.timestamps[-1], 0)
            self._produce(self.topic, value, None, partition, callback, timestamp, headers)
            first_seq += len(part)

    def _frames(self, batch: Batch) -> Iterator[Batch]:
        limit = self._frame_bytes_max
        total = content_bytes(batch)
        if batch.headers is None and total + len(batch) * RECORD_OVERHEAD_BYTES <= limit:
            if len(batch) <= FRAME_RECORDS_MAX:
                yield batch
                return
            for start in range(0, len(batch), FRAME_RECORDS_MAX):
                yield slice_of(batch, start, start + FRAME_RECORDS_MAX)
            return
        start = size = 0
        for index, record_size in enumerate(record_sizes(batch)):
            # One that is larger than a frame may be is a frame of its own.
            is_full = size + record_size > limit or index - start == FRAME_RECORDS_MAX
            if index > start and is_full:
                yield slice_of(batch, start, index)
                start, size = index, 0
            size += record_size
        yield slice_of(batch, start, len(batch))


class SinkOutput(TaskOutput):
    """A user topic.

    Args:
        declared: the stage's output.
        partitioner: of the topic.
        signature: who writes.
        core: of the task.
        sent: of the task.
        route: the way to a producer.
    """

    def __init__(
        self,
        declared: StageOutput,
        partitioner: Partitioner,
        signature: Signature,
        core: TaskCore,
        sent: Sent,
        *,
        route: Route,
    ) -> None:
        super().__init__(declared, partitioner, signature, core, sent)
        self._route = route

    def send(self, outgoing: Outgoing) -> None:
        """Send one task batch for one partition, when the route lets it pass."""
        self._route.send(outgoing, self._hand_over)

    def _hand_over(self, outgoing: Outgoing, produce: Produce) -> None:
        with around("sink.append"):
            self._produce_records(outgoing, produce, self._on_delivery(outgoing))

    @abstractmethod
    def _produce_records(
        self, outgoing: Outgoing, produce: Produce, on_delivery: OnDelivery
    ) -> None:
        """Give the records to a producer."""


class ImmediateOutput(SinkOutput):
    """A user topic whose readers see records at once, and apply the reader rule."""

    def _produce_records(
        self, outgoing: Outgoing, produce: Produce, on_delivery: OnDelivery
    ) -> None:
        batch: Batch = outgoing.payload
        topic = self.topic
        partition = outgoing.partition[1]
        prefix = self._signature.identity(outgoing.position, 1, 1).encode_prefix()
        pack = SEQUENCE.pack
        last = outgoing.first_seq + outgoing.count - 1
        self.header_bytes += outgoing.count * (len(prefix) + SEQUENCE.size)
        seq = outgoing.first_seq
        if outgoing.chunk is not None or batch.headers is not None:
            self.header_bytes += len(outgoing.chunk or b"")
            self._produce_with_headers(outgoing, produce, on_delivery, prefix)
            return
        for key, value, timestamp in zip(batch.keys, batch.values, batch.timestamps, strict=True):
            produce(
                topic,
                value,
                key,
                partition,
                None if seq != last else on_delivery,
                timestamp,
                [(IDENTITY_HEADER, prefix + pack(seq))],
            )
            seq += 1

    def _produce_with_headers(
        self, outgoing: Outgoing, produce: Produce, on_delivery: OnDelivery, prefix: bytes
    ) -> None:
        batch: Batch = outgoing.payload
        for index in range(outgoing.count):
            headers: Headers = list((batch.headers[index] if batch.headers else None) or ())
            headers.append((IDENTITY_HEADER, prefix + SEQUENCE.pack(outgoing.first_seq + index)))
            if index == 0 and outgoing.chunk is not None:
                headers.append((LINEAGE_HEADER, outgoing.chunk))
            produce(
                self.topic,
                batch.values[index],
                batch.keys[index],
                outgoing.partition[1],
                on_delivery if index == outgoing.count - 1 else None,
                batch.timestamps[index],
                headers,
            )


class TransactionalOutput(SinkOutput):
    """A user topic whose readers see records with their commit, as the user made them."""

    def _produce_records(
        self, outgoing: Outgoing, produce: Produce, on_delivery: OnDelivery
    ) -> None:
        assert outgoing.chunk is None, "a transactional sink carries no lineage"
        batch: Batch = outgoing.payload
        topic = self.topic
        partition = outgoing.partition[1]
        headers: Sequence[Headers | None] = batch.headers or [None] * len(batch)
        callbacks = chain(repeat(None, len(batch) - 1), (on_delivery,))
        for key, value, timestamp, record_headers, callback in zip(
            batch.keys, batch.values, batch.timestamps, headers, callbacks, strict=True
        ):
            produce(topic, value, key, partition, callback, timestamp, record_headers)


def limit_of(output: StageOutput, config: Config, layout: Layout) -> Limit:
    """What the topic of a stage's output takes."""
    topic_max = layout.message_bytes_max.get(output.topic)
    client_max = config.message_bytes_max
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
