"""Administration of a cluster: topics, offsets, records."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import structlog
from confluent_kafka import KafkaError, TopicCollection, TopicPartition
from confluent_kafka.admin import ConfigResource  # type: ignore[attr-defined] # no __all__
from confluent_kafka.cimpl import NewTopic as ClientNewTopic

from kstash.errors import TopicMissingError
from kstash.kafka import failures
from kstash.kafka.admin_requests import AdminRequests
from kstash.kafka.offset_requests import EARLIEST, LATEST, NO_RECORD, OffsetRequests
from kstash.ports.kafka import NewTopic, OffsetsAnswer, Partition, TopicInfo

MISSING_GRACE_S = 5.0
"""A topic that was just created may be unknown to a broker for a moment: 20 ms with one partition,
1 to 3 s with 200 of them on a busy machine."""
NEW_GRACE_S = 10.0
"""The same for topics that decide whether a worker starts at all."""
LOOK_PAUSE_S = 0.1

log = structlog.get_logger("kstash.kafka")


class KafkaAdmin:
    """`kstash.ports.kafka.Admin` over confluent-kafka, and what people need beside it.

    Args:
        requests: asks the cluster.
    """

    def __init__(self, requests: AdminRequests) -> None:
        self._requests = requests
        self._offsets = OffsetRequests(requests, self._check_existence)
        # Topics of which a deletion has failed, and was reported.
        self._undeleted: set[str] = set()

    @property
    def has_access(self) -> bool:
        """Whether the cluster has answered once."""
        return self._requests.has_access

    def topics(self) -> list[TopicInfo]:
        """All topics but Kafka's own, by name, without their settings.

        Raises:
            KafkaUnavailableError: no answer within the deadline.
        """
        return [
            TopicInfo(
                name,
                len(topic.partitions),
                min((len(p.replicas) for p in topic.partitions.values()), default=0),
            )
            for name, topic in sorted(self._metadata().topics.items())
            if not name.startswith("__")
        ]

    def partition_count(self, topic: str) -> int:
        """Number of partitions of a topic, which may have been created a moment ago.

        Raises:
            TopicMissingError: there is no such topic.
        """
        deadline = time.monotonic() + MISSING_GRACE_S
        while True:
            for info in self.topics():
                if info.name == topic:
                    return info.partition_count
            if time.monotonic() > deadline:
                raise TopicMissingError([topic], f"kstash topics create {topic} --partitions N")
            time.sleep(LOOK_PAUSE_S)

    def describe(
        self, topics: Sequence[str], *, are_created: bool = False, may_be_new: bool = False
    ) -> dict[str, TopicInfo]:
        """Existing topics among `topics`, with their settings; missing ones are left out.

        Each request may go to another broker, and a new topic is known to all of them only after a
        moment: with `are_created` an answer that does not know it is not believed, with
        `may_be_new` only after `NEW_GRACE_S`.

        Raises:
            KafkaUnavailableError: no answer within the deadline.
            ClusterError: the request was refused.
        """
        names = sorted(set(topics))
        if not names:
            return {}
        grace_s = NEW_GRACE_S if may_be_new else 0.0
        if are_created:
            # Beyond the deadline: it raises rather than to leave one out.
            grace_s = 2 * self._requests.deadline_s
        found = self._descriptions(names, grace_s=grace_s)
        resources = {name: ConfigResource(ConfigResource.Type.TOPIC, name) for name in found}
        configs = self._requests.ask_all(
            "describe the topics' settings",
            list(resources.values()),
            lambda rest, timeout_s: self._requests.client.describe_configs(
                rest, request_timeout=timeout_s
            ),
            absent=failures.MISSING_TOPIC_CODES,
            grace_s=grace_s,
            right=("topic", "DESCRIBE_CONFIGS"),
        )
        return {
            name: TopicInfo(
                name=name,
                partition_count=len(found[name].partitions),
                replication_factor=min(
                    (len(p.replicas) for p in found[name].partitions), default=0
                ),
                config={key: str(entry.value) for key, entry in configs[resource].items()},
                topic_id=str(found[name].topic_id),
                operations=frozenset(
                    right.name for right in found[name].authorized_operations or ()
                ),
            )
            for name, resource in resources.items()
            if resource in configs
        }

    def create(self, topics: Sequence[NewTopic]) -> list[str]:
        """Create topics, and wait until all brokers know them; one that exists is left as it is.

        Returns:
            Names of those that existed already.

        Raises:
            KafkaUnavailableError: no answer within the deadline.
            ClusterError: the cluster refuses a topic, for example its replication factor.
        """
        by_name = {topic.name: topic for topic in topics}
        if not by_name:
            return []
        created = self._requests.ask_all(
            "create topics",
            sorted(by_name),
            lambda rest, timeout_s: self._requests.client.create_topics(
                [
                    ClientNewTopic(
                        name,
                        by_name[name].partition_count,
                        by_name[name].replication_factor or -1,
                        config=dict(by_name[name].config),
                    )
                    for name in rest
                ],
                request_timeout=timeout_s,
            ),
            absent={KafkaError.TOPIC_ALREADY_EXISTS},
            right=("topic", "CREATE"),
        )
        self.describe(list(by_name), are_created=True)
        return [name for name in by_name if name not in created]

    def delete_topics(self, topics: Collection[str]) -> None:
        """Delete topics, and wait until the cluster lists none of them; one that is gone is fine.

        Raises:
            KafkaUnavailableError: no answer within the deadline.
            ClusterError: the cluster refuses it.
        """
        if not topics:
            return
        self._requests.ask_all(
            "delete topics",
            sorted(topics),
            lambda rest, timeout_s: self._requests.client.delete_topics(
                rest, request_timeout=timeout_s
            ),
            absent=failures.MISSING_TOPIC_CODES,
            right=("topic", "DELETE"),
        )
        deadline_s = time.monotonic() + self._requests.deadline_s
        while left := set(topics) & self._metadata().topics.keys():
            if time.monotonic() > deadline_s:
                raise self._requests.unavailable(f"delete {sorted(left)}", "they are still listed")
            time.sleep(LOOK_PAUSE_S)

    def end_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """High watermark of each partition (`read_uncommitted` end).

        Raises:
            TopicMissingError: a topic or partition does not exist.
            KafkaUnavailableError: no answer within the deadline.
        """
        return self._offsets.read(partitions, LATEST)

    def ask_end_offsets(self, partitions: Collection[Partition]) -> OffsetsAnswer:
        """Ask for end offsets without waiting; the result is None until the answer is there."""
        return self._offsets.ask(partitions, LATEST)

    def ask_stable_ends(self, partitions: Collection[Partition]) -> OffsetsAnswer:
        """Ask for last stable offsets without waiting, as `ask_end_offsets`."""
        return self._offsets.ask(partitions, LATEST, is_stable=True)

    def ask_start_offsets(self, partitions: Collection[Partition]) -> OffsetsAnswer:
        """Ask for log start offsets without waiting, as `ask_end_offsets`."""
        return self._offsets.ask(partitions, EARLIEST)

    def delete_records(self, limits: Mapping[Partition, int]) -> OffsetsAnswer:
        """Delete records below these offsets without waiting; what failed is logged, left out."""
        futures = self._requests.client.delete_records(
            [TopicPartition(topic, number, at) for (topic, number), at in limits.items()],
            request_timeout=self._requests.timeout_s,
        )
        return partial(self._starts_after_deletion, futures)

    def start_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Log start offset of each partition; raises as `end_offsets`."""
        return self._offsets.read(partitions, EARLIEST)

    def stable_ends(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Last stable offset of each partition; raises as `end_offsets`."""
        return self._offsets.read(partitions, LATEST, is_stable=True)

    def offsets_at(self, partitions: Collection[Partition], time_ms: int) -> dict[Partition, int]:
        """Offset of the first record that is not older than a time; the end where there is none.

        Args:
            partitions: of any topics.
            time_ms: Unix time in milliseconds.

        Raises:
            TopicMissingError: a topic or partition does not exist.
            KafkaUnavailableError: the offset of a partition is not to be had within the deadline.
        """
        found = self._offsets.read_at(partitions, time_ms)
        none = [partition for partition, offset in found.items() if offset == NO_RECORD]
        return found | self.stable_ends(none)

    def close(self) -> None:
        """Close the client."""
        self._requests.close()

    def _metadata(self) -> Any:
        client, timeout_s = self._requests.client, self._requests.deadline_s
        return self._requests.call(
            "list the topics",
            lambda: client.list_topics(timeout=timeout_s),
            right=("cluster", "", "DESCRIBE"),
        )

    def _check_existence(self, partitions: Collection[Partition]) -> None:
        """Raise when a topic or partition does not exist: listing offsets does not report it."""
        topics = sorted({topic for topic, _ in partitions})
        found = self._descriptions(topics, grace_s=MISSING_GRACE_S)
        counts = {topic: len(found[topic].partitions) if topic in found else 0 for topic in topics}
        missing = [topic for topic, number in partitions if number >= counts[topic]]
        if missing:
            raise TopicMissingError(sorted(set(missing)))

    def _descriptions(self, topics: list[str], grace_s: float = 0.0) -> dict[str, Any]:
        return self._requests.ask_all(
            "describe the topics",
            topics,
            lambda rest, timeout_s: self._requests.client.describe_topics(
                TopicCollection(rest),
                include_authorized_operations=True,
                request_timeout=timeout_s,
            ),
            absent=failures.MISSING_TOPIC_CODES,
            grace_s=grace_s,
        )

    def _starts_after_deletion(
        self, futures: Mapping[TopicPartition, Future[Any]]
    ) -> dict[Partition, int] | None:
        if not all(future.done() for future in futures.values()):
            return None
        starts: dict[Partition, int] = {}
        for place, future in futures.items():
            error = future.exception()
            if error is None:
                starts[place.topic, place.partition] = future.result().low_watermark
                self._undeleted.discard(place.topic)
            elif place.topic not in self._undeleted:
                self._undeleted.add(place.topic)
                log.warning(
                    "records not deleted, trying again later",
                    topic=place.topic,
                    partition=place.partition,
                    reason=failures.describe(error),
                )
        return starts
