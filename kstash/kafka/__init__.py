"""Kafka by confluent-kafka: adapters of `kstash.ports.kafka`, and the checks of topics at start.

The only package of what a program runs on that imports `confluent_kafka`; besides, `kstash.broker`
asks the nodes that it starts, and `apps.demo` plays a client that knows nothing of kstash. Adapters
translate calls and errors and hold no policy; what the client does, and why a setting has its
value, stands beside the setting.
"""

import confluent_kafka

from kstash.kafka.cluster import KafkaCluster

__all__ = ["KafkaCluster", "client_version"]


def client_version() -> str:
    """Which client speaks with Kafka, for people."""
    library, _ = confluent_kafka.libversion()
    return f"confluent-kafka {confluent_kafka.__version__}, librdkafka {library}"
