"""The worker's one consumer: membership, lineage tail and data on one object.

Invariants:

- the client is told about a rebalance exactly once per callback, after the caller's callback ran:
  a partition that was taken out in between would count as the answer to the rebalance;
- an assigned lineage partition is answered with an empty assignment, so that nothing of it is
  fetched before `follow`;
- a message of a partition that a callback removed is not handed out, also if it was fetched in the
  same poll; so what callbacks add starts only behind that poll;
- after `close` begins, no callback of the caller runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka import Message as KafkaMessage

from kstash.kafka import failures
from kstash.kafka.consuming import AssignedConsumer, topic_partitions
from kstash.ports import Partition

OnGroups = Callable[[list[int]], None]

LEAVE_DEADLINE_S = 5.0


class KafkaMember(AssignedConsumer):
    """`kstash.ports.Member` over confluent-kafka.

    Args:
        settings: of the client, `group.instance.id` included for a static member.
        lineage_topic: topic whose partitions are the task groups.
        bootstrap_servers: for messages.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        lineage_topic: str,
        bootstrap_servers: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            {**settings, "on_commit": self._on_commit},
            bootstrap_servers=bootstrap_servers,
            monotonic=monotonic,
        )
        self._lineage_topic = lineage_topic
        self._is_static = "group.instance.id" in settings
        self._owned: set[int] = set()
        self._is_polling = False
        self._to_unassign: list[Partition] = []
        self._removed_in_poll: set[Partition] = set()
        self._after_poll: list[Callable[[], None]] = []
        self._is_closing = False

    def subscribe(self, *, on_assigned: OnGroups, on_revoked: OnGroups, on_lost: OnGroups) -> None:
        """Join the group; the callbacks get task group numbers, in order, inside `poll`."""

        def assign(client: Consumer, partitions: list[TopicPartition]) -> None:
            client.incremental_assign([])
            if self._is_closing:
                return
            groups = sorted(partition.partition for partition in partitions)
            self._owned.update(groups)
            if groups:
                on_assigned(groups)
            if self._to_unassign:
                self._unassign(client)

        def give_up(callback: OnGroups) -> Callable[[Consumer, list[TopicPartition]], None]:
            def unassign(client: Consumer, partitions: list[TopicPartition]) -> None:
                groups = sorted(partition.partition for partition in partitions)
                if groups and not self._is_closing:
                    callback(groups)
                self._owned.difference_update(groups)
                self.remove([(self._lineage_topic, group) for group in groups])
                self._unassign(client)

            return unassign

        self._client.subscribe(
            [self._lineage_topic],
            on_assign=assign,
            on_revoke=give_up(on_revoked),
            on_lost=give_up(on_lost),
        )

    def follow(self, group: int, offset: int) -> None:
        """Consume the lineage partition of an owned group from `offset` on."""
        assert group in self._owned, f"task group {group} is not owned"
        self.add({(self._lineage_topic, group): offset})

    def add(self, offsets: Mapping[Partition, int]) -> None:
        """Consume these from explicit offsets; from a callback it takes effect behind the poll."""
        if self._is_polling:
            self._after_poll.append(partial(self.add, dict(offsets)))
        else:
            super().add(offsets)

    def remove(self, partitions: Collection[Partition]) -> None:
        """Stop consuming these; messages of them already fetched are dropped."""
        if not self._is_polling:
            super().remove(partitions)
            return
        known = self._forget(partitions)
        self._to_unassign.extend(known)
        self._removed_in_poll.update(known)
        # For one that the same callback added before.
        self._after_poll.append(partial(self.remove, tuple(partitions)))

    def pause(self, partitions: Collection[Partition]) -> None:
        """Fetch no more of these until `resume`; partitions that are not read are ignored."""
        if self._is_polling:
            self._after_poll.append(partial(self.pause, tuple(partitions)))
        else:
            super().pause(partitions)

    def resume(self, partitions: Collection[Partition]) -> None:
        """Fetch these again; partitions that are not read are ignored."""
        if self._is_polling:
            self._after_poll.append(partial(self.resume, tuple(partitions)))
        else:
            super().resume(partitions)

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit input offsets for lag tools, asynchronously; a failure is logged, not raised."""
        if not offsets or self._fenced is not None:
            return
        positions = [TopicPartition(topic, p, at) for (topic, p), at in offsets.items()]
        try:
            self._client.commit(offsets=positions, asynchronous=True)
        except failures.CLIENT_ERRORS as error:
            self._log.debug("offsets for lag tools not committed", error=failures.describe(error))

    def close(self, *, leave: bool) -> None:  # type: ignore[override] # a member has a place
        """Close; a static member keeps its place in the group unless `leave`.

        Leaving takes 0.4 s, and 5 s at most when the broker does not answer.
        """
        self._is_closing = self._is_polling = True
        if leave and self._is_static and self._fenced is None:
            # `close` of a static member does not leave; to unsubscribe does.
            self._client.unsubscribe()
            deadline = self._monotonic() + LEAVE_DEADLINE_S
            while self._owned and self._monotonic() < deadline:
                self._client.poll(0.05)
            # The request to leave is sent behind the callback.
            self._client.poll(0.2)
        super().close()

    def _fetch(self, timeout_s: float) -> list[KafkaMessage]:
        self._is_polling = True
        try:
            messages = super()._fetch(timeout_s)
        finally:
            self._is_polling = False
        if self._removed_in_poll:
            removed, self._removed_in_poll = self._removed_in_poll, set()
            messages = [m for m in messages if (m.topic(), m.partition()) not in removed]
        if self._after_poll:
            actions, self._after_poll = self._after_poll, []
            for action in actions:
                action()
        return messages

    def _unassign(self, client: Consumer) -> None:
        """Tell the client what is consumed no more: the one answer to a revocation."""
        partitions, self._to_unassign = self._to_unassign, []
        client.incremental_unassign(topic_partitions(partitions))

    def _topics(self) -> set[str]:
        return super()._topics() | {self._lineage_topic}

    def _on_commit(self, error: KafkaError | None, _partitions: list[TopicPartition]) -> None:
        # In a rebalance this fails and the next one succeeds; nothing reads these offsets.
        if error is not None:
            self._log.debug("offsets for lag tools not committed", error=failures.describe(error))
