"""What functions of users are given and give back beside plain values."""

from __future__ import annotations

import enum
from typing import Any, Final, NamedTuple

from kstash.ports.kafka import Headers


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


class Deletion(enum.Enum):
    """The type of `DELETE`, for annotations: `def f(state: S, value: V) -> S | kstash.Deletion`."""

    DELETE = "DELETE"


DELETE: Final = Deletion.DELETE
"""Returned by the function of `reduce` or `aggregate`: the state of the key is deleted, and None is
sent on, a tombstone. The next record of the key begins anew."""
