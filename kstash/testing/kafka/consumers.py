"""Consumers of the in-memory Kafka: the scanner, and the member with its callbacks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from kstash.errors import MemberFencedError, RecordUnreadableError
from kstash.ports.kafka import Census, Message, Partition
from kstash.testing.kafka.group import ConsumerGroup, GroupSeat

if TYPE_CHECKING:
    from kstash.testing.kafka.broker import MemoryKafka

OnGroups = Callable[[list[int]], None]


class MemoryScanner:
    """`kstash.ports.kafka.Scanner`: reads partitions that it was given, in turn.

    Each poll starts behind the partition that the last one ended with, and takes at most
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

    def add(self, offsets: Mapping[Partition, int]) -> None:
        """Read these partitions from the given offsets on."""
        self._positions.update(offsets)
        self._paused.difference_update(offsets)

    def pass_over(self, gaps: Mapping[Partition, Sequence[tuple[int, int]]]) -> None:
        """Go on behind these offsets where the log cannot be read."""
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
                position = self._behind(partition, log.unreadable)
            self._positions[partition] = position  # now the last in turn
            records, self._positions[partition] = log.read(
                position, count_max, is_committed=self._is_committed
            )
            messages.extend(records)
        self._kafka.activity += len(messages)
        return messages

    def _behind(self, partition: Partition, unreadable: range) -> int:
        for first, last in self._gaps.get(partition, ()):
            if first <= unreadable.start <= last:
                return last + 1
        error = RecordUnreadableError("the batch cannot be read").at(*partition, unreadable.start)
        error.skip = f"{partition[0]}/{partition[1]}/{unreadable.start}-{unreadable.stop - 1}"
        raise error

    def position(self, partition: Partition) -> int:
        """Offset that will be read next; moves past transaction markers in `poll`."""
        return self._positions[partition]

    def close(self) -> None:
        """Stop reading everything."""
        self._positions.clear()


class MemoryMember(MemoryScanner):
    """`kstash.ports.kafka.Member`: a `read_committed` consumer that is in the application's group.

    Args:
        kafka: the cluster.
        group: the application's consumer group.
        lineage_topic: its topic; a partition of it is a task group.
        member_id: the name in the group.
        is_static: whether the place outlives a `close` that does not leave.
    """

    def __init__(
        self,
        kafka: MemoryKafka,
        group: ConsumerGroup,
        lineage_topic: str,
        *,
        member_id: str,
        is_static: bool,
    ) -> None:
        super().__init__(kafka, is_committed=True)
        self._group = group
        self._lineage_topic = lineage_topic
        self._membership = GroupSeat(member_id, is_static=is_static)
        self._callbacks: tuple[OnGroups, OnGroups, OnGroups] | None = None
        self._known: list[int] = []
        self._revoked: set[int] = set()
        self._polled_s = kafka.clock.monotonic()
        self.committed: dict[Partition, int] = {}
        """Input offsets last committed, for lag tools."""

    def subscribe(self, *, on_assigned: OnGroups, on_revoked: OnGroups, on_lost: OnGroups) -> None:
        """Join the group; the callbacks run inside `poll`."""
        assert self._callbacks is None, "subscribed already"
        self._callbacks = (on_assigned, on_revoked, on_lost)
        self._group.join(self._membership)

    def follow(self, group: int, offset: int) -> None:
        """Consume the lineage partition of an owned group from `offset` on."""
        assert group in self._known, f"group {group} is not owned"
        self.add({(self._lineage_topic, group): offset})

    def release(self, groups: Collection[int]) -> None:
        """Give up revoked groups: the group may hand them on."""
        assert self._revoked.issuperset(groups), f"{groups} are not revoked"
        self._forget(groups)
        if self._group.holds(self._membership):
            self._group.revoke(list(groups))

    def poll(self, timeout_s: float) -> list[Message]:
        """Serve the group's callbacks, then take what is there.

        Raises:
            MemberFencedError: another consumer took this one's place; every later call too.
            OffsetOutOfRangeError: a position is no longer in its log.
            TopicMissingError: a topic is gone.
        """
        self.serve()
        if self._membership.is_fenced:
            raise MemberFencedError(
                f"member {self._membership.member_id!r}: another process took its place"
            )
        if self._callbacks is not None and not self._kafka.is_away:
            self._rebalance(*self._callbacks)
        return super().poll(timeout_s)

    def serve(self) -> None:
        """Show that this process is alive; one that did not for too long is out of the group."""
        now = self._kafka.clock.monotonic()
        if now > self._polled_s + self._kafka.poll_interval_s:
            self._group.leave(self._membership)
        self._polled_s = now

    def census(self) -> Census | None:
        """Who has which task group."""
        if self._kafka.is_away:
            return None
        members = frozenset(self._group.member_ids)
        return Census(
            is_settled=True,
            members=members,
            owners=self._group.owners,
            own=self._membership.member_id,
        )

    def share_out(self, topic: str) -> None:  # noqa: ARG002 - here it needs none
        """A rebalance."""
        self._group.share_out()

    def rejoin(self) -> None:
        """Leave the group; the next poll joins it again."""
        self._group.leave(self._membership)

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Note input offsets for lag tools."""
        if self._group.holds(self._membership):
            self.committed.update(offsets)

    def close(self, *, leave: bool) -> None:  # type: ignore[override] # a member has a place
        """Stop reading; a static member keeps its place unless `leave`."""
        super().close()
        self._callbacks = None
        if self._revoked:
            self.release(tuple(self._revoked))
        if leave or not self._membership.is_static:
            self._group.leave(self._membership)

    def _rebalance(self, on_assigned: OnGroups, on_revoked: OnGroups, on_lost: OnGroups) -> None:
        if not self._group.holds(self._membership):
            lost = list(self._known)
            self._forget(lost)
            self._tell(on_lost, lost)
            self._group.join(self._membership)
        revoked = [g for g in self._group.to_revoke(self._membership) if g not in self._revoked]
        self._revoked.update(revoked)
        self._tell(on_revoked, revoked)
        assigned = self._group.to_assign(self._membership)
        self._group.assign(self._membership, assigned)
        self._known = sorted(self._known + assigned)
        if assigned:
            self._kafka.activity += 1
            on_assigned(assigned)

    def _forget(self, groups: Collection[int]) -> None:
        self._known = [group for group in self._known if group not in groups]
        self._revoked.difference_update(groups)
        self.remove([(self._lineage_topic, group) for group in groups])

    def _tell(self, callback: OnGroups, groups: list[int]) -> None:
        if groups:
            self._kafka.activity += 1
            callback(groups)
