"""Fences producers by their transactional ids, without writing anything."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from confluent_kafka import KafkaException

from kstash.errors import ClusterError
from kstash.kafka import failures
from kstash.kafka.clients import make_producer

DEADLINE_S = 30.0
THREADS = 16
"""Each call waits for a coordinator."""


def fence(settings: Mapping[str, Any], transactional_ids: Collection[str]) -> None:
    """Abort what is open under transactional ids, and bar the producers that use them now.

    Args:
        settings: of the clients, `bootstrap.servers` included.
        transactional_ids: in any order.

    Raises:
        KafkaUnavailableError: no answer within the deadline.
        ClusterError: the cluster refuses it.
    """

    def fence_one(transactional_id: str) -> None:
        producer = make_producer({**settings, "log_level": 0, "transactional.id": transactional_id})
        what = f"fence transactional id {transactional_id!r}"
        try:
            producer.init_transactions(DEADLINE_S)
        except (KafkaException, TimeoutError) as error:
            inner = failures.kafka_error(error)
            if inner is not None and inner.code() not in failures.UNREACHABLE_CODES:
                raise ClusterError(
                    f"Kafka refused to {what}: {failures.describe(error)}"
                ) from error
            servers = str(settings["bootstrap.servers"])
            raise failures.unavailable(servers, what, DEADLINE_S, error) from error

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(fence_one, transactional_ids):
            pass
