"""A membership in a group of the in-memory Kafka, with its callbacks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from kstash.errors import MemberFencedError
from kstash.ports.kafka import Census, OnGroups, Partition
from kstash.testing.kafka.group import ConsumerGroup, GroupSeat

if TYPE_CHECKING:
    from kstash.testing.kafka.broker import MemoryKafka


class MemoryMembership:
    """`kstash.ports.kafka.Membership`: a membership in the application's group.

    Args:
        kafka: the cluster.
        group: the application's consumer group.
        member_id: the name in the group.
        is_static: whether the membership outlives a `close` that does not leave.
    """

    def __init__(
        self,
        kafka: MemoryKafka,
        group: ConsumerGroup,
        *,
        member_id: str,
        is_static: bool,
    ) -> None:
        self._kafka = kafka
        self._group = group
        self._seat = GroupSeat(member_id, is_static=is_static)
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
        self._group.join(self._seat)

    def release(self, groups: Collection[int]) -> None:
        """Give up revoked groups: the group may hand them on."""
        assert self._revoked.issuperset(groups), f"{groups} are not revoked"
        self._forget(groups)
        if self._group.holds(self._seat):
            self._group.revoke(list(groups))

    def poll(self, timeout_s: float) -> bool:  # noqa: ARG002 - memory never waits
        """Serve the group's callbacks.

        Raises:
            MemberFencedError: another process took this membership; every later call too.
        """
        self.serve()
        if self._seat.is_fenced:
            raise MemberFencedError(
                f"member {self._seat.member_id!r}: another process took this membership"
            )
        if self._callbacks is not None and not self._kafka.is_away:
            self._rebalance(*self._callbacks)
        return True

    def serve(self) -> None:
        """Show that this process is alive; one that did not for too long is out of the group."""
        now = self._kafka.clock.monotonic()
        if now > self._polled_s + self._kafka.poll_interval_s:
            self._group.leave(self._seat)
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
            own=self._seat.member_id,
        )

    def share_out(self, topic: str) -> None:  # noqa: ARG002 - here it needs none
        """A rebalance."""
        self._group.share_out()

    def rejoin(self) -> None:
        """Leave the group; the next poll joins it again."""
        self._group.leave(self._seat)

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Note input offsets for lag tools."""
        if self._group.holds(self._seat):
            self.committed.update(offsets)

    def close(self, *, leave: bool) -> None:
        """Go; a static member keeps its membership unless `leave`."""
        self._callbacks = None
        if self._revoked:
            self.release(tuple(self._revoked))
        if leave or not self._seat.is_static:
            self._group.leave(self._seat)

    def _rebalance(self, on_assigned: OnGroups, on_revoked: OnGroups, on_lost: OnGroups) -> None:
        if not self._group.holds(self._seat):
            lost = list(self._known)
            self._forget(lost)
            self._tell(on_lost, lost)
            self._group.join(self._seat)
        revoked = [g for g in self._group.to_revoke(self._seat) if g not in self._revoked]
        self._revoked.update(revoked)
        self._tell(on_revoked, revoked)
        assigned = self._group.to_assign(self._seat)
        self._group.assign(self._seat, assigned)
        self._known = sorted(self._known + assigned)
        if assigned:
            self._kafka.activity += 1
            on_assigned(assigned)

    def _forget(self, groups: Collection[int]) -> None:
        self._known = [group for group in self._known if group not in groups]
        self._revoked.difference_update(groups)

    def _tell(self, callback: OnGroups, groups: list[int]) -> None:
        if groups:
            self._kafka.activity += 1
            callback(groups)
