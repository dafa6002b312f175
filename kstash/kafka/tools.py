"""Plain Kafka clients for the command line and the test fixtures; no lineage in here.

Every call has a deadline and raises `KafkaUnavailableError` past it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, cast

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.cimpl import NewTopic as KafkaNewTopic

from kstash.errors import ClusterError, KafkaUnavailableError, TopicMissingError
from kstash.kafka.admin import MISSING_GRACE_S
from kstash.kafka.clients import make_admin, make_consumer, make_producer
from kstash.kafka.complaints import Complaints, first_contact
from kstash.kafka.failures import (
    CLIENT_ERRORS,
    REFUSED_CODES,
    UNREACHABLE_CODES,
    describe,
    kafka_error,
    refused,
)
from kstash.kafka.failures import unavailable as unavailable_error
from kstash.kafka.headers import with_headers_read
from kstash.ports.kafka import Message, NewTopic, TopicInfo

_DEADLINE_S = 15.0
GROUP = "kstash-tools"
"""The client wants a name; nothing is joined or committed under it."""
_CONSUME_RECORDS_MAX = 500
_POLL_S = 0.1


class KafkaTools:
    """Topics and records of a cluster, for people and tests. A context manager.

    Args:
        bootstrap_servers: `host:port`, comma-separated.
        settings: further client settings, such as `security.protocol`.
        deadline_s: how long one call may take, in seconds.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        settings: Mapping[str, Any] | None = None,
        *,
        deadline_s: float = _DEADLINE_S,
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._deadline_s = deadline_s
        self._settings: dict[str, Any] = {
            **(settings or {}),
            "bootstrap.servers": bootstrap_servers,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 1000,
        }
        self._complaints = Complaints(self._settings)
        self._admin = make_admin(
            self._settings, logger=self._complaints, on_error=self._complaints.on_error
        )
        # Errors are raised where they matter; the client's own lines would mix with output.
        self._settings["log_level"] = 0
        self._producer: Producer | None = None
        self._delivery_error: KafkaError | None = None

    def topics(self) -> list[TopicInfo]:
        """All topics but Kafka's own, by name, without their settings."""
        metadata = self._call(lambda: self._admin.list_topics(timeout=self._deadline_s), "answer")
        return [
            TopicInfo(
                name,
                len(topic.partitions),
                min((len(p.replicas) for p in topic.partitions.values()), default=0),
            )
            for name, topic in sorted(metadata.topics.items())
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
            time.sleep(_POLL_S)

    def create(self, topics: Sequence[NewTopic]) -> list[str]:
        """Create topics and wait until the cluster lists them.

        Returns:
            Names of those that existed already; they are left as they are.

        Raises:
            ClusterError: the cluster refused one; names it.
        """
        existing = []
        requests = [
            KafkaNewTopic(
                topic.name,
                num_partitions=topic.partition_count,
                replication_factor=topic.replication_factor or -1,
                config=dict(topic.config),
            )
            for topic in topics
        ]
        self._connect()
        for name, future in self._admin.create_topics(requests).items():
            try:
                future.result(timeout=self._deadline_s)
            except KafkaException as error:
                inner = kafka_error(error)
                if inner is not None and inner.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                    existing.append(name)
                elif inner is not None and inner.code() in UNREACHABLE_CODES:
                    raise self._unavailable("create a topic", error) from error
                else:
                    raise ClusterError(
                        f"topic {name!r} was not created: {describe(error)}"
                    ) from error
            except TimeoutError as error:
                raise self._unavailable("create a topic", error) from error
        self._wait_listed({topic.name for topic in topics})
        return existing

    def send(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> None:
        """Hand one record to the producer; `flush` makes sure of it.

        Raises:
            ClusterError: an earlier one was refused.
            KafkaUnavailableError: the queue is full, and nothing was taken within the deadline.
        """
        producer = self._open_producer()
        deadline = time.monotonic() + self._deadline_s
        while True:
            try:
                producer.produce(
                    topic, value, key, partition=partition, on_delivery=self._on_delivery
                )
                break
            except BufferError as error:
                producer.poll(_POLL_S)
                self._check_delivery()
                if time.monotonic() > deadline:
                    raise self._unavailable("take records", error) from error
        producer.poll(0)
        self._check_delivery()

    def flush(self) -> None:
        """Wait until all records sent are acknowledged.

        Raises:
            ClusterError: one was refused.
        """
        if self._producer is None:
            return
        missing = self._producer.flush(self._deadline_s)
        self._check_delivery()
        if missing:
            raise KafkaUnavailableError(
                f"{missing} records were not acknowledged by {self._bootstrap_servers!r} within "
                f"{self._deadline_s:g} s"
            )

    def read(
        self,
        offsets: Mapping[tuple[str, int], int],
        *,
        follow: bool = False,
        uncommitted: bool = False,
    ) -> Iterator[Message]:
        """Records from the given offsets on, in order within a partition.

        Args:
            offsets: first offset by (topic, partition); -2 is the beginning, -1 the end.
            follow: go on for ever instead of stopping at the end of the partitions.
            uncommitted: also records of transactions that are open or were aborted.

        Raises:
            KafkaUnavailableError: nothing was heard of a partition within the deadline, as when it
                has no leader; names it. With `follow` that counts until the first answer only.
        """
        self._connect()
        consumer = make_consumer(
            {
                **self._settings,
                "group.id": GROUP,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_uncommitted" if uncommitted else "read_committed",
            }
        )
        try:
            consumer.assign([TopicPartition(*place, offset) for place, offset in offsets.items()])
            yield from self._messages(consumer, set(offsets), follow)
        finally:
            consumer.close()

    def offsets(
        self, partitions: Sequence[tuple[str, int]], *, is_end: bool
    ) -> dict[tuple[str, int], int]:
        """First offset of each partition, or the one behind its last record.

        Raises:
            KafkaUnavailableError: no answer within the deadline.
        """
        self._connect()
        consumer = make_consumer({**self._settings, "group.id": GROUP})
        try:
            return {
                place: self._call(
                    partial(
                        consumer.get_watermark_offsets,
                        TopicPartition(*place),
                        timeout=self._deadline_s,
                    ),
                    "tell offsets",
                )[int(is_end)]
                for place in partitions
            }
        finally:
            consumer.close()

    def first_times(self, offsets: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
        """Timestamp in Unix ms of the first record at or behind each offset.

        A partition without a record there, as behind markers of transactions, is left out.

        Raises:
            KafkaUnavailableError: nothing was heard of a partition within the deadline.
        """
        found: dict[tuple[str, int], int] = {}
        if not offsets:
            return found
        for message in self.read(offsets):
            found.setdefault((message.topic(), message.partition()), message.timestamp()[1])
            if len(found) == len(offsets):
                break
        return found

    def close(self) -> None:
        """Let go of the clients; records not flushed are lost."""
        self._producer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _messages(
        self, consumer: Consumer, unfinished: set[tuple[str, int]], follow: bool
    ) -> Iterator[Message]:
        heard_at = time.monotonic()
        is_connected = False
        while unfinished or follow:
            messages = consumer.consume(_CONSUME_RECORDS_MAX, _POLL_S)
            self._admin.poll(0)  # its log, which would pile up
            is_silent = time.monotonic() - heard_at > self._deadline_s
            if not messages and is_silent and not (follow and is_connected):
                silent = ", ".join(f"{topic} [{number}]" for topic, number in sorted(unfinished))
                raise self._unavailable("serve records", f"nothing was heard of {silent}")
            for message in with_headers_read(messages):
                error = message.error()
                if error is None:
                    is_connected = True
                    yield cast(Message, message)  # its stub is wider than what comes
                    # Whoever took it may have been slow.
                    heard_at = time.monotonic()
                elif error.code() == KafkaError._PARTITION_EOF:
                    is_connected = True
                    heard_at = time.monotonic()
                    topic, partition = message.topic(), message.partition()
                    assert topic is not None
                    assert partition is not None
                    unfinished.discard((topic, partition))
                elif error.code() not in UNREACHABLE_CODES:
                    raise _refused("read", message.topic(), error)

    def _wait_listed(self, names: set[str]) -> None:
        deadline = time.monotonic() + self._deadline_s
        while not names <= {info.name for info in self.topics()}:
            if time.monotonic() > deadline:
                raise self._unavailable("list the new topics", "they are not there yet")
            time.sleep(0.02)

    def _open_producer(self) -> Producer:
        if self._producer is None:
            self._connect()
            self._producer = make_producer({**self._settings, "acks": "all", "linger.ms": 5})
        return self._producer

    def _on_delivery(self, error: KafkaError | None, _: object) -> None:
        if error is not None and self._delivery_error is None:
            self._delivery_error = error

    def _check_delivery(self) -> None:
        if self._delivery_error is not None:
            raise ClusterError(f"a record was not delivered: {describe(self._delivery_error)}")

    def _connect(self) -> None:
        """Wait for the first answer of the cluster, and for no other."""
        first_contact(self._admin, self._complaints, self._bootstrap_servers, self._deadline_s)

    def _call(self, call: Any, what: str) -> Any:
        self._connect()
        try:
            return call()
        except CLIENT_ERRORS as error:
            inner = kafka_error(error)
            if inner is not None and inner.code() in REFUSED_CODES:
                raise _refused(what, None, error) from error
            raise self._unavailable(what, error) from error

    def _unavailable(self, what: str, error: object) -> Exception:
        return unavailable_error(self._bootstrap_servers, what, self._deadline_s, error)


def _refused(what: str, topic: str | None, error: object) -> ClusterError:
    """The error of what the cluster does not allow; without a topic it is about the group."""
    right = ("topic", topic, "READ") if topic else ("group", GROUP, "READ")
    return refused(what if topic is None else f"{what} topic {topic!r}", error, right=right)
