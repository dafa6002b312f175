"""Reads the committed positions of sinks: metadata of offsets in a consumer group of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from kstash.errors import WireCorruptError
from kstash.kafka import failures
from kstash.kafka.clients import make_consumer
from kstash.ports.kafka import Partition

READ_DEADLINE_S = 30.0
ATTEMPT_TIMEOUT_S = 2.0
RETRY_PAUSE_S = 0.02


class CommittedPositionsReader:
    """Shared by the sink producers of a worker; safe to call from their threads.

    A consumer that never subscribes. (Not the admin client, which can list a group's offsets too:
    it crashes the process when the coordinator moves while it asks, librdkafka 2.16.)

    Args:
        settings: of the consumer.
        monotonic: seconds that never go back.
    """

    def __init__(
        self, settings: Mapping[str, Any], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
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
            KafkaUnavailableError: no answer within 30 s.
            ClusterError: the request was refused.
        """
        what = f"read the committed positions of group {self._group!r}"
        deadline = self._monotonic() + READ_DEADLINE_S
        while True:
            try:
                with self._lock:
                    self._client.poll(0)  # its log, which would pile up: it reads nothing
                    found = self._client.committed([TopicPartition(*position)], ATTEMPT_TIMEOUT_S)
                if found[0].error is not None:
                    raise KafkaException(found[0].error)
                return metadata_of(found[0]) if found[0].offset >= 0 else None
            except failures.CLIENT_ERRORS as error:
                inner = failures.kafka_error(error)
                # A group that may not be asked for times out, and the reason comes as a message.
                for reason in (self._refusal(), inner):
                    if reason is not None and reason.code() in failures.REFUSED_CODES:
                        right = "group", self._group, "READ"
                        raise failures.refused(what, reason, right=right) from error
                if self._monotonic() > deadline:
                    raise failures.unavailable(
                        self._bootstrap_servers, what, READ_DEADLINE_S, error
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
