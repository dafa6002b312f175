"""From consumed Kafka records to batches of logical records, through the reader rule."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from kstash.core.frames import Columns, decode_frame
from kstash.core.reader import ReaderTable
from kstash.core.wire import (
    HEADER_PREFIX,
    IDENTITY_HEADER,
    MARKER_HEADER,
    Identity,
    Marker,
    decode_identity,
    decode_marker,
)
from kstash.errors import LocatedError, WireCorruptError
from kstash.operators.batch import Batch
from kstash.ports import Headers, Message

NO_ZERO_MS = 1
"""Stands for the timestamp 0 of an input record: a producer takes 0 for "now", so that an output
would get another timestamp in each replay."""

BATCH_RECORDS = 2_000
"""Logical records in a batch of frames, at which it is closed: bounds memory and the wait of the
outputs of its first record for its last one."""


@dataclass(frozen=True, slots=True)
class Events:
    """What a run of consumed records of one input amounts to.

    Attributes:
        batch: logical records, encoded.
        count: events among the records: those the reader rule does not drop wholly.
        end_offset: offset behind the last event, or -1 when there is none.
        next_offset: offset behind the last record, dropped ones and markers included.
        sizes: logical records per event; None when each event is one record.
        offsets: offsets of the events, to name the record that user code failed on.
        taken: records taken of those given.
    """

    batch: Batch
    count: int
    end_offset: int
    next_offset: int
    sizes: list[int] | None
    offsets: list[int]
    taken: int


def kstash_headers(message: Message) -> tuple[Identity | None, Marker | None]:
    """Decode what a record's headers say of itself; its chunk is for recovery only.

    Raises:
        WireCorruptError: naming topic, partition and offset.
    """
    identity: Identity | None = None
    marker: Marker | None = None
    try:
        for name, value in message.headers() or ():
            if name == IDENTITY_HEADER:
                identity = decode_identity(value or b"")
            elif name == MARKER_HEADER:
                marker = decode_marker(value or b"")
    except WireCorruptError as error:
        raise located(error, message) from error
    return identity, marker


def located(error: LocatedError, message: Message) -> LocatedError:
    """Add a record's place to an error."""
    return error.at(message.topic(), message.partition(), message.offset())


def user_headers(headers: Headers | None) -> Headers | None:
    """Headers without kstash's own, or None when nothing is left."""
    if not headers:
        return None
    kept = [header for header in headers if not header[0].startswith(HEADER_PREFIX)]
    return kept or None


def decode_external(messages: Sequence[Message], skips: Collection[int] = ()) -> Events:
    """Records of a user topic: every one is an event, also one at an offset of `skips` (H17)."""
    offsets = [m.offset() for m in messages]
    end, count = offsets[-1] + 1, len(messages)
    sizes: list[int] | None = None
    if skips:
        sizes = [int(offset not in skips) for offset in offsets]
        messages = [m for m, size in zip(messages, sizes, strict=True) if size]
    headers: list[Headers | None] | None = [user_headers(m.headers()) for m in messages]
    assert headers is not None
    if not any(headers):
        headers = None
    batch = Batch(
        [m.key() for m in messages],
        [m.value() for m in messages],
        [m.timestamp()[1] or NO_ZERO_MS for m in messages],
        headers,
    )
    return Events(batch, count, end, end, sizes, offsets, count)


def decode_ruled(
    messages: Iterable[Message],
    table: ReaderTable,
    *,
    is_frames: bool,
    skips: Collection[int] = (),
    events_max: int | None = None,
) -> Events:
    """Records under the reader rule: frames of an internal topic, or another app's outputs.

    A record at an offset of `skips` is an event without logical records (H17).

    Takes records until the batch holds `BATCH_RECORDS` logical ones or `events_max` events, at
    least one record.

    Raises:
        WireCorruptError, SequenceGapError: naming topic, partition and offset.
    """
    batch = Batch()
    sizes: list[int] = []
    offsets: list[int] = []
    taken = 0
    last: Message | None = None
    for message in messages:
        if len(batch.keys) >= BATCH_RECORDS or len(sizes) == events_max:
            break
        taken += 1
        last = message
        identity, marker = kstash_headers(message)
        try:
            if marker is not None:
                table.mark(marker)
                continue
            if identity is None:
                raise WireCorruptError(
                    "record without an identity header"
                    if is_frames
                    else "record without an identity header: immediate_of= is for sinks with "
                    "immediate delivery; read any other topic without it"
                )
            skip = table.accept(identity)
            if skip == identity.count:
                continue
            if message.offset() in skips:
                sizes.append(0)
                offsets.append(message.offset())
                continue
            if is_frames:
                columns = decode_frame(message.value(), identity.count)
            else:
                columns = _single(message)
        except LocatedError as error:
            raise located(error, message) from error
        _extend(batch, columns, skip)
        sizes.append(identity.count - skip)
        offsets.append(message.offset())
    assert last is not None
    end = offsets[-1] + 1 if offsets else -1
    return Events(batch, len(sizes), end, last.offset() + 1, sizes, offsets, taken)


def offset_of(events: Events, record_index: int) -> int | None:
    """Offset of the Kafka record that held logical record `record_index` of the batch."""
    if events.sizes is None:
        return events.offsets[record_index] if record_index < len(events.offsets) else None
    for size, offset in zip(events.sizes, events.offsets, strict=True):
        if record_index < size:
            return offset
        record_index -= size
    return None


def _single(message: Message) -> Columns:
    headers = user_headers(message.headers())
    return Columns(
        [message.key()],
        [message.value()],
        [message.timestamp()[1] or NO_ZERO_MS],
        [headers] if headers else None,
    )


def _extend(batch: Batch, columns: Columns, skip: int) -> None:
    if columns.headers is not None and batch.headers is None:
        batch.headers = [None] * len(batch.keys)
    if batch.headers is not None:
        batch.headers += (columns.headers or [None] * len(columns.keys))[skip:]
    if skip:
        columns = Columns(
            columns.keys[skip:], columns.values[skip:], columns.timestamps[skip:], None
        )
    batch.keys += columns.keys
    batch.values += columns.values
    batch.timestamps += columns.timestamps
