"""Appends one group's segments and other records to the lineage topic, after its outputs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from kstash.core.record_codec import encode_value
from kstash.core.record_keys import encode_key
from kstash.core.records import LineageRecord, Segment
from kstash.failpoints import around
from kstash.ports.kafka import DeliveredMessage, OnDelivery
from kstash.runtime.context import Producers, Services
from kstash.runtime.lineage_points import ACKS, APPENDS
from kstash.runtime.task.task import Task


class _Unacked(NamedTuple):
    """A segment on its way.

    Attributes:
        sent_s: monotonic time at which it was handed over.
        entries: determinants in it.
        size: bytes of its value.
        stage: whose it is.
        end: position after the events that it holds.
    """

    sent_s: float
    entries: int
    size: int
    stage: int
    end: int


class LineageWriter:
    """Appends to the group's lineage partition, in order, and reports to tasks what is stable.

    Args:
        topic: the lineage topic.
        group: number of the task group, and of its partition.
        producers: of the worker.
        services: of the process.
        is_logging: whether segments are kept at all (not for the guarantees without them).
        on_segment: gets every segment that is handed over.

    Attributes:
        unacked_bytes: lineage handed over and not acknowledged.
        task_bytes: lineage appended per stage since the last checkpoint of its task.
        appended_s: monotonic time of the last append of any record.
    """

    def __init__(
        self,
        topic: str,
        group: int,
        *,
        producers: Producers,
        services: Services,
        is_logging: bool,
        on_segment: Callable[[Segment], None],
    ) -> None:
        self._topic = topic
        self._producers = producers
        self._services = services
        self._is_logging = is_logging
        self._group = group
        self._on_segment = on_segment
        self._is_alive = True
        self._unacked: deque[_Unacked] = deque()
        self.unacked_bytes = 0
        self.appended_s = self._services.clock.monotonic()
        self.task_bytes: dict[int, int] = {}

    @property
    def has_unacked(self) -> bool:
        """Whether segments wait for their acknowledgement."""
        return bool(self._unacked)

    @property
    def unacked_entries(self) -> int:
        """Determinants handed over and not acknowledged."""
        return sum(segment.entries for segment in self._unacked)

    def oldest_age_s(self, now: float) -> float:
        """Seconds since the oldest unacknowledged segment was handed over; 0 when none is."""
        return now - self._unacked[0].sent_s if self._unacked else 0.0

    def flush(self, task: Task) -> None:
        """Append what the task has gathered; does not wait."""
        if not self._is_logging:
            return
        for segment in task.core.take_segments():
            value = encode_value(segment)
            size, entries = len(value), len(segment.entries)
            self.unacked_bytes += size
            stage = task.stage.index
            self.task_bytes[stage] = self.task_bytes.get(stage, 0) + size
            now = self._services.clock.monotonic()
            self._unacked.append(_Unacked(now, entries, size, stage, segment.end))
            self._services.metrics.count("lineage_appended_entries", entries)
            self._services.metrics.count("lineage_appended_bytes", size)
            acked = partial(self._acked, task, segment.end)
            with around("lineage.segment.append"):
                self._produce(encode_key(segment), value, acked)
            self._on_segment(segment)

    def append(self, record: LineageRecord, on_acked: Callable[[], None]) -> None:
        """Append another record; `on_acked` is called unless the group is given up before."""

        def delivered(error: Any, _: DeliveredMessage) -> None:
            # A failure makes the producer fail as a whole, which its `poll` reports.
            if self._is_alive and error is None:
                with around(ACKS[type(record)]):
                    on_acked()

        with around(APPENDS[type(record)]):
            self._produce(encode_key(record), encode_value(record), delivered)

    def tombstone(self, key: bytes) -> None:
        """Give up a record; when this fails, with the producer, the next recovery does it."""
        with around("lineage.tombstone.append"):
            self._produce(key, None, None)

    def close(self) -> None:
        """Ignore what is acknowledged from now on."""
        self._is_alive = False

    def _acked(self, task: Task, end: int, error: Any, _: DeliveredMessage) -> None:
        if error is not None or not self._is_alive:
            return
        metrics = self._services.metrics
        oldest = self._unacked.popleft()
        # What is stable goes by it: a producer that is idempotent acknowledges in order.
        assert (oldest.stage, oldest.end) == (task.stage.index, end), "acknowledged out of order"
        self.unacked_bytes -= oldest.size
        metrics.count("lineage_acked_entries", oldest.entries)
        metrics.count("lineage_acked_bytes", oldest.size)
        metrics.observe("lineage_ack_seconds", self._services.clock.monotonic() - oldest.sent_s)
        with around("lineage.segment.ack"):
            for outgoing in task.core.on_segment_acked(end):
                task.send(outgoing)

    def _produce(self, key: bytes, value: bytes | None, on_delivery: OnDelivery | None) -> None:
        self.appended_s = self._services.clock.monotonic()
        self._producers.lineage.produce(
            topic=self._topic,
            value=value,
            key=key,
            partition=self._group,
            on_delivery=on_delivery,
            timestamp_ms=self._services.clock.time_ms(),
            headers=None,
        )
