"""One partition of the in-memory Kafka: an append log with transactions and compaction.

As in Kafka: every append takes an offset, transaction markers too; offsets never change and are
never used again; a `read_committed` reader stops at the last stable offset and skips aborted
records; compaction and deletion leave gaps and never move the end.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from kstash.errors import OffsetOutOfRangeError
from kstash.ports.kafka import LOG_APPEND_TIME, Headers
from kstash.testing.clock import ManualClock

CREATE_TIME = 1
"""Kind of a timestamp that the record's producer gave."""


class Outcome(Enum):
    """What became of a transaction."""

    OPEN = "open"
    COMMITTED = "committed"
    ABORTED = "aborted"


@dataclass(eq=False, slots=True)
class Transaction:
    """The records of one transaction, over all partitions that it wrote."""

    transactional_id: str
    outcome: Outcome = Outcome.OPEN
    logs: list[PartitionLog] = field(default_factory=list)

    def end(self, outcome: Outcome) -> None:
        """Commit or abort: one marker goes to each partition that it wrote."""
        assert self.outcome is Outcome.OPEN
        self.outcome = outcome
        for log in self.logs:
            log.append_marker(self)


class MemoryRecord:
    """A record in a log; fulfils `kstash.ports.kafka.Message`."""

    __slots__ = (
        "_headers",
        "_key",
        "_offset",
        "_partition",
        "_timestamp",
        "_topic",
        "_value",
        "is_marker",
        "transaction",
    )

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        timestamp_ms: int,
        transaction: Transaction | None = None,
        timestamp_kind: int = CREATE_TIME,
        is_marker: bool = False,
    ) -> None:
        self._topic = topic
        self._partition = partition
        self._offset = offset
        self._key = key
        self._value = value
        self._headers = headers
        self._timestamp = timestamp_kind, timestamp_ms
        self.transaction = transaction
        self.is_marker = is_marker

    def topic(self) -> str:
        """Name of the topic."""
        return self._topic

    def partition(self) -> int:
        """Partition number."""
        return self._partition

    def offset(self) -> int:
        """Offset in the partition; -1001 when the record was never appended."""
        return self._offset

    def key(self) -> bytes | None:
        """Key bytes."""
        return self._key

    def value(self) -> bytes | None:
        """Value bytes; None is a tombstone."""
        return self._value

    def headers(self) -> Headers | None:
        """A copy of the headers in order, None when there are none."""
        return list(self._headers) if self._headers else None

    def timestamp(self) -> tuple[int, int]:
        """Kind of timestamp, and Unix time in milliseconds."""
        return self._timestamp

    def __repr__(self) -> str:
        return (
            f"MemoryRecord({self._topic}-{self._partition}@{self._offset}, "
            f"key={self._key!r}, value={self._value!r})"
        )


class PartitionLog:
    """One partition: records and markers by offset.

    Args:
        topic: its topic.
        partition: its number.
        config: of the topic, as it is at each append.
        clock: the time where `message.timestamp.type` is `LogAppendTime`.
    """

    def __init__(
        self, topic: str, partition: int, *, config: Mapping[str, str], clock: ManualClock
    ) -> None:
        self.topic = topic
        self.partition = partition
        self._config = config
        self._clock = clock
        self.start_offset = 0
        self.end_offset = 0
        self.unreadable: range | None = None
        """Offsets of a batch that no consumer can read."""
        self._entries: list[MemoryRecord] = []
        self._first_offsets: dict[Transaction, int] = {}

    @property
    def last_stable_offset(self) -> int:
        """Where `read_committed` stops: the start of the oldest open transaction, else the end."""
        return min(self._first_offsets.values(), default=self.end_offset)

    def append(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        timestamp_ms: int,
        transaction: Transaction | None = None,
    ) -> MemoryRecord:
        """Append one record, inside a transaction or outside any."""
        if transaction is not None and transaction not in self._first_offsets:
            self._first_offsets[transaction] = self.end_offset
            transaction.logs.append(self)
        return self._append(key, value, headers, timestamp_ms, transaction, is_marker=False)

    def append_marker(self, transaction: Transaction) -> None:
        """Append the marker that ends a transaction in this partition."""
        del self._first_offsets[transaction]
        self._append(None, None, None, 0, transaction, is_marker=True)

    def _append(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        timestamp_ms: int,
        transaction: Transaction | None,
        *,
        is_marker: bool,
    ) -> MemoryRecord:
        kind = CREATE_TIME
        if self._config.get("message.timestamp.type") == "LogAppendTime":
            kind, timestamp_ms = LOG_APPEND_TIME, self._clock.time_ms()
        record = MemoryRecord(
            topic=self.topic,
            partition=self.partition,
            offset=self.end_offset,
            key=key,
            value=value,
            headers=headers,
            timestamp_ms=timestamp_ms,
            transaction=transaction,
            timestamp_kind=kind,
            is_marker=is_marker,
        )
        self._entries.append(record)
        self.end_offset += 1
        return record

    def read(
        self, offset: int, count_max: int, *, is_committed: bool
    ) -> tuple[Sequence[MemoryRecord], int]:
        """Records from `offset` on, and the offset to read next (past markers and gaps).

        Raises:
            OffsetOutOfRangeError: `offset` is below the log start or beyond the end.
        """
        if not self.start_offset <= offset <= self.end_offset:
            raise OffsetOutOfRangeError(
                f"the log holds offsets {self.start_offset} to {self.end_offset}",
                topic=self.topic,
                partition=self.partition,
                offset=offset,
            )
        limit = self.last_stable_offset if is_committed else self.end_offset
        if self.unreadable is not None and offset < self.unreadable.start:
            limit = min(limit, self.unreadable.start)
        records: list[MemoryRecord] = []
        for index in range(self._index(offset), len(self._entries)):
            record = self._entries[index]
            if record.offset() >= limit:
                break
            if len(records) == count_max:
                return records, record.offset()
            if record.is_marker or (is_committed and _is_aborted(record)):
                continue
            records.append(record)
        return records, max(offset, limit)

    def delete_before(self, offset: int) -> None:
        """`DeleteRecords`: move the log start to `offset`; one below it changes nothing."""
        assert offset <= self.end_offset, (offset, self.end_offset)
        if offset > self.start_offset:
            del self._entries[: self._index(offset)]
            self.start_offset = offset

    def compact(self, *, drops_tombstones: bool = False) -> None:
        """Keep the last record of each key, as the cleaner would, up to the last stable offset.

        Args:
            drops_tombstones: as after `delete.retention.ms`, tombstones and transaction markers
                are removed as well.
        """
        limit = self.last_stable_offset
        newest = {
            record.key(): record.offset()
            for record in self._entries
            if record.offset() < limit and not record.is_marker and not _is_aborted(record)
        }
        self._entries = [
            record
            for record in self._entries
            if record.offset() >= limit or _survives(record, newest, drops_tombstones)
        ]

    def _index(self, offset: int) -> int:
        return bisect_left(self._entries, offset, key=MemoryRecord.offset)


def _is_aborted(record: MemoryRecord) -> bool:
    return record.transaction is not None and record.transaction.outcome is Outcome.ABORTED


def _survives(
    record: MemoryRecord, newest: dict[bytes | None, int], drops_tombstones: bool
) -> bool:
    if record.is_marker:
        return not drops_tombstones
    if _is_aborted(record) or newest[record.key()] != record.offset():
        return False
    return record.value() is not None or not drops_tombstones
