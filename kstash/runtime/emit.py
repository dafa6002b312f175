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
from kstash.errors import NullKeyError, RecordTooLargeError
from kstash.operators.batch import Batch
from kstash.ports import Headers, OnDelivery
from kstash.runtime.context import Context
from kstash.topology import StageOutput

FRAME_RECORDS_MAX = 500
"""Records in a frame, at most: a frame is one event, which nothing interrupts at its reader."""

RECORD_OVERHEAD_BYTES = 64
"""Room for lengths, timestamps and Kafka's own framing of one logical record."""

RECORD_MEMORY_BYTES = 256
"""What a record takes in memory beside its bytes: our objects and the client's."""

SINK_OVERHEAD_BYTES = 256
"""Kafka's framing of a batch (61 bytes), the identity header and the names of both headers."""

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
        needs_keys: whether the topic is compacted, so that the broker refuses null keys.
        record_bytes_max: size of a record that fits whatever lineage it carries; None: any.
    """

    topic: str
    partitioner: Partitioner
    is_internal: bool
    has_values: bool
    has_identity: bool = True
    needs_keys: bool = False
    record_bytes_max: int | None = None

    @classmethod
    def of(cls, output: StageOutput, context: Context) -> Target:
        """The target of a stage's output."""
        record_bytes_max = context.layout.message_bytes_max.get(output.topic)
        if output.internal:
            record_bytes_max = None
        elif record_bytes_max is not None:
            record_bytes_max -= SINK_OVERHEAD_BYTES
            if not output.is_transactional:
                # The first time an output may have no lineage to carry, and in a replay a whole
                # cap of it: a record that fits once must fit always.
                record_bytes_max -= context.config.lineage_header_bytes_max
        return cls(
            output.topic,
            context.partitioners[output.topic],
            output.internal,
            output.value is not None,
            not output.is_transactional,
            output.topic in context.layout.compacted,
            record_bytes_max,
        )

    def check_sizes(self, outputs: Batch) -> None:
        """Refuse records that fit at times only, before anything of their event is out.

        (Those of internal topics are checked as frames are made.)

        Raises:
            RecordTooLargeError: naming the topic.
        """
        limit = self.record_bytes_max
        if limit is None:
            return
        if outputs.headers is None:
            values, keys = filter(None, outputs.values), filter(None, outputs.keys)
            total = sum(map(len, values)) + sum(map(len, keys))
            if total + RECORD_OVERHEAD_BYTES <= limit:
                return
        largest = max(_sizes(outputs), default=0)
        if largest > limit:
            raise RecordTooLargeError(
                f"a record of {largest} bytes was made, and {limit} fit with the lineage that it "
                "may have to carry (max.message.bytes less lineage_header_bytes_max and framing); "
                "raise the topic's max.message.bytes, or make smaller records",
                topic=self.topic,
            )

    def check_keys(self, batch: Batch) -> None:
        """Refuse what the broker would refuse, over and over again.

        Raises:
            NullKeyError: naming the topic.
        """
        if self.needs_keys and None in batch.keys:
            raise NullKeyError(
                "a record without a key cannot be sent to a compacted topic: filter such records "
                "out, or give them a key with key_by() before to()",
                topic=self.topic,
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
        slices = list(self._frames(batch, target))
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

    def _frames(self, batch: Batch, target: Target) -> Iterator[Batch]:
        limit = self._frame_bytes_max
        total = _content_bytes(batch)
        if batch.headers is None and total + len(batch) * RECORD_OVERHEAD_BYTES <= limit:
            if len(batch) <= FRAME_RECORDS_MAX:
                yield batch
                return
            for start in range(0, len(batch), FRAME_RECORDS_MAX):
                yield slice_of(batch, start, start + FRAME_RECORDS_MAX)
            return
        start = size = 0
        for index, record_size in enumerate(_sizes(batch)):
            if record_size > limit:
                raise RecordTooLargeError(
                    f"a record of {record_size} bytes does not fit into a frame of "
                    f"frame_bytes_max={limit} bytes; raise it together with the topic's "
                    "max.message.bytes"
                ).at(target.topic)
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


def bytes_of(batch: Batch) -> int:
    """Memory that the records of a batch take, about: keys, values, headers, and each record."""
    size = _content_bytes(batch)
    for headers in batch.headers or ():
        size += sum(len(name) + len(content or b"") for name, content in headers or ())
    return size + len(batch) * RECORD_MEMORY_BYTES


def _content_bytes(batch: Batch) -> int:
    """Of all keys and values."""
    return sum(map(len, filter(None, batch.keys))) + sum(map(len, filter(None, batch.values)))


def _sizes(batch: Batch) -> Iterator[int]:
    headers: Sequence[Headers | None] = batch.headers or [None] * len(batch)
    for key, value, record_headers in zip(batch.keys, batch.values, headers, strict=True):
        size = RECORD_OVERHEAD_BYTES + len(key or b"") + len(value or b"")
        for name, content in record_headers or ():
            size += 8 + len(name) + len(content or b"")
        yield size


def slice_of(batch: Batch, start: int, end: int) -> Batch:
    """Records `[start, end)` of a batch."""
    headers = None if batch.headers is None else batch.headers[start:end]
    return Batch(
        batch.keys[start:end], batch.values[start:end], batch.timestamps[start:end], headers
    )
