"""Internal topics as outputs of a task: from a batch to frames of logical records."""

from __future__ import annotations

from collections.abc import Iterator

from kstash.core.frames import encode_frame
from kstash.core.outputs import Outgoing
from kstash.core.wire import IDENTITY_HEADER, LINEAGE_HEADER
from kstash.failpoints import around
from kstash.operators.batch import Batch
from kstash.operators.sizes import RECORD_OVERHEAD_BYTES, content_bytes, record_sizes
from kstash.operators.slices import slice_of
from kstash.ports.kafka import Headers, OnDelivery, Producer
from kstash.runtime.task.outputs import OutputParts, TaskOutput

FRAME_RECORDS_MAX = 500
"""Records in a frame, at most: a frame is one event, which nothing interrupts at its reader."""


class FrameOutput(TaskOutput):
    """An internal topic: frames of logical records.

    Args:
        parts: what every output is made of.
        producer: takes the frames at once: their readers know whose lineage is missing.
        frame_bytes_max: content of a frame, unless a single record is larger.
    """

    ack_point = "frame.ack"

    def __init__(self, parts: OutputParts, *, producer: Producer, frame_bytes_max: int) -> None:
        super().__init__(parts)
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
                times=part.times,
                controls=range(len(part)) if part.is_control else (),
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
