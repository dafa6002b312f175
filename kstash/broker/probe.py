"""Whether the brokers answer: what "ready" means."""

from __future__ import annotations

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient


class ClusterProbe:
    """Asks a cluster that may still be starting which brokers it has."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._admin = AdminClient(
            {
                "bootstrap.servers": bootstrap_servers,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 100,
                # Refused connections are the normal case here and would fill the terminal.
                "log_level": 0,
            }
        )

    def broker_ids(self, timeout_s: float) -> set[int]:
        """Ids of the brokers that serve clients, empty when nobody answers within `timeout_s`."""
        try:
            return set(self._admin.list_topics(timeout=timeout_s).brokers)
        except KafkaException:
            return set()
