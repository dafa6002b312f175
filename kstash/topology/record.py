"""What functions of users are given and give back beside plain values."""

from __future__ import annotations

import enum
from typing import Any, Final, Generic, NamedTuple, TypeVar

from kstash.ports.kafka import Headers
from kstash.serdes import DELETION

V = TypeVar("V")


class _Kept(enum.Enum):
    """The type of `_KEPT`."""

    KEPT = "KEPT"


_KEPT: Final = _Kept.KEPT
"""Stands for what a record has already."""


class Record(NamedTuple):
    """A value with all that came with it; see `Stream.records`.

    Attributes:
        key: live key, None for a null key.
        value: live value, None for a tombstone.
        timestamp_ms: Unix milliseconds.
        headers: user headers in order, or None.
    """

    key: Any
    value: Any
    timestamp_ms: int
    headers: Headers | None

    def with_(
        self,
        *,
        key: Any = _KEPT,
        value: Any = _KEPT,
        timestamp_ms: int | None = None,
        headers: Headers | _Kept | None = _KEPT,
    ) -> Record:
        """The record with another key, value, timestamp or other headers; see `map_records`.

        Args:
            key: None for a null key.
            value: None for a tombstone.
            timestamp_ms: Unix milliseconds, 0 or more; None: as it is.
            headers: None or empty for none.
        """
        return Record(
            self.key if key is _KEPT else key,
            self.value if value is _KEPT else value,
            self.timestamp_ms if timestamp_ms is None else timestamp_ms,
            self.headers if isinstance(headers, _Kept) else headers,
        )


class RecordOrigin(NamedTuple):
    """Where a record was read; see `Context.origin`.

    Attributes:
        topic: its name; after a repartition that of the internal topic.
        partition: its number.
        offset: of the Kafka record.
        number: of the record within that one, which is a frame on an internal topic; else 0.
    """

    topic: str
    partition: int
    offset: int
    number: int


class Late(NamedTuple, Generic[V]):
    """A value that came too late for windows; see `WindowResults.late`.

    Attributes:
        value: of the record, None for a tombstone.
        windows: start and end in Unix milliseconds of each that it missed, in order. There are none
            where the record's time is before the first window.
    """

    value: V
    windows: tuple[tuple[int, int], ...]


class Deletion(enum.Enum):
    """The type of `DELETE`, for annotations: `def f(state: S, value: V) -> S | kstash.Deletion`."""

    DELETE = DELETION


DELETE: Final = Deletion.DELETE
"""Returned as the state by the function of `reduce`, `aggregate` or `with_state`: the state of the
key is deleted. `reduce` and `aggregate` send None on, a tombstone. The next record of the key
begins anew. It is no value: where one is written, it is an error."""

NOT_SENT: Final = (
    "DELETE is what the function of reduce, aggregate or with_state returns in place of a state, "
    "and no value: a tombstone is None"
)
"""Why it is refused as a value."""
