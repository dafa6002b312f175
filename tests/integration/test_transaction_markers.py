"""What exactly-once rests on and a broker can get wrong: how transactions end in a partition.

Plain clients and a foreign reader only: this is a question to Kafka, not to kstash
(decision 0024).
"""

from __future__ import annotations

import uuid
from contextlib import suppress

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from kstash.broker import DevBroker
from tests.chaos.checkers import read_committed
from tests.chaos.harness import MORTAL, wait_until

pytestmark = pytest.mark.integration

DEADLINE_S = 60.0
LONELY = 2
"""The node that has the only replica."""

NOBODY = -1


class Scene:
    """Topics of one replica on three nodes, and transactional producers."""

    def __init__(self, broker: DevBroker) -> None:
        self.bootstrap = broker.bootstrap_servers
        self._admin = AdminClient({"bootstrap.servers": self.bootstrap})
        # The client drops what it asked at a bootstrap address once it knows the nodes.
        self._admin.list_topics(timeout=30)

    def topic(self) -> str:
        """A topic that only one node has."""
        topic = f"markers-{uuid.uuid4().hex[:8]}"
        made = self._admin.create_topics([NewTopic(topic, 1, replica_assignment=[[LONELY]])])
        made[topic].result(DEADLINE_S)
        return topic

    def leader(self, topic: str) -> int:
        """Who leads it, -1 when nobody does."""
        return self._admin.list_topics(topic, timeout=10).topics[topic].partitions[0].leader

    def producer(self, topic: str) -> Producer:
        """A producer that takes over from its predecessor, which has the topic's name too."""
        settings = {"bootstrap.servers": self.bootstrap, "transactional.id": topic, "log_level": 2}
        producer = Producer(settings)

        def takes_over() -> bool:
            try:
                producer.init_transactions(1)
            except KafkaException:  # the predecessor's transaction is being ended
                return False
            return True

        wait_until(takes_over, DEADLINE_S, "init_transactions")
        return producer

    def values(self, topic: str) -> list[bytes | None]:
        """What a `read_committed` reader sees."""
        return [output.value for output in read_committed(self.bootstrap, topic)[0]]


def _write(producer: Producer, topic: str, value: bytes) -> None:
    producer.begin_transaction()
    producer.produce(topic, value)
    assert producer.flush(DEADLINE_S) == 0


def test_transactions_end_where_nobody_leads() -> None:
    """Aborted and committed while a partition has no leader: both are so when it has one again.

    Kafka 4.3 leaves the markers out: what was aborted shows with the successor's first
    commit, and what was committed does not show at all.
    """
    with DevBroker(brokers=3, config=MORTAL) as broker:
        scene = Scene(broker)
        aborted, committed = scene.topic(), scene.topic()
        left = scene.producer(aborted)
        _write(left, aborted, b"left open")
        done = scene.producer(committed)
        _write(done, committed, b"committed")
        broker.kill(LONELY)
        topics = aborted, committed
        wait_until(
            lambda: all(scene.leader(topic) == NOBODY for topic in topics),
            DEADLINE_S,
            "a lost leader",
        )
        heir = Producer({"bootstrap.servers": scene.bootstrap, "transactional.id": aborted})
        with suppress(KafkaException):  # waits for the markers
            heir.init_transactions(3)
        done.commit_transaction(DEADLINE_S)
        broker.restart(LONELY)
        heir = scene.producer(aborted)
        _write(heir, aborted, b"the heir's")
        heir.commit_transaction(DEADLINE_S)
        assert scene.values(aborted) == [b"the heir's"]
        wait_until(lambda: bool(scene.values(committed)), DEADLINE_S, "what was committed")
        assert scene.values(committed) == [b"committed"]
