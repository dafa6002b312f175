"""What a worker reads: one consumer over two ways to read, while its membership allows it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from kstash.ports.kafka import Cluster, Consumer, Membership, Message, Partition
from kstash.topology.model import Topology

POLL_S_MAX = 0.005
"""Longest wait for committed records: others do not end it."""


def consumer_of(cluster: Cluster, topology: Topology) -> Consumer:
    """The consumer of a worker of a topology."""
    inputs = [source for stage in topology.stages for source in stage.inputs]
    immediate = frozenset(source.topic for source in inputs if source.kind.is_uncommitted)
    if not immediate:
        return cluster.consumer()
    return InputConsumer(cluster.consumer(), cluster.uncommitted_consumer(), immediate)


def take(membership: Membership, consumer: Consumer, timeout_s: float) -> list[Message]:
    """Records for a worker that is a member of its group.

    Waits up to `timeout_s`, for records if any are read, else for the group. The callbacks of the
    membership run first: what they stop reading is not handed out.
    """
    is_reading = consumer.is_reading
    if membership.poll(0.0 if is_reading else timeout_s):
        return consumer.poll(timeout_s) if consumer.is_reading else []
    if is_reading:
        membership.poll(timeout_s)
    return []


class InputConsumer:
    """`kstash.ports.kafka.Consumer` over two: which of them reads a partition is up to its topic.

    Args:
        committed: reads everything but
        uncommitted: what is in
        topics: of other applications' immediate sinks.
    """

    def __init__(self, committed: Consumer, uncommitted: Consumer, topics: Collection[str]) -> None:
        self._committed = committed
        self._uncommitted = uncommitted
        self._topics = topics

    @property
    def is_reading(self) -> bool:
        """Whether either has any partition."""
        return self._committed.is_reading or self._uncommitted.is_reading

    def add(self, offsets: Mapping[Partition, int]) -> None:
        """Read these partitions from the given offsets on."""
        for consumer, mine in self._split(offsets):
            consumer.add({partition: offsets[partition] for partition in mine})

    def pass_over(self, gaps: Mapping[Partition, Sequence[tuple[int, int]]]) -> None:
        """Go on after these (first, last) offsets where what lies there cannot be read."""
        for consumer, mine in self._split(gaps):
            consumer.pass_over({partition: gaps[partition] for partition in mine})

    def remove(self, partitions: Collection[Partition]) -> None:
        """Stop reading these."""
        for consumer, mine in self._split(partitions):
            consumer.remove(mine)

    def pause(self, partitions: Collection[Partition]) -> None:
        """Fetch no more of these until `resume`."""
        for consumer, mine in self._split(partitions):
            consumer.pause(mine)

    def resume(self, partitions: Collection[Partition]) -> None:
        """Fetch these again."""
        for consumer, mine in self._split(partitions):
            consumer.resume(mine)

    def poll(self, timeout_s: float) -> list[Message]:
        """Take what either has; waits for the first that reads something."""
        timeout_s = min(timeout_s, POLL_S_MAX)
        if not self._committed.is_reading:
            return self._uncommitted.poll(timeout_s)
        return [*self._committed.poll(timeout_s), *self._uncommitted.poll(0.0)]

    def position(self, partition: Partition) -> int:
        """Offset that will be read next."""
        return self._of(partition).position(partition)

    def is_at_end(self, partition: Partition) -> bool:
        """Whether all was handed out that the broker had when it answered last."""
        return self._of(partition).is_at_end(partition)

    def close(self) -> None:
        """Close both."""
        self._committed.close()
        self._uncommitted.close()

    def _of(self, partition: Partition) -> Consumer:
        return self._uncommitted if partition[0] in self._topics else self._committed

    def _split(self, partitions: Iterable[Partition]) -> Iterator[tuple[Consumer, list[Partition]]]:
        """Each consumer with what it reads of these; one that reads none of them is left out."""
        committed: list[Partition] = []
        uncommitted: list[Partition] = []
        for partition in partitions:
            (uncommitted if partition[0] in self._topics else committed).append(partition)
        if committed:
            yield self._committed, committed
        if uncommitted:
            yield self._uncommitted, uncommitted
