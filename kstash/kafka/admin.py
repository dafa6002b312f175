"""Topic administration: every call has a deadline, passing errors are tried again within it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import structlog
from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined] # exported without __all__
    ConfigResource,
    OffsetSpec,
)
from confluent_kafka.cimpl import NewTopic as ClientNewTopic

from kstash.errors import ClusterError, TopicMissingError
from kstash.kafka import failures
from kstash.kafka.clients import make_admin
from kstash.kafka.complaints import Complaints
from kstash.ports.kafka import NewTopic, Partition, TopicInfo

DEADLINE_S = 30.0
REQUEST_TIMEOUT_S = 10.0
FIRST_TIMEOUT_S = 2.0
"""Of a first attempt, doubled with each further one: the client waits in vain for a broker that
hangs, and looks for another one only when it is asked again."""
MISSING_GRACE_S = 5.0
"""A topic that was just created may be unknown to a broker for a moment: 20 ms with one partition,
1 to 3 s with 200 of them on a busy machine."""
NEW_GRACE_S = 10.0
"""The same for topics that decide whether a worker starts at all."""
RETRY_PAUSE_S = 0.1

_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]

log = structlog.get_logger("kstash.kafka")

T = TypeVar("T")
K = TypeVar("K")


class KafkaAdmin:
    """`kstash.ports.kafka.Admin` over confluent-kafka.

    Args:
        settings: of the client.
        deadline_s: of each call, in seconds.
        has_access: whether another client of these settings had an answer before: then the cluster
            is away for a while when it does not answer.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        deadline_s: float = DEADLINE_S,
        has_access: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bootstrap_servers = str(settings["bootstrap.servers"])
        self._deadline_s = deadline_s
        self._request_timeout_s = min(REQUEST_TIMEOUT_S, deadline_s)
        self._monotonic = monotonic
        # Topics of which a deletion has failed, and was reported.
        self._undeleted: set[str] = set()
        self._complaints = Complaints(settings, monotonic=monotonic)
        self._complaints.is_over = has_access
        self._client = make_admin(
            settings, logger=self._complaints, on_error=self._complaints.on_error
        )

    @property
    def has_access(self) -> bool:
        """Whether the cluster has answered once."""
        return self._complaints.is_over

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
        # Beyond the deadline: it raises rather than to leave one out.
        grace_s = 2 * self._deadline_s if are_created else NEW_GRACE_S if may_be_new else 0.0
        found = self._descriptions(names, grace_s=grace_s)
        resources = {name: ConfigResource(ConfigResource.Type.TOPIC, name) for name in found}
        configs = self._ask_all(
            "describe the topics' settings",
            list(resources.values()),
            lambda rest, timeout_s: self._client.describe_configs(rest, request_timeout=timeout_s),
            absent=failures.MISSING_TOPIC_CODES,
            grace_s=grace_s,
            right="DESCRIBE_CONFIGS",
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

    def create(self, topics: Sequence[NewTopic]) -> None:
        """Create topics; one that exists already is left as it is. Returns when all are there.

        Raises:
            KafkaUnavailableError: no answer within the deadline.
            ClusterError: the cluster refuses a topic, for example its replication factor.
        """
        by_name = {topic.name: topic for topic in topics}
        if not by_name:
            return
        self._ask_all(
            "create topics",
            sorted(by_name),
            lambda rest, timeout_s: self._client.create_topics(
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
            right="CREATE",
        )
        self.describe(list(by_name), are_created=True)

    def end_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """High watermark of each partition (`read_uncommitted` end).

        Raises:
            TopicMissingError: a topic or partition does not exist.
            KafkaUnavailableError: no answer within the deadline.
        """
        return self._list_offsets(partitions, _LATEST)

    def ask_end_offsets(
        self, partitions: Collection[Partition]
    ) -> Callable[[], dict[Partition, int] | None]:
        """Ask for end offsets without waiting; the result is None until the answer is there."""
        return self._ask_offsets(partitions, _LATEST)

    def ask_stable_ends(
        self, partitions: Collection[Partition]
    ) -> Callable[[], dict[Partition, int] | None]:
        """Ask for last stable offsets without waiting, as `ask_end_offsets`."""
        return self._ask_offsets(partitions, _LATEST, IsolationLevel.READ_COMMITTED)

    def ask_start_offsets(
        self, partitions: Collection[Partition]
    ) -> Callable[[], dict[Partition, int] | None]:
        """Ask for log start offsets without waiting, as `ask_end_offsets`."""
        return self._ask_offsets(partitions, _EARLIEST)

    def delete_records(
        self, limits: Mapping[Partition, int]
    ) -> Callable[[], dict[Partition, int] | None]:
        """Delete records below these offsets without waiting; what failed is logged, left out."""
        futures = self._client.delete_records(
            [TopicPartition(topic, number, at) for (topic, number), at in limits.items()],
            request_timeout=self._request_timeout_s,
        )
        return partial(self._starts_after_deletion, futures)

    def start_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Log start offset of each partition; raises as `end_offsets`."""
        return self._list_offsets(partitions, _EARLIEST)

    def close(self) -> None:
        """Close; the client ends with its last reference."""
        del self._client

    def _ask_offsets(
        self,
        partitions: Collection[Partition],
        spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> Callable[[], dict[Partition, int] | None]:
        futures = self._client.list_offsets(
            {TopicPartition(*partition): spec for partition in partitions},
            isolation_level=isolation,
            request_timeout=self._request_timeout_s,
        )

        def answer() -> dict[Partition, int] | None:
            if not all(future.done() for future in futures.values()):
                return None
            return {
                (partition.topic, partition.partition): future.result().offset
                for partition, future in futures.items()
                if future.exception() is None and _is_listed(future.result())
            }

        return answer

    def _list_offsets(
        self, partitions: Collection[Partition], spec: OffsetSpec
    ) -> dict[Partition, int]:
        if not partitions:
            return {}

        def ask(rest: list[TopicPartition], timeout_s: float) -> Mapping[TopicPartition, Any]:
            if asked:
                return asked.pop()
            return self._client.list_offsets(
                dict.fromkeys(rest, spec),
                isolation_level=IsolationLevel.READ_UNCOMMITTED,
                request_timeout=timeout_s,
            )

        wanted = {TopicPartition(*partition): partition for partition in partitions}
        asked: list[Mapping[TopicPartition, Any]] = []
        # Beside the check, since a recovery waits for both.
        asked.append(ask(list(wanted), min(FIRST_TIMEOUT_S, self._request_timeout_s)))
        self._check_existence(partitions)
        found = self._ask_all("list offsets", list(wanted), ask, absent=(), is_answer=_is_listed)
        return {wanted[partition]: result.offset for partition, result in found.items()}

    def _check_existence(self, partitions: Collection[Partition]) -> None:
        """Raise when a topic or partition does not exist: listing offsets does not report it."""
        topics = sorted({topic for topic, _ in partitions})
        found = self._descriptions(topics, grace_s=MISSING_GRACE_S)
        counts = {topic: len(found[topic].partitions) if topic in found else 0 for topic in topics}
        missing = [topic for topic, number in partitions if number >= counts[topic]]
        if missing:
            raise TopicMissingError(sorted(set(missing)))

    def _descriptions(self, topics: list[str], grace_s: float = 0.0) -> dict[str, Any]:
        return self._ask_all(
            "describe the topics",
            topics,
            lambda rest, timeout_s: self._client.describe_topics(
                TopicCollection(rest),
                include_authorized_operations=True,
                request_timeout=timeout_s,
            ),
            absent=failures.MISSING_TOPIC_CODES,
            grace_s=grace_s,
        )

    def _ask_all(
        self,
        what: str,
        items: list[K],
        ask: Callable[[list[K], float], Mapping[K, Future[T]]],
        *,
        absent: Collection[int],
        grace_s: float = 0.0,
        is_answer: Callable[[T], bool] = lambda _: True,
        right: str = "DESCRIBE",
    ) -> dict[K, T]:
        """Ask for items until each has an answer; those with an `absent` code are left out.

        A code that says so is believed only after `grace_s`. `ask` takes items and a time-out; what
        is no answer by `is_answer` is asked for again. `right` is what it takes on each topic.
        """
        started = self._monotonic()
        timeout_s = min(FIRST_TIMEOUT_S, self._request_timeout_s)
        self._client.poll(0)  # its log, which would pile up
        results: dict[K, T] = {}
        rest = items
        while rest:
            again: list[K] = []
            last_error: object = "no answer"
            for item, future in ask(rest, timeout_s).items():
                try:
                    result = self._complaints.wait(self._client, future, timeout_s + 1)
                    if is_answer(result):
                        results[item] = result
                    else:
                        again.append(item)
                except (KafkaException, TimeoutError) as error:
                    last_error = error
                    is_absent = self._is_absent(what, error, absent, (item, right))
                    if not is_absent or self._monotonic() - started < grace_s:
                        again.append(item)
            if again and self._monotonic() - started > self._deadline_s:
                raise failures.unavailable(
                    self._bootstrap_servers,
                    what,
                    self._deadline_s,
                    last_error,
                    self._complaints.reason,
                )
            rest = again
            if rest:
                self._look_for_brokers(timeout_s)
                timeout_s = min(2 * timeout_s, self._request_timeout_s)
                time.sleep(RETRY_PAUSE_S)
        return results

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

    def _look_for_brokers(self, timeout_s: float) -> None:
        """Have the client forget a controller that hangs: by itself it waits for it for ever."""
        with suppress(KafkaException):
            self._client.list_topics(timeout=timeout_s)
            self._complaints.answered()  # by any broker: what others refuse is an outage

    def _is_absent(
        self,
        what: str,
        error: BaseException,
        absent: Iterable[int],
        wanted: tuple[object, str] = ("", "DESCRIBE"),
    ) -> bool:
        """Whether an item is absent; False: ask again. Raises what waiting does not mend."""
        inner = failures.kafka_error(error)
        if inner is None:
            return False
        if inner.code() in absent:
            return True
        if inner.code() in failures.REFUSED_CODES:
            item, right = wanted
            topic = getattr(item, "topic", None) or getattr(item, "name", None) or str(item)
            raise failures.refused(what, error, right=("topic", topic, right))
        if inner.retriable() or inner.code() in failures.UNREACHABLE_CODES:
            return False
        if inner.code() in _PASSING_CODES:
            return False
        raise ClusterError(f"Kafka refused to {what}: {failures.describe(error)}")


def _is_listed(result: Any) -> bool:
    """Whether a listed offset is one.

    A request to a leader that fails or times out leaves the client's own "no offset", below 0, and
    no error: its `ListOffsets` drops that of a part (librdkafka 2.16).
    """
    return int(result.offset) >= 0


_PASSING_CODES = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_CONTROLLER,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.UNKNOWN_LEADER_EPOCH,  # the client knows the leader before the broker does
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._DESTROY_BROKER,  # a bootstrap address, once the client knows the nodes
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._WAIT_COORD,
        KafkaError._NOENT,  # a partition without a leader
    }
)
"""Errors that pass by themselves, without the client saying so."""
