"""From a batch of outputs to Kafka records: partitions, frames, headers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, compress, repeat
from typing import NamedTuple

from kstash.core.frames import encode_frame
from kstash.core.ids import Incarnation, TaskId
from kstash.core.partitioner import Partitioner
from kstash.core.task import Outgoing
from kstash.core.wire import IDENTITY_HEADER, LINEAGE_HEADER, SEQUENCE, Identity
from kstash.operators.batch import Batch
from kstash.operators.sizes import RECORD_OVERHEAD_BYTES, Limit, content_bytes, record_sizes
from kstash.ports.kafka import Headers, OnDelivery
from kstash.runtime.context import Context
from kstash.topology.model import StageOutput

FRAME_RECORDS_MAX = 500
"""Records in a frame, at most: a frame is one event, which nothing interrupts at its reader."""

BATCH_OVERHEAD_BYTES = 256
"""Kafka's framing of a batch (61 bytes), the identity header, the names of both headers, and the
head of a frame."""

_BYTE_VALUES = 256


class StoredRecord(NamedTuple):
    """A logical record as it stands in a topic, to compare a replayed output with (I9).

    Attributes:
        timestamp: Unix time in milliseconds; None where it is the broker's (H43).
    """

    key: bytes | None
    value: bytes | None
    timestamp: int | None
    headers: Headers | None


@dataclass(frozen=True, slots=True)
class Target:
    """A topic that a task writes.

    Attributes:
        has_identity: whether records carry kstash's headers.
    """

    topic: str
    partitioner: Partitioner
    is_internal: bool
    has_values: bool
    has_identity: bool = True

    @classmethod
    def of(cls, output: StageOutput, context: Context) -> Target:
        """The target of a stage's output."""
        return cls(
            output.topic,
            context.partitioners[output.topic],
            output.internal,
            output.value is not None,
            not output.is_transactional,
        )


def limit_of(output: StageOutput, context: Context) -> Limit:
    """What the topic of a stage's output takes."""
    config, layout = context.config, context.layout
    topic_max = layout.message_bytes_max.get(output.topic)
    client_max = config.message_bytes_max
    is_clients = topic_max is None or client_max < topic_max
    reserved = BATCH_OVERHEAD_BYTES
    if not output.is_transactional:
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


Mask = Sequence[int]
"""Which records of a batch are meant, as 0 and 1."""


def split(
    keys: Sequence[bytes | None], partitioner: Partitioner, null_partition: int
) -> list[tuple[int, Mask | None]]:
    """Partitions that records of these keys go to, ascending, and which of them; None: all."""
    count = partitioner.partition_count
    if count == 1:
        return [(0, None)]
    partitioner[None] = null_partition % count
    partitions = list(map(partitioner.__getitem__, keys))
    if partitions.count(partitions[0]) == len(partitions):
        # Always so where a stage leaves the keys as they are and writes as many partitions.
        return [(partitions[0], None)]
    return list(_masks(partitions, count))


def part_of(batch: Batch, mask: Mask, *, has_values: bool) -> Batch:
    """The records of a batch that a mask means, in their order; without values all are None."""
    keys = list(compress(batch.keys, mask))
    return Batch(
        keys,
        list(compress(batch.values, mask)) if has_values else [None] * len(keys),
        list(compress(batch.timestamps, mask)),
        None if batch.headers is None else list(compress(batch.headers, mask)),
    )


def _masks(partitions: list[int], count: int) -> Iterator[tuple[int, Mask]]:
    """Which records go to each partition that occurs."""
    if count > _BYTE_VALUES:
        for partition in sorted(set(partitions)):
            yield partition, [p == partition for p in partitions]
        return
    # A byte for each record: a table look-up makes a mask at the speed of a memory copy.
    row = bytes(partitions)
    for partition in sorted(set(row)):
        yield partition, row.translate(_only(partition))


@cache
def _only(partition: int) -> bytes:
    """The table for `bytes.translate` that keeps one value as 1."""
    return bytes(partition) + b"\x01" + bytes(_BYTE_VALUES - 1 - partition)


def drop_head(batch: Batch, count: int) -> Batch:
    """The batch without its first `count` records."""
    headers = None if batch.headers is None else batch.headers[count:]
    return Batch(batch.keys[count:], batch.values[count:], batch.timestamps[count:], headers)


def stored_record(batch: Batch, index: int, *, has_values: bool) -> StoredRecord:
    """One record of a batch in the form that is compared, which a topic may have no values in."""
    headers = batch.headers[index] if batch.headers is not None else None
    value = batch.values[index] if has_values else None
    return StoredRecord(batch.keys[index], value, batch.timestamps[index], headers or None)


def is_same(made: StoredRecord, stored: StoredRecord) -> bool:
    """Whether a record that was made again is the stored one."""
    if stored.timestamp is None:
        made = made._replace(timestamp=None)
    return made == stored


