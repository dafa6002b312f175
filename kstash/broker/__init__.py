"""A real Apache Kafka for development and tests: the extra `kstash[broker]`, no Docker or Java."""

from kstash.broker.dev_broker import DevBroker

__all__ = ["DevBroker"]
