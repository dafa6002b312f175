"""How far inputs were read, as Kafka's own lag tools, the metrics and retention see it."""

from __future__ import annotations

import socket
import urllib.request
import uuid

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from kstash.kafka.console import KafkaConsole
from tests.chaos.harness import wait_until
from tests.integration.scene import WAIT_S_MAX, Scene

pytestmark = pytest.mark.integration


class Transactions:
    """Another program that writes an input in transactions."""

    def __init__(self, scene: Scene, topic: str) -> None:
        self._topic = topic
        self._producer = Producer(
            {"bootstrap.servers": scene.bootstrap, "transactional.id": uuid.uuid4().hex}
        )
        self._producer.init_transactions(30)

    def commit(self, text: str) -> None:
        """A transaction of one record."""
        self._producer.begin_transaction()
        self._producer.produce(self._topic, text.encode())
        self._producer.commit_transaction(30)

    def abort(self) -> None:
        """A transaction of some records that nobody sees."""
        self._producer.begin_transaction()
        for _ in range(5):
            self._producer.produce(self._topic, b"never")
        assert self._producer.flush(30) == 0
        self._producer.abort_transaction(30)


def end_of(scene: Scene, topic: str) -> int:
    """Where the one partition of a topic ends."""
    with KafkaConsole(scene.bootstrap) as kafka:
        return kafka.admin.stable_ends([(topic, 0)])[topic, 0]


def committed(scene: Scene, topic: str) -> int:
    """The offset that lag tools see."""
    asked = ConsumerGroupTopicPartitions(scene.application_id, [TopicPartition(topic, 0)])
    future = scene.admin.list_consumer_group_offsets([asked])[scene.application_id]
    return int(future.result(30).topic_partitions[0].offset)


def lag(port: int, topic: str) -> float | None:
    """The metric; None while it is not there."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as got:
        text = got.read().decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "kstash_input_lag_records" and sample.labels["topic"] == topic:
                return float(sample.value)
    return None


def test_lag_ends_behind_transactions(scene: Scene) -> None:
    """While it runs, in its metrics, and when it has stopped; retention may then delete it all."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    writer = Transactions(scene, source)
    writer.commit("one two")
    writer.abort()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    worker = scene.worker("words", [source], sink, http_port=port)
    worker.start_ready()
    scene.wait_outputs(sink, 2)

    def has_read_all() -> bool:
        return committed(scene, source) == end_of(scene, source) and lag(port, source) == 0

    wait_until(has_read_all, WAIT_S_MAX, "no lag after aborted records")
    # After the last checkpoint that a record would have made, and up to the stop.
    writer.abort()
    wait_until(
        lambda: committed(scene, source) == end_of(scene, source), WAIT_S_MAX, "no lag again"
    )
    writer.commit("three")
    scene.wait_outputs(sink, 3)
    assert worker.stop() == 0
    end = end_of(scene, source)
    assert committed(scene, source) == end
    deleted = scene.admin.delete_records([TopicPartition(source, 0, end)])
    for future in deleted.values():
        assert future.result(30).low_watermark == end
    worker.start_ready()
    writer.commit("four")
    scene.wait_outputs(sink, 4)
    scene.check_words(sink, ["one two three four"])
    assert worker.stop() == 0
