"""When what a record tells of has happened: the timestamps of sources, and what they may be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import compress
from typing import Any, Final

from kstash.errors import TimestampError
from kstash.escape import short_repr
from kstash.operators.calls import Kept, call, kept, refuse
from kstash.operators.flow import Flow
from kstash.operators.step import Scope
from kstash.topology.time_nodes import AHEAD, EventTime

NO_ZERO_MS: Final = 1
"""Stands for the timestamp 0 of an input record: a producer takes 0 for "now", so that an output
would get another timestamp in each replay."""

LATEST_MS: Final = 253_402_300_799_999
"""The end of the year 9999. Who counts in microseconds or nanoseconds is after that."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class EventTimeStep:
    """Gives the records of a source their timestamps and times."""

    def __init__(self, node: EventTime) -> None:
        self.label = node.title
        self.function = node.function
        self.out_of_order_ms = node.out_of_order_ms
        self.max_ahead_ms = node.max_ahead_ms

    def run(self, _side: int, flow: Flow, scope: Scope) -> None:
        """Call the function on each value; a record that is too far ahead is dropped."""
        left, timestamps = self._timestamps(flow, scope)
        if left is not None and self.max_ahead_ms is not None:
            left, timestamps = self._not_ahead(left, timestamps, self.max_ahead_ms, scope)
        if left is None:
            return
        times = timestamps
        if self.out_of_order_ms:
            times = [timestamp - self.out_of_order_ms for timestamp in timestamps]
        # Where time is the smallest over all inputs, another one may hold it back.
        times = scope.task_times(times) or times
        # One column instead of two, which all later operators would carry along.
        scope.out(left.with_times(timestamps, None if times is timestamps else times))

    def _timestamps(self, flow: Flow, scope: Scope) -> Kept:
        if self.function is None:
            return kept(flow, (flow.live_timestamps, refuse_missing(flow, self.label, scope)))
        left, made = call(self.function, flow, flow.live_values, self.label, scope)
        return (None, []) if left is None else self._checked(left, made, scope)

    def _checked(self, flow: Flow, made: list[Any], scope: Scope) -> Kept:
        """What a function has made, as timestamps."""
        if set(map(type, made)) == {int} and min(made) > 0 and max(made) <= LATEST_MS:
            return flow, made
        timestamps: list[int] = []
        refused: list[int] = []
        for index, result in enumerate(made):
            timestamp = _milliseconds(result)
            if isinstance(timestamp, str):
                detail = f"its function made {short_repr(result)}, which is {timestamp}"
                refuse(scope, flow, TimestampError(self.label, detail, record_index=index))
                refused.append(index)
                timestamp = 0
            timestamps.append(timestamp or NO_ZERO_MS)
        return kept(flow, (timestamps, refused))

    def _not_ahead(self, flow: Flow, made: list[int], max_ahead_ms: int, scope: Scope) -> Kept:
        """Those whose timestamps are not too far after those of their Kafka records."""
        left, timestamps = kept(flow, (made, refuse_missing(flow, self.label, scope)))
        if left is None:
            return None, []
        records = zip(timestamps, left.live_timestamps, strict=True)
        mask = [timestamp - of_record <= max_ahead_ms for timestamp, of_record in records]
        scope.dropped(AHEAD, mask.count(False))
        return left.select(mask), list(compress(timestamps, mask))


def refuse_missing(flow: Flow, operator: str, scope: Scope) -> list[int]:
    """Indexes of the records of a source that have no timestamp, and are skipped for it.

    Raises:
        TimestampError: one has none, and is not skipped.
    """
    timestamps = flow.live_timestamps
    if min(timestamps) >= 0:
        return []
    missing = [index for index, timestamp in enumerate(timestamps) if timestamp < 0]
    for index in missing:
        detail = f"the Kafka record has the timestamp {timestamps[index]}, which is none"
        refuse(scope, flow, TimestampError(operator, detail, record_index=index))
    return missing


def event_time_of(result: Any) -> int | None:
    """The timestamp that a function has made, in Unix milliseconds; None when it is none."""
    made = _milliseconds(result)
    return None if isinstance(made, str) else made or NO_ZERO_MS


def _milliseconds(result: Any) -> int | str:
    """What a function has made as Unix milliseconds, or what is wrong with it."""
    if isinstance(result, datetime):
        if result.utcoffset() is None:
            return "without a time zone: give it one, such as tzinfo=datetime.UTC"
        result = (result - _EPOCH) // _MILLISECOND
    elif isinstance(result, bool) or not isinstance(result, int):
        return f"of type {type(result).__name__}: return Unix milliseconds as int, or a datetime"
    if result < 0:
        return "before 1970"
    if result > LATEST_MS:
        return "after the year 9999: Unix time counts in milliseconds here"
    return int(result)
