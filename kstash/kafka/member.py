"""The worker's consumer: its place in the group, and what it reads.

Two clients, since the one that is the member stops fetching everything while a revocation waits for
its answer: the member's consumes nothing, the other one is in no group.

Invariants:

- the member's client is told about a rebalance exactly once per callback. An assignment is answered
  at once, with an empty one; a revocation when the last of its groups is released;
- what callbacks remove is not handed out any more: the member is polled before the reader;
- callbacks of the caller run inside `poll` only, in the order of what happened; one that is about
  groups which are gone by then leaves these out;
- after `close` begins, no callback of the caller runs;
- a static member counts as fenced only when another process has its place in the group.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from kstash.errors import MemberFencedError
from kstash.failpoints import around
from kstash.kafka import failures
from kstash.kafka.consuming import AssignedConsumer
from kstash.kafka.static_members import census_of, holder_of, share_out
from kstash.ports.kafka import Census, Message, Partition

OnGroups = Callable[[list[int]], None]

LEAVE_DEADLINE_S = 5.0
SHARE_OUT_DEADLINE_S = 5.0
COMMIT_DEADLINE_S = 1.0
COMMIT_PAUSE_S = 0.01
HOLDER_DEADLINE_S = 1.0
HOLDER_RETRY_S = 0.5
HEARTBEATS_OF_GRACE = 3
"""Heartbeats that are waited for before an error of a partition is raised: one that comes after a
long sleep is answered with the loss of the place in the group, and the partition with it."""


class KafkaMember(AssignedConsumer):
    """`kstash.ports.kafka.Member` over confluent-kafka.

    Args:
        settings: of the member's client, `group.instance.id` included for a static member.
        reader_settings: of the client that reads.
        admin_settings: of an admin client, to ask who is in the group.
        lineage_topic: topic whose partitions are the task groups.
        bootstrap_servers: for messages.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        reader_settings: Mapping[str, Any],
        admin_settings: Mapping[str, Any],
        lineage_topic: str,
        bootstrap_servers: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._group = str(settings["group.id"])
        self._instance_id: str | None = settings.get("group.instance.id")
        self._is_static = self._instance_id is not None
        self._lineage_topic = lineage_topic
        super().__init__(
            {**settings, "on_commit": self._on_commit},
            bootstrap_servers=bootstrap_servers,
            monotonic=monotonic,
        )
        self._reader = AssignedConsumer(
            reader_settings,
            bootstrap_servers=bootstrap_servers,
            watch=self._watch,
            monotonic=monotonic,
            grace_s=HEARTBEATS_OF_GRACE * float(settings["heartbeat.interval.ms"]) / 1000,
        )
        self._admin_settings = admin_settings
        self._bootstrap_servers = bootstrap_servers
        self._subscribe: Callable[[], None] | None = None
        self._on_lost: OnGroups | None = None
        self._suspected: MemberFencedError | None = None
        self._next_look = 0.0
        self._member_ids: set[str] = set()
        self._is_commit_pending = False
        # What was to be committed while another commit was under way: the last counts.
        self._unsent: Mapping[Partition, int] | None = None
        self._owned: set[int] = set()
        self._revoked: set[int] = set()
        self._must_rejoin = False
        self._untold: deque[Callable[[], None]] = deque()
        self._is_closing = False

    def subscribe(self, *, on_assigned: OnGroups, on_revoked: OnGroups, on_lost: OnGroups) -> None:
        """Join the group; the callbacks get task group numbers, in order, inside `poll`."""

        def assign(client: Consumer, partitions: list[TopicPartition]) -> None:
            client.incremental_assign([])
            if self._is_closing:
                return
            groups = sorted(partition.partition for partition in partitions)
            self._owned.update(groups)
            self._note_member_id()
            self._untold.append(partial(self._tell, on_assigned, groups, self._owned))

        def revoke(client: Consumer, partitions: list[TopicPartition]) -> None:
            groups = sorted(partition.partition for partition in partitions)
            if self._is_closing or not groups:
                self._owned.difference_update(groups)
                client.incremental_unassign([])
                return
            self._revoked.update(groups)
            # Changes nothing, and keeps the binding from giving the answer itself, which it does
            # behind a callback that made no such call.
            client.incremental_assign([])
            self._untold.append(partial(self._tell, on_revoked, groups, self._revoked))

        def lose(client: Consumer, partitions: list[TopicPartition]) -> None:
            groups = sorted(partition.partition for partition in partitions)
            self._forget_groups(groups)
            self._untold.append(partial(self._tell, on_lost, groups, groups))
            client.incremental_unassign([])

        def subscribe() -> None:
            self._client.subscribe(
                [self._lineage_topic], on_assign=assign, on_revoke=revoke, on_lost=lose
            )

        self._subscribe, self._on_lost = subscribe, on_lost
        subscribe()

    def release(self, groups: Collection[int]) -> None:
        """Give up revoked groups; with the last of them the client answers."""
        assert self._revoked.issuperset(groups), f"{groups} are not revoked"
        self._forget_groups(groups)
        if not self._revoked:
            self._answer()

    def poll(self, timeout_s: float) -> list[Message]:
        """As of every consumer; a place that was lost to nobody is taken again."""
        if self._must_rejoin and not self._is_fatal:
            self._leave()
            self._rejoin()
        if not self._is_suspected():
            # Where something is read, that is what ends the wait.
            super().poll(0.0 if self._reader.is_reading else timeout_s)
            self._tell_all()
            if not self._is_suspected():
                return self._reader.poll(timeout_s) if self._reader.is_reading else []
        self._settle(timeout_s)
        return []

    def serve(self) -> None:
        """Let the client see that this process is alive; its callbacks are told by `poll`."""
        if not self._is_fatal:
            for message in self._fetch(0.0):
                self._is_failure(message)  # kept for `poll`: this client consumes nothing

    def census(self) -> Census | None:
        """Ask who has which task group; may run in another thread."""
        try:
            return census_of(
                self._admin_settings,
                group=self._group,
                topic=self._lineage_topic,
                own=self._client.memberid() or "",
                timeout_s=HOLDER_DEADLINE_S,
            )
        except failures.CLIENT_ERRORS as error:
            self._log.debug("the group gave no answer", error=failures.describe(error))
            return None

    def share_out(self, topic: str) -> None:
        """Make the members share out the task groups anew; may run in another thread."""
        settings = {
            name: value
            for name, value in self._settings.items()
            if name not in ("group.instance.id", "error_cb", "on_commit")
        }
        try:
            share_out(settings, topic, SHARE_OUT_DEADLINE_S)
        except failures.CLIENT_ERRORS as error:
            raise failures.unavailable(
                self._bootstrap_servers, "share out the task groups", SHARE_OUT_DEADLINE_S, error
            ) from error

    def rejoin(self) -> None:
        """Join again with a fresh client, in the next `poll`."""
        self._must_rejoin = True

    def warm(self, topics: Collection[str]) -> None:
        """Look topics up before they are read; may run in another thread."""
        self._reader.warm(topics)

    def follow(self, group: int, offset: int) -> None:
        """Consume the lineage partition of an owned group from `offset` on."""
        assert group in self._owned, f"task group {group} is not owned"
        self.add({(self._lineage_topic, group): offset})

    def add(self, offsets: Mapping[Partition, int]) -> None:
        """Consume these from explicit offsets."""
        self._reader.add(offsets)

    def pass_over(self, gaps: Mapping[Partition, Sequence[tuple[int, int]]]) -> None:
        """Go on behind these offsets where a batch in them cannot be read."""
        self._reader.pass_over(gaps)

    def remove(self, partitions: Collection[Partition]) -> None:
        """Stop consuming these; messages of them already fetched are dropped."""
        self._reader.remove(partitions)

    def pause(self, partitions: Collection[Partition]) -> None:
        """Fetch no more of these until `resume`; partitions that are not read are ignored."""
        self._reader.pause(partitions)

    def resume(self, partitions: Collection[Partition]) -> None:
        """Fetch these again; partitions that are not read are ignored."""
        self._reader.resume(partitions)

    def position(self, partition: Partition) -> int:
        """Offset that will be read next; moves past transaction markers at the end of the log."""
        return self._reader.position(partition)

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit input offsets for lag tools, asynchronously; a failure is logged, not raised."""
        # One at a time: what piles up while the broker is away would be of a member that is gone.
        if not offsets or self._is_fatal:
            return
        self._unsent = offsets
        if not self._is_commit_pending:
            self._send_positions()

    def _send_positions(self) -> None:
        offsets, self._unsent = self._unsent or {}, None
        positions = [TopicPartition(topic, p, at) for (topic, p), at in offsets.items()]
        try:
            with around("inputs.commit"):
                self._client.commit(offsets=positions, asynchronous=True)
            self._is_commit_pending = True
        except failures.CLIENT_ERRORS as error:
            self._log.debug("offsets for lag tools not committed", error=failures.describe(error))

    def close(self, *, leave: bool = False) -> None:
        """Close; a static member keeps its place in the group unless `leave`.

        Leaving takes 0.4 s, and 5 s at most when the broker does not answer.
        """
        self._is_closing = True
        if self._revoked:
            # The client would wait for the answer.
            self._forget_groups(tuple(self._revoked))
            self._answer()
        self._finish_commits()
        if leave and self._is_static and not self._is_fatal:
            # `close` of a static member does not leave; to unsubscribe does.
            self._client.unsubscribe()
            deadline = self._monotonic() + LEAVE_DEADLINE_S
            while self._owned and self._monotonic() < deadline:
                self._client.poll(0.05)
            # The request to leave is sent behind the callback.
            self._client.poll(0.2)
        super().close()
        self._reader.close()

    def _finish_commits(self) -> None:
        """Send the last commit; the client waits for its answer when it closes."""
        deadline = self._monotonic() + COMMIT_DEADLINE_S
        while self._unsent is not None and self._is_commit_pending:
            if self._is_fatal or self._monotonic() >= deadline:
                return
            self.serve()
            time.sleep(COMMIT_PAUSE_S)
        if self._unsent is not None:
            self._send_positions()

    def _tell(self, callback: OnGroups, groups: list[int], still: Collection[int]) -> None:
        """Run a callback for those of the groups that are among `still`."""
        left = [group for group in groups if group in still]
        if left and not self._is_closing:
            callback(left)

    def _tell_all(self) -> None:
        while self._untold:
            self._untold.popleft()()

    def _forget_groups(self, groups: Collection[int]) -> None:
        self._owned.difference_update(groups)
        self._revoked.difference_update(groups)
        self._reader.remove([(self._lineage_topic, group) for group in groups])

    def _answer(self) -> None:
        """Tell the client that what was revoked is given up."""
        try:
            self._client.incremental_unassign([])
        except failures.CLIENT_ERRORS as error:
            # A client that has failed for good gave the answer itself, and `poll` says so.
            self._log.debug("revocation not answered", error=failures.describe(error))

    def _is_suspected(self) -> bool:
        return self._suspected is not None

    @property
    def _is_fatal(self) -> bool:
        return self._fenced is not None or self._suspected is not None

    def _on_fatal(self, error: KafkaError) -> None:
        super()._on_fatal(error)
        if self._is_static and not self._is_closing:
            self._suspected, self._fenced = self._fenced, None
            self._note_member_id()

    def _note_member_id(self) -> None:
        # The broker gives a new one at each join under the instance id.
        if self._is_static:
            with contextlib.suppress(*failures.CLIENT_ERRORS):
                self._member_ids.add(self._client.memberid() or "")

    def _settle(self, timeout_s: float) -> None:
        """Find out who has the place: join again with a fresh client, or raise."""
        now = self._monotonic()
        if now < self._next_look:
            time.sleep(min(timeout_s, self._next_look - now))
            return
        self._next_look = now + HOLDER_RETRY_S
        assert self._instance_id is not None
        try:
            holder = holder_of(
                self._admin_settings,
                group=self._group,
                instance_id=self._instance_id,
                timeout_s=HOLDER_DEADLINE_S,
            )
        except failures.CLIENT_ERRORS as error:
            self._log.debug("the group gave no answer", error=failures.describe(error))
            return
        if holder is not None and holder not in self._member_ids:
            self._fenced, self._suspected = self._suspected, None
            assert self._fenced is not None
            raise self._fenced
        self._rejoin()

    def _leave(self) -> None:
        self._is_closing = True  # whatever the client tells now is answered at once
        if self._revoked:
            self._answer()
        self._close_client()
        self._is_closing = False

    def _rejoin(self) -> None:
        """Go on with a fresh client; the groups are lost, whoever has them now."""
        self._log.warning("the worker lost its place in the group for a while, it joins again")
        self._must_rejoin = False
        self._tell_all()
        groups = sorted(self._owned)
        self._forget_groups(groups)
        self._suspected = None
        self._is_commit_pending = False
        self._client = self._connect()
        if groups and self._on_lost is not None:
            self._on_lost(groups)
        if self._subscribe is not None:
            self._subscribe()

    def _topics(self) -> set[str]:
        return {self._lineage_topic}

    def _on_commit(self, error: KafkaError | None, _partitions: list[TopicPartition]) -> None:
        self._is_commit_pending = False
        # In a rebalance this fails and the next one succeeds; nothing reads these offsets.
        if error is not None:
            self._log.debug("offsets for lag tools not committed", error=failures.describe(error))
