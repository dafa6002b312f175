"""What of a frame's columns becomes part of a batch."""

from __future__ import annotations

from collections.abc import Collection

from kstash.core.frames import Columns, decode_frame
from kstash.core.ids import TaskId
from kstash.core.skips import InputSkips
from kstash.core.watermark import BEFORE_ALL_MS, InputTime
from kstash.operators.batch import Batch
from kstash.operators.event_time import NO_ZERO_MS
from kstash.ports.kafka import Message
from kstash.runtime.headers import user_headers


def add_columns(
    batch: Batch, columns: Columns, head: int, writer: TaskId, time: InputTime | None
) -> tuple[int, int | None]:
    """Add the records of a frame to a batch; control records are none.

    Args:
        batch: of what was read before.
        columns: of the frame.
        head: so many records of it came before.
        writer: of the frame.
        time: of the input, in watermark mode.

    Returns:
        How many records were added, and how far event time has come in the input after them; None
        where nobody says.
    """
    latest: int | None = None
    if time is not None and len(columns.keys) > head:
        columns = _heard(columns, head, writer, time)
        assert columns.times is not None
        latest = columns.times[-1]
    if columns.controls:
        columns, head = without_columns(columns, head, columns.controls), 0
    _extend(batch, columns, head)
    return len(columns.keys) - head, latest


def without_columns(columns: Columns, cut: int, parts: Collection[int]) -> Columns:
    """Columns without their head, and without the records at some indices."""
    kept = [index for index in range(cut, len(columns.keys)) if index not in parts]
    headers = columns.headers
    return Columns(
        [columns.keys[index] for index in kept],
        [columns.values[index] for index in kept],
        [columns.timestamps[index] for index in kept],
        None if headers is None else [headers[index] for index in kept],
        times=None if columns.times is None else [columns.times[index] for index in kept],
        controls=tuple(new for new, index in enumerate(kept) if index in columns.controls),
    )


def _heard(columns: Columns, head: int, task: TaskId, time: InputTime) -> Columns:
    """A frame after its head, with the input's time at each record instead of its writer's."""
    said = columns.times or [BEFORE_ALL_MS] * len(columns.keys)
    if not head:
        return columns._replace(times=time.hear(task, said))
    return columns._replace(times=[*said[:head], *time.hear(task, said[head:])])


def _extend(batch: Batch, columns: Columns, skip: int) -> None:
    """Add records of a frame to a batch, but for so many at the head."""
    if columns.headers is not None and batch.headers is None:
        batch.headers = [None] * len(batch.keys)
    if batch.headers is not None:
        batch.headers += (columns.headers or [None] * len(columns.keys))[skip:]
    if batch.times is not None:
        batch.times += (columns.times or ())[skip:]
    if skip:
        columns = Columns(
            columns.keys[skip:], columns.values[skip:], columns.timestamps[skip:], None
        )
    batch.keys += columns.keys
    batch.values += columns.values
    batch.timestamps += columns.timestamps


def _single(message: Message) -> Columns:
    headers = user_headers(message.headers())
    return Columns(
        [message.key()],
        [message.value()],
        [message.timestamp()[1] or NO_ZERO_MS],
        [headers] if headers else None,
    )


def columns_of(message: Message, count: int, *, is_frames: bool) -> Columns:
    """All logical records of a Kafka record."""
    return decode_frame(message.value(), count) if is_frames else _single(message)


def columns_left(
    message: Message, cut: int, count: int, skips: InputSkips, *, is_frames: bool
) -> Columns:
    """What is left of a record of which some is skipped; one that is skipped wholly is not read."""
    if message.offset() in skips.whole:
        return Columns([], [], [], None)
    columns = columns_of(message, count, is_frames=is_frames)
    return without_columns(columns, cut, skips.parts[message.offset()])
