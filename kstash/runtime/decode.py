"""From consumed Kafka records to batches of logical records, through the reader rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from kstash.core.reader import ReaderState
from kstash.core.skips import NO_SKIPS, InputSkips
from kstash.core.watermark import InputTime
from kstash.core.wire import Identity
from kstash.errors import LocatedError, RecordUnreadableError, WireCorruptError
from kstash.operators.batch import Batch
from kstash.operators.event_time import NO_ZERO_MS
from kstash.operators.slices import drop_head
from kstash.ports.kafka import Headers, Message, Partition
from kstash.runtime.columns import add_columns, columns_left, columns_of
from kstash.runtime.headers import check_owner, headers_of, sink_identity, user_headers
from kstash.runtime.places import located, place_of

DROPPED = ("repeated", "fenced", "skipped")
"""Why an input record counts for nothing: it came before, its writer's incarnation was fenced, or
`skip_records` names it."""

BATCH_RECORDS = 2_000
"""Logical records in a batch of frames, at which it is closed: bounds memory and the wait of the
outputs of its first record for its last one."""


@dataclass(frozen=True, slots=True)
class Events:
    """What a run of consumed records of one input amounts to.

    Attributes:
        batch: logical records, encoded.
        count: events among the records: those the reader rule does not drop wholly.
        end_offset: offset after the last event, or -1 when there is none.
        next_offset: offset after the last record, dropped ones and markers included.
        sizes: logical records per event; None when each event is one record.
        offsets: offsets of the events, to name the record that user code failed on.
        taken: records taken of those given.
        cuts: of each event that is a frame, how much of its head had come before.
        dropped: logical records that count for nothing, by why (`DROPPED`); None when there are
            none.
        end_time: how far event time has come in the input after them; None: nobody says.
    """

    batch: Batch
    count: int
    end_offset: int
    next_offset: int
    sizes: list[int] | None
    offsets: list[int]
    taken: int
    cuts: list[int] = field(default_factory=list)
    dropped: Counter[str] | None = None
    end_time: int | None = None


def decode_external(messages: Sequence[Message], skips: InputSkips = NO_SKIPS) -> Events:
    """Records of a user topic: every one is an event, also one that is skipped (H17).

    Those in a gap of `skips` are none.

    Raises:
        RecordUnreadableError: headers cannot be read; names topic, partition and offset.
    """
    next_offset, taken = messages[-1].offset() + 1, len(messages)
    dropped: Counter[str] | None = None
    if skips.gaps:
        messages = [m for m in messages if skips.gap_end(m.offset()) is None]
    offsets = [m.offset() for m in messages]
    sizes: list[int] | None = None
    if skips.whole:
        sizes = [int(offset not in skips.whole) for offset in offsets]
        messages = [m for m, size in zip(messages, sizes, strict=True) if size]
    if len(messages) < taken:
        dropped = Counter(skipped=taken - len(messages))
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
    return _events(batch, offsets, next_offset, taken, sizes=sizes, dropped=dropped)


def decode_ruled(
    messages: Iterable[Message],
    reader: ReaderState,
    *,
    is_frames: bool,
    skips: InputSkips = NO_SKIPS,
    events_max: int | None = None,
    records_max: int = BATCH_RECORDS,
    time: InputTime | None = None,
) -> Events:
    """Records under the reader rule: frames of an internal topic, or another app's outputs.

    A record that is skipped is an event without logical records (H17); so is one whose headers do
    not decode or break the rule, but that one is no event: whose it is cannot be known.

    Control records are no records of the batch. With `time` each record has the input's with it.

    Takes records until the batch holds `records_max` logical ones or `events_max` events, at
    least one record.

    Raises:
        WireCorruptError, SequenceGapError, TopicSharedError, RecordUnreadableError: naming topic,
            partition and offset.
    """
    batch = Batch(times=None if time is None else [])
    sizes: list[int] = []
    offsets: list[int] = []
    cuts: list[int] = []
    dropped: Counter[str] = Counter()
    taken = 0
    end_time: int | None = None
    last: Message | None = None
    for message in messages:
        if len(batch.keys) >= records_max or len(sizes) == events_max:
            break
        taken += 1
        last = message
        try:
            found = _take(batch, message, reader, skips, time, dropped=dropped, is_frames=is_frames)
        except LocatedError as error:
            if isinstance(error, WireCorruptError | RecordUnreadableError):
                error.skip = place_of(message, "all" if is_frames else None)
            raise located(error, message) from error
        if found is None:
            continue
        cuts.append(found[0])
        sizes.append(found[1])
        offsets.append(message.offset())
        end_time = end_time if found[2] is None else found[2]
    assert last is not None
    return _events(
        batch,
        offsets,
        last.offset() + 1,
        taken,
        sizes=sizes,
        cuts=cuts,
        dropped=dropped or None,
        end_time=end_time,
    )


def _take(
    batch: Batch,
    message: Message,
    reader: ReaderState,
    skips: InputSkips,
    time: InputTime | None,
    *,
    dropped: Counter[str],
    is_frames: bool,
) -> tuple[int, int, int | None] | None:
    """Add what counts of a record to a batch.

    Returns:
        How much of its head had come before, how much was added, and how far event time has come in
        the input with it, if anybody says; None when it is no event.
    """
    event = read_event(message, reader, is_frames=is_frames, skips=skips)
    if event is None:
        _count_dropped(dropped, message, reader, skips, is_frames=is_frames)
        return None
    cut, identity = event
    if cut:
        dropped["repeated"] += cut
    offset, head = message.offset(), cut
    if skips and (offset in skips.whole or offset in skips.parts):
        columns, head = columns_left(message, cut, identity.count, skips, is_frames=is_frames), 0
        dropped["skipped"] += identity.count - cut - len(columns.keys)
    else:
        columns = columns_of(message, identity.count, is_frames=is_frames)
    return cut, *add_columns(batch, columns, head, identity.task, time)


def _events(
    batch: Batch,
    offsets: list[int],
    next_offset: int,
    taken: int,
    *,
    sizes: list[int] | None,
    cuts: list[int] | None = None,
    dropped: Counter[str] | None,
    end_time: int | None = None,
) -> Events:
    return Events(
        batch=batch,
        count=len(offsets),
        end_offset=offsets[-1] + 1 if offsets else -1,
        next_offset=next_offset,
        sizes=sizes,
        offsets=offsets,
        taken=taken,
        cuts=cuts or [],
        dropped=dropped,
        end_time=end_time,
    )


def _count_dropped(
    dropped: Counter[str],
    message: Message,
    reader: ReaderState,
    skips: InputSkips,
    *,
    is_frames: bool,
) -> None:
    """Count a record that is no event by why; markers are no records of anybody's.

    Decoded once more: there are few of them, and the others must not carry what is asked here.
    """
    if skips and (skips.gap_end(message.offset()) is not None or message.offset() in skips.whole):
        dropped["skipped"] += 1
        return
    identity, marker = headers_of(message) if is_frames else (sink_identity(message), None)
    if identity is None or marker is not None:
        return
    # One that passes raises the reader to its own incarnation.
    newest = reader.max_incarnation.get((identity.application, identity.task.partition))
    dropped["repeated" if newest == identity.incarnation else "fenced"] += identity.count


def read_event(
    message: Message, reader: ReaderState, *, is_frames: bool, skips: InputSkips = NO_SKIPS
) -> tuple[int, Identity] | None:
    """Apply the reader rule to one record.

    Markers count on internal topics only: what looks like one elsewhere is none.

    Returns:
        How much of its head had come before, and who wrote how many logical records; None when it
        is no event.

    Raises:
        WireCorruptError, SequenceGapError: without the place.
        TopicSharedError: naming topic, partition and offset.
    """
    if skips and skips.gap_end(message.offset()) is not None:
        return None
    try:
        if is_frames:
            identity, marker = headers_of(message)
            check_owner(message, identity or marker, reader.application)
            if marker is not None:
                reader.mark(marker)
                return None
            if identity is None:
                raise WireCorruptError("record without an identity header")
        else:
            identity = sink_identity(message)
            if identity is None:
                raise WireCorruptError(
                    "record without an identity header: immediate_of= is for sinks with "
                    "immediate delivery; read any other topic without it"
                )
        cut = reader.accept(identity)
    except LocatedError:
        if message.offset() in skips.whole:
            return None
        raise
    return None if cut == identity.count else (cut, identity)


def add_place(
    error: LocatedError,
    partition: Partition,
    events: Events,
    record_index: int,
    *,
    skips: InputSkips,
    is_frames: bool,
) -> None:
    """Add to an error the place of logical record `record_index` of a batch."""
    found = record_of(events, record_index, skips)
    if found is None:
        error.at(*partition)
        return
    offset, index = found
    error.at(*partition, offset)
    error.skip = f"{partition[0]}/{partition[1]}/{offset}"
    if is_frames:
        error.index = index
        error.skip += f"/{index}"


def record_of(
    events: Events, record_index: int, skips: InputSkips = NO_SKIPS
) -> tuple[int, int] | None:
    """(Offset of the Kafka record, index in it) of logical record `record_index` of the batch."""
    if events.sizes is None:
        if record_index < len(events.offsets):
            return events.offsets[record_index], 0
        return None
    cuts = events.cuts or [0] * len(events.offsets)
    for size, offset, cut in zip(events.sizes, events.offsets, cuts, strict=True):
        if record_index < size:
            index, skipped = cut, skips.parts.get(offset, ())
            while record_index or index in skipped:
                record_index -= index not in skipped
                index += 1
            return offset, index
        record_index -= size
    return None


def records_below(events: Events, index: int, skips: InputSkips) -> int:
    """How many logical records of the first event lie before an index in its frame."""
    skipped = skips.parts.get(events.offsets[0], ())
    return sum(1 for at in range(events.cuts[0], index) if at not in skipped)


def without_head(events: Events, taken: int, skips: InputSkips) -> Events:
    """Events without what lies before an index in the frame that is the first of them."""
    assert events.sizes is not None
    head = records_below(events, taken, skips)
    assert head <= events.sizes[0], "a frame of which more was taken than there is"
    return replace(
        events,
        batch=drop_head(events.batch, head),
        sizes=[events.sizes[0] - head, *events.sizes[1:]],
        cuts=[taken, *events.cuts[1:]],
    )
