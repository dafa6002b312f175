"""Reads the committed positions of sinks: metadata of offsets in a consumer group of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from kstash.errors import WireCorruptError
from kstash.kafka import failures
from kstash.kafka.clients import make_consumer
from kstash.kafka.closing import close_in_time
from kstash.ports.kafka import Partition

READ_DEADLINE_S = 30.0
ATTEMPT_TIMEOUT_S = 2.0
RETRY_PAUSE_S = 0.02

_NO_TOPIC = failures.MISSING_TOPIC_CODES | {KafkaError.TOPIC_AUTHORIZATION_FAILED}
"""Of a partition that has no offset here, since there is no such topic, or not for this client."""


class CommittedPositionsReader:
    """Shared by the sink producers of a worker; safe to call from their threads.

    A consumer that never subscribes. (Not the admin client, which can list a group's offsets too:
    it crashes the process when the coordinator moves while it asks, librdkafka 2.16.)

    Args:
        settings: of the consumer.
        deadline_s: of each call, in seconds.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        deadline_s: float = READ_DEADLINE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deadline_s = deadline_s
        self._group = str(settings["group.id"])
        self._bootstrap_servers = str(settings["bootstrap.servers"])
        self._monotonic = monotonic
        self._client = make_consumer(settings)
        # A consumer is not for several threads at once.
        self._lock = threading.Lock()
        # Of a consumer that is no member (generation -1); with it the group takes offsets from
        # anyone, as long as it has no members.
        self.group_metadata: Any = self._client.consumer_group_metadata()

    def read(self, position: Partition) -> str | None:
        """Return the metadata last committed for an offset, None if there is none.

        Raises:
            KafkaUnavailableError: no answer within the deadline.
            ClusterError: the request was refused.
        """
        (found,) = self._committed([TopicPartition(*position)])
        return metadata_of(found) if found.offset >= 0 else None

    def offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Offsets last committed for these; those without one are left out.

        Raises:
            KafkaUnavailableError: no answer within the deadline.
            ClusterError: the request was refused.
        """
        parts = [TopicPartition(*partition) for partition in partitions]
        found = self._committed(parts, ignored=_NO_TOPIC)
        return {(part.topic, part.partition): part.offset for part in found if part.offset >= 0}

    def close(self) -> None:
        """Close the consumer."""
        close_in_time(f"{self._group}-positions", self._client.close)

    def _committed(
        self, asked: list[TopicPartition], *, ignored: Collection[int] = ()
    ) -> list[TopicPartition]:
        what = f"read the committed positions of group {self._group!r}"
        deadline = self._monotonic() + self._deadline_s
        while True:
            try:
                with self._lock:
                    self._client.poll(0)  # its log, which would pile up: it reads nothing
                    found = self._client.committed(asked, ATTEMPT_TIMEOUT_S)
                for part in found:
                    if part.error is not None and part.error.code() not in ignored:
                        raise KafkaException(part.error)
                return found
            except failures.CLIENT_ERRORS as error:
                inner = failures.kafka_error(error)
                # A group that may not be asked for times out, and the reason comes as a message.
                for reason in (self._refusal(), inner):
                    if reason is not None and reason.code() in failures.REFUSED_CODES:
                        right = "group", self._group, "READ"
                        raise failures.refused(what, reason, right=right) from error
                if self._monotonic() > deadline:
                    raise failures.unavailable(
                        self._bootstrap_servers, what, self._deadline_s, error
                    ) from error
            time.sleep(RETRY_PAUSE_S)

    def _refusal(self) -> KafkaError | None:
        with self._lock:
            message = self._client.poll(0)
        return None if message is None else message.error()


def metadata_of(committed: TopicPartition) -> str | None:
    """The metadata of a committed offset.

    Raises:
        WireCorruptError: it is no UTF-8, so nothing of kstash's.
    """
    try:
        return committed.metadata
    except UnicodeDecodeError as error:
        raise WireCorruptError(f"metadata of a committed offset: {error}") from error
