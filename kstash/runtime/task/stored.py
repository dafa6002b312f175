"""Records as they stand in a topic, which those that a replay makes are compared with (I9)."""

from __future__ import annotations

from typing import NamedTuple

from kstash.core.frames import Columns
from kstash.operators.batch import Batch
from kstash.ports.kafka import Headers


class StoredRecord(NamedTuple):
    """A logical record as it stands in a topic.

    Attributes:
        timestamp_ms: Unix time; None where it is the broker's (H43).
        time_ms: the event time that a frame says with it; None: none.
        is_control: whether it says that and nothing else.
    """

    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None
    headers: Headers | None
    time_ms: int | None = None
    is_control: bool = False


def stored_record(batch: Batch, index: int, *, has_values: bool) -> StoredRecord:
    """One record of a batch in the form that is compared, which a topic may have no values in."""
    headers = batch.headers[index] if batch.headers is not None else None
    value = batch.values[index] if has_values else None
    return StoredRecord(
        batch.keys[index],
        value,
        batch.timestamps[index],
        headers or None,
        None if batch.times is None else batch.times[index],
        is_control=batch.is_control,
    )


def framed_record(columns: Columns, index: int) -> StoredRecord:
    """One record of a frame in that form."""
    headers = columns.headers[index] if columns.headers is not None else None
    return StoredRecord(
        columns.keys[index],
        columns.values[index],
        columns.timestamps[index],
        headers or None,
        None if columns.times is None else columns.times[index],
        is_control=index in columns.controls,
    )


def is_same(made: StoredRecord, stored: StoredRecord) -> bool:
    """Whether a record that was made again is the stored one."""
    if stored.timestamp_ms is None:
        made = made._replace(timestamp_ms=None)
    return made == stored
