"""What functions of users are given and give back beside plain values."""

from __future__ import annotations

import enum
from typing import Any, Final, Generic, NamedTuple, TypeVar

from kstash.ports.kafka import Headers

V = TypeVar("V")


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

    DELETE = "DELETE"


DELETE: Final = Deletion.DELETE
"""Returned by the function of `reduce` or `aggregate`: the state of the key is deleted, and None is
sent on, a tombstone. The next record of the key begins anew."""
