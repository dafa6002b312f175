"""Kafka by confluent-kafka: adapters of `kstash.ports.kafka`, and the checks of topics at start.

The only package that imports `confluent_kafka`. Adapters translate calls and errors and hold no
policy; what the client does, and why a setting has its value, stands beside the setting.
"""

import confluent_kafka

from kstash.kafka.cluster import KafkaCluster

__all__ = ["KafkaCluster", "client_version"]


def client_version() -> str:
    """Which client speaks with Kafka, for people."""
    library, _ = confluent_kafka.libversion()
    return f"confluent-kafka {confluent_kafka.__version__}, librdkafka {library}"
