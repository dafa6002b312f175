"""Records as they stand in a topic, which those that a replay makes are compared with (I9)."""

from __future__ import annotations

from typing import NamedTuple

from kstash.operators.batch import Batch
from kstash.ports.kafka import Headers


class StoredRecord(NamedTuple):
    """A logical record as it stands in a topic.

    Attributes:
        timestamp_ms: Unix time; None where it is the broker's (H43).
    """

    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None
    headers: Headers | None


def stored_record(batch: Batch, index: int, *, has_values: bool) -> StoredRecord:
    """One record of a batch in the form that is compared, which a topic may have no values in."""
    headers = batch.headers[index] if batch.headers is not None else None
    value = batch.values[index] if has_values else None
    return StoredRecord(batch.keys[index], value, batch.timestamps[index], headers or None)


def is_same(made: StoredRecord, stored: StoredRecord) -> bool:
    """Whether a record that was made again is the stored one."""
    if stored.timestamp_ms is None:
        made = made._replace(timestamp_ms=None)
    return made == stored
