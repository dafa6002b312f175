"""pytest fixtures for programs written with kstash; pytest finds them by itself.

    def test_counts(kafka_broker, kafka_topics):
        sentences = kafka_topics("sentences", partitions=2)
        ...

They need the extra `kstash[broker]`; a test that asks for none of them pays nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from kstash.broker import DevBroker


class TopicFactory(Protocol):
    """What the fixture `kafka_topics` gives."""

    def __call__(
        self, name: str = "topic", *, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> str:
        """Create a topic and return its name, `name` with a suffix that no other test has."""


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[DevBroker]:
    """A real Kafka of one node, started when a test first asks for it and shared by the session."""
    from kstash.broker import DevBroker

    with DevBroker() as broker:
        yield broker


@pytest.fixture
def kafka_topics(kafka_broker: DevBroker) -> TopicFactory:
    """A function that creates topics of this test's own on `kafka_broker`."""
    from kstash.kafka.console import KafkaConsole
    from kstash.ports.kafka import NewTopic

    def create(
        name: str = "topic", *, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> str:
        unique = f"{name}-{uuid.uuid4().hex[:8]}"
        with KafkaConsole(kafka_broker.bootstrap_servers) as kafka:
            kafka.admin.create([NewTopic(unique, partitions, None, config or {})])
        return unique

    return create


@pytest.fixture
def application_id() -> str:
    """An application id that no other test has, so that topics and groups do not meet."""
    return f"test-{uuid.uuid4().hex[:8]}"
