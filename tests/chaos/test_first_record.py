"""A producer's first record on a partition is refused, and the second one, after it, is taken.

Brokers take any first sequence of a producer that they do not know. So what the first request held
can never be written, and librdkafka reports it delivered (H41). Ours send the first record alone.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from confluent_kafka import KafkaError
from confluent_kafka import Producer as Client
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.cimpl import NewTopic

from kstash.kafka.cluster import KafkaCluster
from kstash.settings.config import Config
from tests.chaos.checkers import read_committed
from tests.chaos.cluster import Cluster
from tests.chaos.harness import wait_until
from tests.chaos.proxy import Lane

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

DEADLINE_S = 60.0  # a killed broker's replicas count for a session time-out, 9 s
LEADER, FOLLOWER = 0, 1
WARM = 1
"""The partition that producers connect by, led by the same node."""

ON_ITS_WAY_S = 1.0
"""For a second record to reach the broker, if it is sent at all."""

Reports = list[tuple[bytes, Any, int | None]]
"""Value, error and offset of each record that was reported."""


class Writer:
    """A producer with a topic of its own, whose first partition it has never written to."""

    def __init__(self, cluster: Cluster, producer: Any, *, is_ours: bool) -> None:
        self.topic = f"first-{uuid.uuid4().hex[:8]}"
        self.reports: Reports = []
        self._producer = producer
        self._is_ours = is_ours
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        replicas = [[LEADER, FOLLOWER]] * 2
        config = {"min.insync.replicas": "2"}
        new = NewTopic(self.topic, 2, replica_assignment=replicas, config=config)
        admin.create_topics([new])[self.topic].result(DEADLINE_S)
        self.send(b"warm", WARM)
        self.flush()
        self.reports.clear()

    def send(self, value: bytes, partition: int = 0) -> None:
        """Hand over one record."""

        def note(error: Any, message: Any) -> None:
            self.reports.append((value, error, message.offset()))

        if self._is_ours:
            self._producer.produce(self.topic, value, None, partition, note, 0, None)
        else:
            self._producer.produce(self.topic, value, partition=partition, on_delivery=note)

    def serve(self) -> None:
        """Serve callbacks."""
        self._producer.poll(*(() if self._is_ours else (0,)))

    def flush(self) -> None:
        """Wait for all acknowledgements."""
        assert self._producer.flush(DEADLINE_S) == 0


def refuses(bootstrap: str, topic: str, code: int | None) -> bool:
    """Whether a record to the other partition is refused with an error's code; None: is taken."""
    settings = {"acks": "all", "retries": 0, "message.timeout.ms": 2000, "log_level": 0}
    client = Client({"bootstrap.servers": bootstrap, **settings})
    codes: list[object] = []
    client.produce(
        topic, b"probe", partition=WARM, on_delivery=lambda e, _: codes.append(e and e.code())
    )
    assert client.flush(DEADLINE_S) == 0
    return codes == [code]


def want_one_replica(bootstrap: str, topics: Sequence[str]) -> None:
    """Let the topics take records again, and wait until they do."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for topic in topics:
        entry = ConfigEntry("min.insync.replicas", "1", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        admin.incremental_alter_configs([resource])[resource].result(DEADLINE_S)
        wait_until(partial(refuses, bootstrap, topic, None), DEADLINE_S, "the new setting")


def send_two(cluster: Cluster, lane: Lane, writers: Sequence[Writer]) -> None:
    """Each sends `first`, which is refused, and `second` before it hears of it."""
    topics = [writer.topic for writer in writers]
    cluster.brokers.kill(FOLLOWER)
    try:
        for topic in topics:
            refused = partial(refuses, cluster.bootstrap, topic, KafkaError.NOT_ENOUGH_REPLICAS)
            wait_until(refused, DEADLINE_S, "a refusal")
        lane.mute()
        for writer in writers:
            writer.send(b"first")
        wait_until(lambda: lane.held_answers >= len(writers), DEADLINE_S, "all refusals")
        want_one_replica(cluster.bootstrap, topics)
        for writer in writers:
            writer.send(b"second")
        end = time.monotonic() + ON_ITS_WAY_S
        while time.monotonic() < end:
            for writer in writers:
                writer.serve()
            time.sleep(0.01)
    finally:
        lane.heal()
        cluster.brokers.restart(FOLLOWER)


def test_first_record_goes_alone(cluster: Cluster) -> None:
    """Ours send the second record after the first one is acknowledged, and nothing is lost.

    The client alone loses the first one and says that it is delivered: should that fail here, the
    client is mended, and `kstash.kafka.first_record_gate` can go.
    """
    lane = cluster.lanes[0]
    name = f"first-{uuid.uuid4().hex[:8]}"
    kafka = KafkaCluster(Config(application_id=name, bootstrap_servers=lane.bootstrap_servers))
    plain = {"enable.idempotence": True, "enable.gapless.guarantee": True, "linger.ms": 0}
    client = Client({"bootstrap.servers": lane.bootstrap_servers, **plain})
    with ExitStack() as stack:
        ours = []
        for make in (kafka.data_producer, kafka.lineage_producer):
            producer = make()
            stack.callback(producer.close)
            ours.append(Writer(cluster, producer, is_ours=True))
        theirs = Writer(cluster, client, is_ours=False)
        writers = [*ours, theirs]
        send_two(cluster, lane, writers)
        for writer in writers:
            writer.flush()
        for writer in ours:
            assert values(cluster, writer) == [b"first", b"second"]
            assert writer.reports == [(b"first", None, 0), (b"second", None, 1)]
        assert values(cluster, theirs) == [b"second"]
        assert sorted(theirs.reports) == [(b"first", None, None), (b"second", None, 0)]
    cluster.wait_in_sync()


def values(cluster: Cluster, writer: Writer) -> list[bytes | None]:
    """What is in the partition."""
    return [output.value for output in read_committed(cluster.bootstrap, writer.topic)[0]]
