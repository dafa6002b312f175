"""A membership: that a worker is in the consumer group of its application. It reads nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from kstash.ports.kafka.record import Partition

OnGroups = Callable[[list[int]], None]
"""A callback that is given numbers of task groups, in order."""


@dataclass(frozen=True, slots=True)
class Census:
    """Who is in the group, as the cluster says.

    Attributes:
        is_settled: no rebalance is under way.
        members: ids of all members.
        owners: the member that each task group is given to; those that are nobody's are left out.
        own: id of the member that asked.
    """

    is_settled: bool
    members: frozenset[str]
    owners: Mapping[int, str]
    own: str


class Membership(Protocol):
    """A worker's membership in its group, and the task groups that come with it.

    It subscribes to the lineage topic (cooperative-sticky), so that owning partition `i` of it is
    owning task group `i`. What the worker reads, it reads by a `Consumer`, which no rebalance holds
    up.
    """

    def subscribe(self, *, on_assigned: OnGroups, on_revoked: OnGroups, on_lost: OnGroups) -> None:
        """Join the group; the callbacks get task group numbers and run inside `poll`.

        A revoked group stays this member's until `release`, within the client's
        `max.poll.interval.ms`, so do not keep it for long: those who join wait for it. A lost one
        is already owned by somebody else.
        """

    def release(self, groups: Collection[int]) -> None:
        """Give up revoked groups, in `on_revoked` or later: the next owner may have them."""

    def poll(self, timeout_s: float) -> bool:
        """Keep the membership, wait up to `timeout_s` for something to happen, and run callbacks.

        Returns:
            Whether the membership is this worker's. False while another process may have it:
            nothing may be consumed until a later call says which of the two.

        Raises:
            MemberFencedError: another process took this membership (fatal).
            TopicMissingError: the lineage topic is gone.
        """

    def serve(self) -> None:
        """Keep the membership while the caller has no time for `poll`; does not wait.

        No callback runs. The next `poll` reports what has happened to the group, and errors.
        """

    def census(self) -> Census | None:
        """Ask who has which task group; may run in another thread, and takes a second at most.

        Returns:
            None while there is no answer.
        """

    def share_out(self, topic: str) -> None:
        """Make the members share out the task groups anew; those with an owner stay where they are.

        May run in another thread, and takes some seconds at most.

        Args:
            topic: any one that exists, and is not the lineage topic.
        """

    def rejoin(self) -> None:
        """Leave the group and join it again, in the next `poll`; the task groups are lost."""

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit input offsets for lag tools, asynchronously; a failure is logged, not raised."""

    def close(self, *, leave: bool) -> None:
        """Close; with `leave` the group is left at once even by a static member."""
