"""A consumer group of the in-memory Kafka: who owns which partition of its one topic.

Cooperative and sticky, as the real client with the classic protocol: a partition that moves is
first given up by its owner, in the owner's own poll, and only then given to the next. A member
that is dead keeps its partitions until its session is expired.
"""

from __future__ import annotations

from collections.abc import Callable


class GroupSeat:
    """One consumer's membership in a group: an object of its own, since ids are used again.

    Args:
        member_id: its name in the group.
        is_static: whether a newcomer with the same id takes the membership over at once.
    """

    def __init__(self, member_id: str, *, is_static: bool) -> None:
        self.member_id = member_id
        self.is_static = is_static
        self.is_fenced = False
        """Whether another consumer with the same id took the membership."""


class ConsumerGroup:
    """Members in order of joining, and the partitions that each owns and is to own.

    Args:
        partition_count: the topic's number of partitions now; 0 while the topic is missing.
    """

    def __init__(self, partition_count: Callable[[], int]) -> None:
        self._partition_count = partition_count
        self._members: list[GroupSeat] = []
        self._owners: dict[int, GroupSeat] = {}
        self._targets: dict[int, GroupSeat] = {}
        # Given up by nobody: their owner died when it had been asked to, and is a member again.
        self._stranded: set[int] = set()

    def join(self, member: GroupSeat) -> None:
        """Add a member; a static one takes the place of its predecessor with the same id.

        That is no rebalance: it has what its predecessor was to keep. What that was to give up is
        nobody's until the next one.
        """
        old = self._find(member.member_id)
        if old is None:
            self._members.append(member)
        else:
            assert member.is_static, f"member id {member.member_id!r} is in use"
            old.is_fenced = True
            self._members[self._members.index(old)] = member
            self._targets = {
                partition: member if owner is old else owner
                for partition, owner in self._targets.items()
            }
            moving = {p for p in self.owned(old) if self._targets.get(p) is not member}
            self._stranded |= moving
            self._drop_owner(old)
            return
        self._balance()

    def leave(self, member: GroupSeat) -> None:
        """Remove a member; its partitions go to the others. One that is gone already may leave."""
        if member in self._members:
            self._members.remove(member)
            self._drop_owner(member)
            self._balance()

    def expire(self, member_id: str) -> None:
        """The session of a member has timed out: the others get its partitions."""
        member = self._find(member_id)
        assert member is not None, f"no member {member_id!r}"
        self.leave(member)

    @property
    def member_ids(self) -> list[str]:
        """Ids of the members, in order of joining."""
        return [member.member_id for member in self._members]

    def holds(self, member: GroupSeat) -> bool:
        """Whether the member is (still) in the group."""
        return member in self._members

    def owned(self, member: GroupSeat) -> list[int]:
        """Partitions that the member owns, in order."""
        return sorted(p for p, owner in self._owners.items() if owner is member)

    def to_revoke(self, member: GroupSeat) -> list[int]:
        """Partitions that the member owns and is to give up, in order."""
        self._balance_if_grown()
        return [p for p in self.owned(member) if self._targets.get(p) is not member]

    def to_assign(self, member: GroupSeat) -> list[int]:
        """Free partitions that are to be the member's, in order."""
        self._balance_if_grown()
        return sorted(
            partition
            for partition, target in self._targets.items()
            if target is member
            and partition not in self._owners
            and partition not in self._stranded
        )

    def revoke(self, partitions: list[int]) -> None:
        """Free partitions that their owner gave up; it joins again, which is a rebalance."""
        for partition in partitions:
            del self._owners[partition]
        self._stranded.clear()

    def share_out(self) -> None:
        """A rebalance for no other reason."""
        self._balance()

    @property
    def owners(self) -> dict[int, str]:
        """Who has which partition, by member id; what is to be given up is nobody's already."""
        return {
            p: owner.member_id
            for p, owner in sorted(self._owners.items())
            if self._targets.get(p) is owner
        }

    def assign(self, member: GroupSeat, partitions: list[int]) -> None:
        """Make a member the owner of free partitions."""
        for partition in partitions:
            assert partition not in self._owners, partition
            self._owners[partition] = member

    def _find(self, member_id: str) -> GroupSeat | None:
        return next((m for m in self._members if m.member_id == member_id), None)

    def _drop_owner(self, member: GroupSeat) -> None:
        self._owners = {p: owner for p, owner in self._owners.items() if owner is not member}

    def _balance_if_grown(self) -> None:
        if len(self._targets) != self._partition_count():
            self._balance()

    def _balance(self) -> None:
        """Spread the partitions evenly; each member keeps what it has as far as that is even."""
        self._stranded.clear()
        if not self._members:
            self._targets = {}
            return
        count = self._partition_count()
        quota, extra = divmod(count, len(self._members))
        targets: dict[int, GroupSeat] = {}
        load = dict.fromkeys(self._members, 0)
        for partition in range(count):
            member = self._targets.get(partition)
            if member not in load:
                continue
            if load[member] == quota and extra > 0:
                extra -= 1
            elif load[member] >= quota:
                continue
            targets[partition] = member
            load[member] += 1
        for partition in range(count):
            if partition not in targets:
                member = min(self._members, key=load.__getitem__)
                targets[partition] = member
                load[member] += 1
        self._targets = targets
