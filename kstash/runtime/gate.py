"""Which inputs are paused: for several reasons at once, each of which ends by itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from kstash.ports.kafka import Member, Partition, Scanner


class Gate:
    """Pauses a partition while there is any reason to.

    Args:
        member: reads the partitions, but for
        uncommitted: reads those of
        uncommitted_topics: topics of other applications' immediate sinks.
    """

    def __init__(
        self,
        member: Member,
        uncommitted: Scanner | None = None,
        uncommitted_topics: Collection[str] = (),
    ) -> None:
        self._member = member
        self._uncommitted = uncommitted
        self._uncommitted_topics = uncommitted_topics
        self._reasons: dict[Partition, set[str]] = {}

    def pause(self, partitions: Collection[Partition], reason: str) -> None:
        """Fetch no more of these, until there is neither this reason nor any other."""
        fresh = [partition for partition in partitions if partition not in self._reasons]
        for partition in partitions:
            self._reasons.setdefault(partition, set()).add(reason)
        for consumer, mine in self._by_consumer(fresh):
            consumer.pause(mine)

    def resume(self, partitions: Collection[Partition], reason: str) -> None:
        """The reason is gone; what there is no other one for is fetched again."""
        free = [p for p in partitions if self._reasons.get(p) == {reason}]
        for partition in partitions:
            self._reasons.get(partition, set()).discard(reason)
        for partition in free:
            del self._reasons[partition]
        for consumer, mine in self._by_consumer(free):
            consumer.resume(mine)

    def forget(self, partitions: Collection[Partition]) -> None:
        """These are read no more; when they are added again, they flow."""
        for partition in partitions:
            self._reasons.pop(partition, None)

    def _by_consumer(
        self, partitions: Collection[Partition]
    ) -> Iterator[tuple[Member | Scanner, list[Partition]]]:
        committed = [p for p in partitions if p[0] not in self._uncommitted_topics]
        uncommitted = [p for p in partitions if p[0] in self._uncommitted_topics]
        if committed:
            yield self._member, committed
        if uncommitted:
            assert self._uncommitted is not None
            yield self._uncommitted, uncommitted
