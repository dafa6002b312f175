"""A cluster as people and fixtures see it: topics, groups, and records to send and to read."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self, cast

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from kstash.errors import ClusterError, KafkaUnavailableError
from kstash.kafka.admin import KafkaAdmin
from kstash.kafka.admin_requests import AdminRequests
from kstash.kafka.clients import make_consumer, make_producer
from kstash.kafka.failures import UNREACHABLE_CODES, describe, refused
from kstash.kafka.groups import KafkaGroups
from kstash.kafka.headers import with_headers_read
from kstash.ports.kafka import Message

_DEADLINE_S = 15.0
GROUP = "kstash-tools"
"""The client wants a name; nothing is joined or committed under it."""
_CONSUME_RECORDS_MAX = 500
_POLL_S = 0.1


class KafkaConsole:
    """Clients of one cluster for the command line and the test fixtures. A context manager.

    There is no lineage in what it sends. Every call has a deadline, and raises
    `KafkaUnavailableError` past it.

    Args:
        bootstrap_servers: `host:port`, comma-separated.
        settings: further client settings, such as `security.protocol`.
        deadline_s: how long one call may take, in seconds.

    Attributes:
        admin: topics, and where their logs begin and end.
        groups: consumer groups.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        settings: Mapping[str, Any] | None = None,
        *,
        deadline_s: float = _DEADLINE_S,
    ) -> None:
        self._deadline_s = deadline_s
        self._settings: dict[str, Any] = {
            **(settings or {}),
            "bootstrap.servers": bootstrap_servers,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 1000,
        }
        self._requests = AdminRequests(self._settings, deadline_s=deadline_s, is_for_people=True)
        self.admin = KafkaAdmin(self._requests)
        self.groups = KafkaGroups(self._requests)
        # Errors are raised where they matter; the client's own lines would mix with output.
        self._settings = {**self._settings, "log_level": 0}
        self._producer: Producer | None = None
        self._delivery_error: KafkaError | None = None

    def send(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> None:
        """Hand one record to the producer; `flush` waits for it.

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
                    raise self._requests.unavailable("take records", error) from error
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
                f"{missing} records were not acknowledged by "
                f"{self._settings['bootstrap.servers']!r} within "
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
        self._requests.contact()
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

    def first_times(self, offsets: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
        """Timestamp in Unix ms of the first record at or after each offset.

        A partition without a record there, as after markers of transactions, is left out.

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
            self._requests.poll()
            is_silent = time.monotonic() - heard_at > self._deadline_s
            if not messages and is_silent and not (follow and is_connected):
                silent = ", ".join(f"{topic} [{number}]" for topic, number in sorted(unfinished))
                raise self._requests.unavailable("serve records", f"nothing was heard of {silent}")
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

    def _open_producer(self) -> Producer:
        if self._producer is None:
            self._requests.contact()
            self._producer = make_producer({**self._settings, "acks": "all", "linger.ms": 5})
        return self._producer

    def _on_delivery(self, error: KafkaError | None, _: object) -> None:
        if error is not None and self._delivery_error is None:
            self._delivery_error = error

    def _check_delivery(self) -> None:
        if self._delivery_error is not None:
            raise ClusterError(f"a record was not delivered: {describe(self._delivery_error)}")


def _refused(what: str, topic: str | None, error: object) -> ClusterError:
    """The error of what the cluster does not allow; without a topic it is about the group."""
    right = ("topic", topic, "READ") if topic else ("group", GROUP, "READ")
    return refused(what if topic is None else f"{what} topic {topic!r}", error, right=right)
