"""A worker's membership in its group, over confluent-kafka.

Its client consumes nothing: a client that is a member stops fetching everything while a revocation
waits for its answer, so what the worker reads, another client reads that is in no group
(`kstash.kafka.consumer`).

Invariants:

- the client is answered exactly once per rebalance callback: an assignment at once, with an empty
  one; a revocation when the last of its groups is released;
- callbacks of the caller run inside `poll` only, in the order of what happened; one that is about
  groups which are gone by then leaves these out;
- after `close` begins, no callback of the caller runs;
- a static member counts as fenced only when another process has its membership.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka import Message as KafkaMessage

from kstash.errors import MemberFencedError
from kstash.failpoints import around
from kstash.kafka import failures
from kstash.kafka.census import census_of, share_out
from kstash.kafka.client_health import ClientHealth, failed_partition, look_up
from kstash.kafka.clients import make_consumer
from kstash.kafka.closing import close_in_time
from kstash.kafka.groups import holder_of
from kstash.kafka.input_commits import InputCommits
from kstash.kafka.reachability import BrokerWatch
from kstash.ports.kafka import Census, OnGroups, Partition

LEAVE_DEADLINE_S = 5.0
SHARE_OUT_DEADLINE_S = 5.0
HOLDER_DEADLINE_S = 1.0
HOLDER_RETRY_S = 0.5
ERRORS_AT_ONCE_MAX = 499
"""Errors that are taken in one turn, beside the first."""


class KafkaMembership:
    """`kstash.ports.kafka.Membership` over confluent-kafka.

    Args:
        settings: of the client, `group.instance.id` included for a static member.
        admin_settings: of an admin client, to ask who is in the group.
        lineage_topic: topic whose partitions are the task groups.
        bootstrap_servers: for messages.
        watch: reports that the broker is away; None: one of its own.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        admin_settings: Mapping[str, Any],
        lineage_topic: str,
        bootstrap_servers: str,
        watch: BrokerWatch | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = str(settings["client.id"])
        self._group = str(settings["group.id"])
        self._instance_id: str | None = settings.get("group.instance.id")
        self._is_static = self._instance_id is not None
        self._lineage_topic = lineage_topic
        self._commits = InputCommits(self._send_offsets, monotonic)
        self._settings = {**settings, "on_commit": self._commits.on_commit}
        self._admin_settings = admin_settings
        self._bootstrap_servers = bootstrap_servers
        self._monotonic = monotonic
        self._log = structlog.get_logger("kstash.kafka")
        self._health = ClientHealth(
            settings,
            watch=watch or BrokerWatch(self._name, bootstrap_servers, monotonic=monotonic),
            topics=lambda: [lineage_topic],
            look_up=self._look_up,
            monotonic=monotonic,
        )
        self._client = self._connect()
        self._subscribe: Callable[[], None] | None = None
        self._on_lost: OnGroups | None = None
        self._suspected: MemberFencedError | None = None
        self._next_look = 0.0
        self._member_ids: set[str] = set()
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
            # after a callback that made no such call.
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

    def poll(self, timeout_s: float) -> bool:
        """Keep the membership and run callbacks; one that was lost to nobody is taken again.

        Returns:
            Whether the membership is this worker's; False while another process may have it.

        Raises:
            MemberFencedError: another process took this membership; every later call too.
            TopicMissingError: the lineage topic is gone.
        """
        if self._must_rejoin and not self._is_fatal:
            self._leave()
            self._rejoin()
        if self._suspected is None:
            self._health.raise_due()
            self._serve_client(timeout_s)
            self._health.check(is_up=False)
            self._tell_all()
        if not self._is_suspected():
            return True
        self._settle(timeout_s)
        return False

    def serve(self) -> None:
        """Let the client see that this process is alive; `poll` runs the callbacks."""
        if not self._is_fatal:
            self._serve_client(0.0)

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

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit input offsets for lag tools, asynchronously; a failure is logged, not raised."""
        if offsets and not self._is_fatal:
            self._commits.note(offsets)

    def close(self, *, leave: bool = False) -> None:
        """Close; a static member keeps its membership unless `leave`.

        Leaving takes 0.4 s, and 5 s at most when the broker does not answer.
        """
        self._is_closing = True
        if self._revoked:
            # The client would wait for the answer.
            self._forget_groups(tuple(self._revoked))
            self._answer()
        self._commits.finish(self._serve_last)
        if leave and self._is_static and not self._is_fatal:
            # `close` of a static member does not leave; to unsubscribe does.
            self._client.unsubscribe()
            deadline = self._monotonic() + LEAVE_DEADLINE_S
            while self._owned and self._monotonic() < deadline:
                self._client.poll(0.05)
            # The request to leave is sent after the callback.
            self._client.poll(0.2)
        close_in_time(self._name, self._client.close)

    def _send_offsets(self, offsets: list[TopicPartition]) -> None:
        with around("inputs.commit"):
            self._client.commit(offsets=offsets, asynchronous=True)

    def _serve_last(self) -> bool:
        self.serve()
        return not self._is_fatal

    def _connect(self) -> Consumer:
        return make_consumer(self._settings, on_error=self._take_error)

    def _look_up(self, topic: str | None, timeout_s: float) -> KafkaError | None:
        return look_up(self._client, topic or self._lineage_topic, timeout_s)

    def _serve_client(self, timeout_s: float) -> None:
        """Have the client call back; errors that it hands out are kept for `poll`."""
        first = self._client.poll(timeout_s)
        if first is None:
            return
        # Never a record: it has no partition.
        for message in (first, *self._client.consume(ERRORS_AT_ONCE_MAX, 0)):
            error = message.error()
            if error is not None and failed_partition(message) is None:
                self._take_error(error, message)

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

    def _answer(self) -> None:
        """Answer the client that the revoked groups are given up."""
        try:
            self._client.incremental_unassign([])
        except failures.CLIENT_ERRORS as error:
            # A client that has failed for good gave the answer itself, and `poll` says so.
            self._log.debug("revocation not answered", error=failures.describe(error))

    def _is_suspected(self) -> bool:
        return self._suspected is not None

    @property
    def _is_fatal(self) -> bool:
        return self._health.fenced is not None or self._suspected is not None

    def _take_error(self, error: KafkaError, message: KafkaMessage | None = None) -> None:
        """Take an error, also one that belongs to no message (served inside `poll`)."""
        before = self._health.fenced
        self._health.take(error, message)
        is_over = self._health.fenced is not before
        if is_over and self._is_static and not self._is_closing:
            self._suspected, self._health.fenced = self._health.fenced, before
            self._note_member_id()

    def _note_member_id(self) -> None:
        # The broker gives a new one at each join under the instance id.
        if self._is_static:
            with contextlib.suppress(*failures.CLIENT_ERRORS):
                self._member_ids.add(self._client.memberid() or "")

    def _settle(self, timeout_s: float) -> None:
        """Find out who has the membership: join again with a fresh client, or raise."""
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
            self._health.fenced, self._suspected = self._suspected, None
            self._health.raise_due()
        self._rejoin()

    def _leave(self) -> None:
        self._is_closing = True  # whatever the client reports now is answered at once
        if self._revoked:
            self._answer()
        close_in_time(self._name, self._client.close)
        self._is_closing = False

    def _rejoin(self) -> None:
        """Go on with a fresh client; the groups are lost, whoever has them now."""
        self._log.warning("the worker lost its membership for a while, it joins again")
        self._must_rejoin = False
        self._tell_all()
        groups = sorted(self._owned)
        self._forget_groups(groups)
        self._suspected = None
        self._commits.forget()
        self._client = self._connect()
        if groups and self._on_lost is not None:
            self._on_lost(groups)
        if self._subscribe is not None:
            self._subscribe()
