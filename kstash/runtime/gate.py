"""Which inputs are paused: for several reasons at once, each of which ends by itself."""

from __future__ import annotations

from collections.abc import Collection

from kstash.ports.kafka import Consumer, Partition


class Gate:
    """Pauses a partition while there is any reason to.

    Args:
        consumer: reads the partitions.
    """

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._reasons: dict[Partition, set[str]] = {}

    def pause(self, partitions: Collection[Partition], reason: str) -> None:
        """Fetch no more of these, until there is neither this reason nor any other."""
        fresh = [partition for partition in partitions if partition not in self._reasons]
        for partition in partitions:
            self._reasons.setdefault(partition, set()).add(reason)
        self._consumer.pause(fresh)

    def resume(self, partitions: Collection[Partition], reason: str) -> None:
        """The reason is gone; what there is no other one for is fetched again."""
        free = [p for p in partitions if self._reasons.get(p) == {reason}]
        for partition in partitions:
            self._reasons.get(partition, set()).discard(reason)
        for partition in free:
            del self._reasons[partition]
        self._consumer.resume(free)

    def forget(self, partitions: Collection[Partition]) -> None:
        """These are read no more; when they are added again, they flow."""
        for partition in partitions:
            self._reasons.pop(partition, None)
