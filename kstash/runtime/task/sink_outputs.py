"""User topics as outputs of a task: from a batch to Kafka records, one each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import Protocol

from kstash.core.outputs import Outgoing
from kstash.core.wire import IDENTITY_HEADER, LINEAGE_HEADER, SEQUENCE
from kstash.failpoints import around
from kstash.operators.batch import Batch
from kstash.ports.kafka import Headers, OnDelivery, Producer
from kstash.runtime.task.outputs import OutputParts, TaskOutput

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


class SinkOutput(TaskOutput):
    """A user topic.

    Args:
        parts: what every output is made of.
        route: the way to a producer.
    """

    ack_point = "sink.ack"

    def __init__(self, parts: OutputParts, *, route: Route) -> None:
        super().__init__(parts)
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
        self.header_bytes += len(outgoing.chunk or b"")
        if batch.headers is not None:
            self._produce_with_headers(outgoing, produce, on_delivery, prefix)
            return
        records = zip(batch.keys, batch.values, batch.timestamps, strict=True)
        if outgoing.chunk is not None:
            # By itself: where a task logs often, nearly every batch has one, and the other records
            # are none the slower for it.
            key, value, timestamp = next(records)
            headers = [(IDENTITY_HEADER, prefix + pack(seq)), (LINEAGE_HEADER, outgoing.chunk)]
            callback = None if seq != last else on_delivery
            produce(topic, value, key, partition, callback, timestamp, headers)
            seq += 1
        for key, value, timestamp in records:
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