class Emitter:
    """Produces the outputs of one incarnation of one task."""

    def __init__(
        self, application: int, task: TaskId, incarnation: Incarnation, frame_bytes_max: int
    ) -> None:
        self._application = application
        self._task = task
        self._incarnation = incarnation
        self._frame_bytes_max = frame_bytes_max
        self.header_bytes = 0

    def produce(
        self,
        outgoing: Outgoing,
        target: Target,
        produce: Callable[..., None],
        on_delivery: OnDelivery,
    ) -> None:
        """Hand one task batch for one partition to a producer.

        The chunk goes with the first record, the callback with the last one: records of one
        producer and partition are durable in order.
        """
        if target.is_internal:
            self._produce_frames(outgoing, target, produce, on_delivery)
        elif not target.has_identity:
            _produce_plain(outgoing, target, produce, on_delivery)
        else:
            self._produce_records(outgoing, target, produce, on_delivery)

    def _produce_frames(
        self,
        outgoing: Outgoing,
        target: Target,
        produce: Callable[..., None],
        on_delivery: OnDelivery,
    ) -> None:
        batch: Batch = outgoing.payload
        partition = outgoing.partition[1]
        slices = list(self._frames(batch))
        first_seq = outgoing.first_seq
        chunk = outgoing.chunk
        for part in slices:
            value = encode_frame(
                part.keys,
                part.values if target.has_values else None,
                part.timestamps,
                part.headers,
            )
            identity = Identity(
                self._application,
                self._task,
                self._incarnation,
                outgoing.position,
                len(part),
                first_seq,
            ).encode()
            headers: Headers = [(IDENTITY_HEADER, identity)]
            self.header_bytes += len(identity)
            if chunk is not None:
                headers.append((LINEAGE_HEADER, chunk))
                self.header_bytes += len(chunk)
                chunk = None
            callback = on_delivery if part is slices[-1] else None
            timestamp = max(part.timestamps[-1], 0)
            produce(target.topic, value, None, partition, callback, timestamp, headers)
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

    def _produce_records(
        self,
        outgoing: Outgoing,
        target: Target,
        produce: Callable[..., None],
        on_delivery: OnDelivery,
    ) -> None:
        batch: Batch = outgoing.payload
        topic = target.topic
        partition = outgoing.partition[1]
        prefix = Identity(
            self._application, self._task, self._incarnation, outgoing.position, 1, 1
        ).encode_prefix()
        pack = SEQUENCE.pack
        last = outgoing.first_seq + outgoing.count - 1
        self.header_bytes += outgoing.count * (len(prefix) + SEQUENCE.size)
        seq = outgoing.first_seq
        if outgoing.chunk is not None or batch.headers is not None:
            self.header_bytes += len(outgoing.chunk or b"")
            self._produce_with_headers(outgoing, target, produce, on_delivery, prefix)
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
        self,
        outgoing: Outgoing,
        target: Target,
        produce: Callable[..., None],
        on_delivery: OnDelivery,
        prefix: bytes,
    ) -> None:
        batch: Batch = outgoing.payload
        for index in range(outgoing.count):
            headers: Headers = list((batch.headers[index] if batch.headers else None) or ())
            headers.append((IDENTITY_HEADER, prefix + SEQUENCE.pack(outgoing.first_seq + index)))
            if index == 0 and outgoing.chunk is not None:
                headers.append((LINEAGE_HEADER, outgoing.chunk))
            produce(
                target.topic,
                batch.values[index],
                batch.keys[index],
                outgoing.partition[1],
                on_delivery if index == outgoing.count - 1 else None,
                batch.timestamps[index],
                headers,
            )


def _produce_plain(
    outgoing: Outgoing, target: Target, produce: Callable[..., None], on_delivery: OnDelivery
) -> None:
    """Records of a transactional sink: as the user made them, with no header of ours."""
    assert outgoing.chunk is None, "a transactional sink carries no lineage"
    batch: Batch = outgoing.payload
    topic = target.topic
    partition = outgoing.partition[1]
    headers: Sequence[Headers | None] = batch.headers or [None] * len(batch)
    callbacks = chain(repeat(None, len(batch) - 1), (on_delivery,))
    for key, value, timestamp, record_headers, callback in zip(
        batch.keys, batch.values, batch.timestamps, headers, callbacks, strict=True
    ):
        produce(topic, value, key, partition, callback, timestamp, record_headers)


def slice_of(batch: Batch, start: int, end: int) -> Batch:
    """Records `[start, end)` of a batch."""
    headers = None if batch.headers is None else batch.headers[start:end]
    return Batch(
        batch.keys[start:end], batch.values[start:end], batch.timestamps[start:end], headers
    )
