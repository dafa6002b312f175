"""What maintenance needs of a cluster: who is active, where time stands, what goes.

Every call has a deadline and raises `KafkaUnavailableError` past it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from kstash.errors import ApplicationRunningError, ClusterError
from kstash.kafka import failures
from kstash.kafka.clients import make_admin, make_consumer, make_producer
from kstash.kafka.complaints import Complaints, first_contact
from kstash.ports.kafka import Partition

DEADLINE_S = 30.0
RETRY_PAUSE_S = 0.2
FENCE_THREADS = 16
"""Each call waits for a coordinator."""

_GONE = failures.MISSING_TOPIC_CODES | {
    KafkaError.GROUP_ID_NOT_FOUND,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}

T = TypeVar("T")


class Maintenance:
    """Maintenance of an application's names in a cluster.

    Args:
        bootstrap_servers: `host:port`, comma-separated.
        settings: further client settings, such as `security.protocol`.
    """

    def __init__(self, bootstrap_servers: str, settings: Mapping[str, Any]) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._settings = {**settings, "bootstrap.servers": bootstrap_servers}
        self._complaints = Complaints(self._settings)
        self._client = make_admin(
            self._settings, logger=self._complaints, on_error=self._complaints.on_error
        )
        self._settings["log_level"] = 0

    @property
    def _admin(self) -> AdminClient:
        """The client, once the cluster has answered."""
        first_contact(self._client, self._complaints, self._bootstrap_servers, DEADLINE_S)
        return self._client

    def members(self, group: str) -> list[str]:
        """Names of a consumer group's members, with their hosts; none for a group that is not."""
        future = self._admin.describe_consumer_groups([group])[group]
        try:
            found = future.result(DEADLINE_S)
        except (KafkaException, TimeoutError) as error:
            inner = failures.kafka_error(error)
            if inner is not None and inner.code() in _GONE:
                return []
            raise self._failed(f"describe group {group!r}", error) from error
        return sorted(f"{m.group_instance_id or m.client_id} at {m.host}" for m in found.members)

    def wait_for_stop(
        self, application_id: str, wait_s: float, on_wait: Callable[[list[str]], None]
    ) -> None:
        """Wait until no worker of an application is active.

        Args:
            application_id: names the group.
            wait_s: a stopped static member and a killed worker count until their session ends.
            on_wait: called once, with the members that are waited for.

        Raises:
            ApplicationRunningError: some are after the wait.
        """
        deadline_s = time.monotonic() + wait_s
        is_told = False
        while members := self.members(application_id):
            if time.monotonic() > deadline_s:
                raise ApplicationRunningError(application_id, members)
            if not is_told:
                on_wait(members)
                is_told = True
            time.sleep(RETRY_PAUSE_S)

    def groups(self, names: Collection[str]) -> list[str]:
        """Those of the consumer groups that exist."""
        future = self._admin.list_consumer_groups()
        try:
            found = future.result(DEADLINE_S)
        except (KafkaException, TimeoutError) as error:
            raise self._failed("list the groups", error) from error
        listed = {group.group_id for group in found.valid}
        return [name for name in names if name in listed]

    def delete_groups(self, groups: Collection[str]) -> None:
        """Delete consumer groups with their offsets; a group that is gone is left alone."""
        if groups:
            self._each("delete group", self._admin.delete_consumer_groups(list(groups)))

    def delete_topics(self, topics: Collection[str]) -> None:
        """Delete topics, and wait until the cluster lists none of them; one that is gone is fine.

        Raises:
            ClusterError: the cluster refuses it.
        """
        if not topics:
            return
        self._each("delete topic", self._admin.delete_topics(list(topics)))
        deadline_s = time.monotonic() + DEADLINE_S
        while left := set(topics) & self._listed():
            if time.monotonic() > deadline_s:
                raise self._failed(f"delete {sorted(left)}", "they are still listed")
            time.sleep(RETRY_PAUSE_S)

    def _listed(self) -> set[str]:
        try:
            return set(self._admin.list_topics(timeout=DEADLINE_S).topics)
        except failures.CLIENT_ERRORS as error:
            raise self._failed("list the topics", error) from error

    def fence(self, transactional_ids: Collection[str]) -> None:
        """Abort what is open under transactional ids, and bar the producers that use them now.

        Raises:
            ClusterError: the cluster refuses it.
        """
        with ThreadPoolExecutor(FENCE_THREADS) as pool:
            for _ in pool.map(self._fence_one, transactional_ids):
                pass

    def _fence_one(self, transactional_id: str) -> None:
        producer = make_producer({**self._settings, "transactional.id": transactional_id})
        try:
            producer.init_transactions(DEADLINE_S)
        except (KafkaException, TimeoutError) as error:
            raise self._failed(f"fence transactional id {transactional_id!r}", error) from error

    def committed(self, group: str) -> dict[Partition, int]:
        """Offsets that a consumer group has committed; none for a group that is not."""
        request = ConsumerGroupTopicPartitions(group)
        future = self._admin.list_consumer_group_offsets([request])[group]
        try:
            found = future.result(DEADLINE_S).topic_partitions or []
        except (KafkaException, TimeoutError) as error:
            inner = failures.kafka_error(error)
            if inner is not None and inner.code() in _GONE:
                return {}
            raise self._failed(f"tell the positions of group {group!r}", error) from error
        return {(part.topic, part.partition): part.offset for part in found if part.offset >= 0}

    def offsets_at(self, partitions: Collection[Partition], time_ms: int) -> dict[Partition, int]:
        """Offset of the first record that is not older than a time; the end where there is none.

        Args:
            partitions: that exist.
            time_ms: Unix time in milliseconds.
        """
        consumer = make_consumer({**self._settings, "group.id": "kstash-tools"})
        try:
            found = consumer.offsets_for_times(
                [TopicPartition(*partition, time_ms) for partition in partitions], DEADLINE_S
            )
            for part in found:
                if part.error is not None:
                    # Its "offset" is the time that was asked for.
                    raise KafkaException(part.error)
            return {
                (part.topic, part.partition): part.offset
                if part.offset >= 0
                else consumer.get_watermark_offsets(part, timeout=DEADLINE_S)[1]
                for part in found
            }
        except failures.CLIENT_ERRORS as error:
            raise self._failed("look up offsets by time", error) from error
        finally:
            consumer.close()

    def _each(self, what: str, futures: Mapping[str, Any]) -> None:
        for name, future in futures.items():
            try:
                future.result(DEADLINE_S)
            except (KafkaException, TimeoutError) as error:
                inner = failures.kafka_error(error)
                if inner is None or inner.code() not in _GONE:
                    raise self._failed(f"{what} {name!r}", error) from error

    def _failed(self, what: str, error: object) -> Exception:
        inner = failures.kafka_error(error) if isinstance(error, BaseException) else None
        if inner is not None and inner.code() not in failures.UNREACHABLE_CODES:
            return ClusterError(f"Kafka refused to {what}: {failures.describe(error)}")
        return failures.unavailable(self._bootstrap_servers, what, DEADLINE_S, error)
