"""Reads the committed positions of sinks: metadata of offsets in a consumer group of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from kstash.kafka import failures
from kstash.kafka.settings import client_logger
from kstash.ports import Partition

READ_DEADLINE_S = 30.0
REQUEST_TIMEOUT_S = 5.0
RETRY_PAUSE_S = 0.02


class CommittedPositionsReader:
    """Shared by the sink producers of a worker; safe to call from their threads.

    Args:
        settings: of a consumer that never subscribes, with the group's name.
        admin_settings: of the admin client that reads.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        admin_settings: Mapping[str, Any],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._group = str(settings["group.id"])
        self._bootstrap_servers = str(settings["bootstrap.servers"])
        self._monotonic = monotonic
        # The metadata of a consumer that is no member (generation -1) needs no broker; with it the
        # group takes offsets from anyone, as long as it has no members.
        consumer = Consumer(dict(settings), logger=client_logger(self._group))
        self.group_metadata: Any = consumer.consumer_group_metadata()
        consumer.close()
        self._admin = AdminClient(dict(admin_settings), logger=client_logger(self._group))

    def read(self, position: Partition) -> str | None:
        """Return the metadata last committed for an offset, None if there is none.

        Raises:
            KafkaUnavailableError: no answer within 30 s.
            ClusterError: the request was refused.
        """
        request = ConsumerGroupTopicPartitions(self._group, [TopicPartition(*position)])
        deadline = self._monotonic() + READ_DEADLINE_S
        while True:
            try:
                # Stable: an offset that an open transaction would replace is waited for.
                future = self._admin.list_consumer_group_offsets(
                    [request], require_stable=True, request_timeout=REQUEST_TIMEOUT_S
                )[self._group]
                found = future.result(REQUEST_TIMEOUT_S + 1).topic_partitions[0]
                if found.error is not None:
                    raise KafkaException(found.error)
            except (KafkaException, TimeoutError) as error:
                inner = failures.kafka_error(error)
                code = None if inner is None else inner.code()
                if code == KafkaError.GROUP_ID_NOT_FOUND:
                    return None
                what = f"read the committed positions of group {self._group!r}"
                if code in failures.REFUSED_CODES:
                    raise failures.refused(what, error) from error
                if self._monotonic() > deadline:
                    raise failures.unavailable(
                        self._bootstrap_servers, what, READ_DEADLINE_S, error
                    ) from error
                time.sleep(RETRY_PAUSE_S)
                continue
            return found.metadata if found.offset >= 0 else None
