"""A consumer: reads partitions that it is given, and is in no group."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from kstash.ports.kafka.record import Message, Partition


class Consumer(Protocol):
    """Reads partitions from explicit offsets on; what it reads does not depend on any group."""

    @property
    def is_reading(self) -> bool:
        """Whether it has any partition, also one that is paused."""

    def add(self, offsets: Mapping[Partition, int]) -> None:
        """Read these partitions from the given offsets on, beside those that are read already.

        One that is read already moves there; one that was paused before is fetched.
        """

    def pass_over(self, gaps: Mapping[Partition, Sequence[tuple[int, int]]]) -> None:
        """Go on after these (first, last) offsets where what lies there cannot be read."""

    def remove(self, partitions: Collection[Partition]) -> None:
        """Stop reading these; messages of them that were fetched already are dropped."""

    def pause(self, partitions: Collection[Partition]) -> None:
        """Fetch no more of these until `resume`; partitions that are not read are ignored."""

    def resume(self, partitions: Collection[Partition]) -> None:
        """Fetch these again; partitions that are not read are ignored."""

    def poll(self, timeout_s: float) -> list[Message]:
        """Wait up to `timeout_s` for one message, then take what is there (500 at most).

        Raises:
            OffsetOutOfRangeError: a consumed offset is no longer in the log; names the partition.
            RecordUnreadableError: what lies there cannot be read, now or later; names the offsets.
            TopicMissingError: a consumed topic is gone.
        """

    def position(self, partition: Partition) -> int:
        """Offset that will be read next; moves past transaction markers at the end of the log."""

    def is_at_end(self, partition: Partition) -> bool:
        """Whether all was handed out that the broker had when it answered last.

        "All" is up to the last stable offset for who reads `read_committed`. False until a broker
        has answered for a partition that is read; for all partitions, where the consumer was made
        by a cluster that was not asked for ends.
        """

    def close(self) -> None:
        """Close."""
