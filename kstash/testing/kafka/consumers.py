"""Consumers of the in-memory Kafka."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from kstash.errors import RecordUnreadableError
from kstash.ports.kafka import Message, Partition

if TYPE_CHECKING:
    from kstash.testing.kafka.broker import MemoryKafka


class MemoryConsumer:
    """`kstash.ports.kafka.Consumer`: reads partitions that it was given, in turn.

    Each poll starts after the partition that the last one ended with, and takes at most
    `kafka.fetch_max` records of one partition before it goes on to the next.

    Args:
        kafka: the cluster.
        is_committed: read as `read_committed`, else as `read_uncommitted`.
    """

    def __init__(self, kafka: MemoryKafka, *, is_committed: bool = False) -> None:
        self._kafka = kafka
        self._is_committed = is_committed
        self._positions: dict[Partition, int] = {}
        self._gaps: dict[Partition, Sequence[tuple[int, int]]] = {}
        self._paused: set[Partition] = set()

    @property
    def is_reading(self) -> bool:
        """Whether any partition is read."""
        return bool(self._positions)

    def add(self, offsets: Mapping[Partition, int]) -> None:
        """Read these partitions from the given offsets on."""
        self._positions.update(offsets)
        self._paused.difference_update(offsets)

    def pass_over(self, gaps: Mapping[Partition, Sequence[tuple[int, int]]]) -> None:
        """Go on after these offsets where the log cannot be read."""
        self._gaps.update(gaps)

    def remove(self, partitions: Collection[Partition]) -> None:
        """Stop reading these."""
        for partition in partitions:
            self._positions.pop(partition, None)
            self._paused.discard(partition)

    def pause(self, partitions: Collection[Partition]) -> None:
        """Read no more of these until `resume`; partitions that are not read are ignored."""
        self._paused.update(p for p in partitions if p in self._positions)

    def resume(self, partitions: Collection[Partition]) -> None:
        """Read these again."""
        self._paused.difference_update(partitions)

    def poll(self, timeout_s: float) -> list[Message]:  # noqa: ARG002 - memory never waits
        """Take what is there, `kafka.poll_max` records at most, without waiting.

        Raises:
            OffsetOutOfRangeError: a position is no longer in its log.
            TopicMissingError: a topic is gone.
            RecordUnreadableError: a position lies in what cannot be read.
        """
        messages: list[Message] = []
        if self._kafka.is_away:
            return messages
        for partition in list(self._positions):
            count_max = min(self._kafka.fetch_max, self._kafka.poll_max - len(messages))
            if count_max == 0:
                break
            if partition in self._paused:
                continue
            log = self._kafka.log(partition)
            position = self._positions.pop(partition)
            if log.unreadable is not None and position in log.unreadable:
                position = self._after(partition, log.unreadable)
            self._positions[partition] = position  # now the last in turn
            records, self._positions[partition] = log.read(
                position, count_max, is_committed=self._is_committed
            )
            messages.extend(records)
        self._kafka.activity += len(messages)
        return messages

    def _after(self, partition: Partition, unreadable: range) -> int:
        for first, last in self._gaps.get(partition, ()):
            if first <= unreadable.start <= last:
                return last + 1
        error = RecordUnreadableError("the batch cannot be read").at(*partition, unreadable.start)
        error.skip = f"{partition[0]}/{partition[1]}/{unreadable.start}-{unreadable.stop - 1}"
        raise error

    def position(self, partition: Partition) -> int:
        """Offset that will be read next; moves past transaction markers in `poll`."""
        return self._positions[partition]

    def is_at_end(self, partition: Partition) -> bool:
        """Whether all was handed out that can be read now."""
        position = self._positions.get(partition)
        if position is None:
            return False
        log = self._kafka.log(partition)
        return not log.read(position, 1, is_committed=self._is_committed)[0]

    def close(self) -> None:
        """Stop reading everything."""
        self._positions.clear()
