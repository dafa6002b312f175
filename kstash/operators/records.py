"""Functions that are given records, and give some back: with other keys, timestamps and headers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import chain
from typing import Any, Generic, TypeVar

from kstash.escape import short_repr
from kstash.operators.calls import call, decode_keys
from kstash.operators.event_time import LATEST_MS, NO_ZERO_MS
from kstash.operators.flow import Expanded, Flow, repeated
from kstash.operators.step import Scope
from kstash.operators.user_headers import checked_headers
from kstash.ports.kafka import Headers
from kstash.topology.record import Record
from kstash.topology.record_nodes import FlatMapRecords, MapRecords, RecordApply
from kstash.topology.user_code import check_results, function_place

Made = TypeVar("Made")


def records_of(flow: Flow) -> list[Record]:
    """The columns of a flow with live keys, put together."""
    headers = flow.headers or [None] * flow.count
    return list(map(Record, flow.live_keys, flow.live_values, flow.live_timestamps, headers))


class _RecordStep(ABC, Generic[Made]):
    """What both kinds share: each result is checked with its record."""

    def __init__(self, node: RecordApply) -> None:
        self.label = node.title
        self.function = node.function
        self.own_key = node.key

    def run(self, _side: int, flow: Flow, scope: Scope) -> None:
        """Call the function on each record."""
        live = decode_keys(flow, self.label, scope)
        if live is None:
            return
        left, made = call(self.made_of, live, records_of(live), self.label, scope)
        if left is not None:
            self.send(left, made, scope)

    @abstractmethod
    def made_of(self, record: Record) -> Made:
        """What the function makes of a record, checked."""

    @abstractmethod
    def send(self, flow: Flow, made: list[Made], scope: Scope) -> None:
        """Send what was made of each record of a flow on."""

    def checked(self, result: Any, record: Record) -> Record:
        """A result as it goes on."""
        if not isinstance(result, Record):
            raise TypeError(
                f"{function_place(self.function)} made {short_repr(result)}: give a Record back, "
                "such as record.with_(value=...)"
            )
        key, timestamp_ms, headers = record.key, record.timestamp_ms, record.headers
        if self.own_key is not None:
            key = result.key
        elif result.key is not key and result.key != key:
            raise ValueError(
                f"the result has another key, {short_repr(result.key)}, than its record: give "
                "the serde of such keys as key="
            )
        if result.timestamp_ms != timestamp_ms:
            timestamp_ms = _timestamp(result.timestamp_ms)
        if result.headers is not headers:
            headers = _headers(result.headers)
        return Record(key, result.value, timestamp_ms, headers)

    def send_counted(self, flow: Flow, made: list[Record], counts: list[int], scope: Scope) -> None:
        """Send results on, so many of each record of a flow.

        What a result says of stream time moves with its timestamp.
        """
        if not made:
            return
        is_same = len(made) == flow.count and set(counts) == {1}
        trail = flow.trail if is_same else Expanded(flow.trail, counts)
        keys, values, timestamps, headers = map(list, zip(*made, strict=True))
        encoded, times = None, None
        if self.own_key is None and flow.encoded is not None:
            encoded = repeated(flow.encoded, counts)
        if flow.event_times is not None:
            before = zip(flow.event_times, flow.live_timestamps, strict=True)
            held = repeated([stamp - time for time, stamp in before], counts)
            times = [stamp - late for stamp, late in zip(timestamps, held, strict=True)]
        scope.out(
            Flow(
                count=len(made),
                keys=keys,
                encoded=encoded,
                key_serde=self.own_key or flow.key_serde,
                values=values,
                timestamps=timestamps,
                headers=headers if any(headers) else None,
                trail=trail,
                event_times=times,
            )
        )


class MapRecordsStep(_RecordStep[Record]):
    """A new record of each."""

    def __init__(self, node: MapRecords) -> None:
        super().__init__(node)

    def made_of(self, record: Record) -> Record:
        """The result of the function."""
        return self.checked(self.function(record), record)

    def send(self, flow: Flow, made: list[Record], scope: Scope) -> None:
        """Send the results on."""
        self.send_counted(flow, made, [1] * flow.count, scope)


class FlatMapRecordsStep(_RecordStep[list[Record]]):
    """Any number of new records of each."""

    def __init__(self, node: FlatMapRecords) -> None:
        super().__init__(node)

    def made_of(self, record: Record) -> list[Record]:
        """The results of the function."""
        results = self.function(record)
        if isinstance(results, Record):
            raise TypeError(
                f"{function_place(self.function)} made one Record: give a list of such, or use "
                "map_records"
            )
        check_results(self.function, results)
        return [self.checked(result, record) for result in results]

    def send(self, flow: Flow, made: list[list[Record]], scope: Scope) -> None:
        """Put the results end to end, and send them on."""
        self.send_counted(flow, list(chain.from_iterable(made)), list(map(len, made)), scope)


def _timestamp(timestamp_ms: Any) -> int:
    if type(timestamp_ms) is not int or not 0 <= timestamp_ms <= LATEST_MS:
        raise ValueError(
            "a timestamp is an integer of Unix milliseconds, from 0 to the end of the year 9999, "
            f"not {short_repr(timestamp_ms)}"
        )
    return timestamp_ms or NO_ZERO_MS


def _headers(headers: Any) -> Headers | None:
    """Headers of a user; None or empty for none."""
    return checked_headers("a Record has as headers", headers or []) or None
