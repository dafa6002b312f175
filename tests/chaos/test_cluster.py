"""A cluster of three: what kstash asks while a node hangs, and checkers after leaders moved."""

from __future__ import annotations

from contextlib import closing
from threading import Timer

import pytest
from confluent_kafka import Producer
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from kstash.kafka.admin import KafkaAdmin
from kstash.kafka.admin_requests import AdminRequests
from kstash.ports.kafka import NewTopic
from tests.chaos.cluster import ANSWER_S_MAX, BROKERS, Cluster
from tests.chaos.harness import wait_until
from tests.chaos.live_bytes import LiveBytes

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

QUESTIONS = 12
"""Each by a client of its own: which node it takes for the controller is chance."""


def test_a_hanging_broker_holds_up_no_question(cluster: Cluster) -> None:
    """A frozen node that a client takes for the controller is replaced before the deadline."""
    settings = {"bootstrap.servers": cluster.bootstrap, "client.id": "asker"}
    with closing(KafkaAdmin(AdminRequests(settings))) as admin:
        admin.create([NewTopic("asked-for", 1, None, {})])
    cluster.brokers.pause(1)
    try:
        for _ in range(QUESTIONS):
            with closing(KafkaAdmin(AdminRequests(settings))) as admin:
                assert set(admin.describe(["asked-for"])) == {"asked-for"}
    finally:
        cluster.brokers.resume(1)
        cluster.wait_in_sync()


HANGS_S = 4.0
"""Longer than a first question waits for its answer."""


def test_a_hanging_leader_is_asked_until_it_answers(cluster: Cluster) -> None:
    """An end that its leader does not report in time is asked for again, never made up."""
    settings = {"bootstrap.servers": cluster.bootstrap, "client.id": "asker"}
    expected = {("led", number): number + 1 for number in range(BROKERS)}
    with closing(KafkaAdmin(AdminRequests(settings))) as admin:
        admin.create([NewTopic("led", BROKERS, None, {})])
        producer = Producer({"bootstrap.servers": cluster.bootstrap})
        for (topic, number), count in expected.items():
            for _ in range(count):
                producer.produce(topic, "x", partition=number)
        assert producer.flush(ANSWER_S_MAX) == 0
        assert admin.end_offsets(list(expected)) == expected
        node = cluster.leader("led", 0)
        cluster.brokers.pause(node)
        back = Timer(HANGS_S, cluster.brokers.resume, [node])
        back.start()
        try:
            assert admin.end_offsets(list(expected)) == expected
        finally:
            back.join()
            cluster.wait_in_sync()


def test_a_checker_finds_ends_after_a_leader_moved(cluster: Cluster) -> None:
    """Brokers move leaders back by themselves: a checker that knew the old one asks the new one."""
    settings = {"bootstrap.servers": cluster.bootstrap, "client.id": "asker"}
    with closing(KafkaAdmin(AdminRequests(settings))) as admin:
        admin.create([NewTopic("moving", 1, BROKERS, {})])
    producer = Producer({"bootstrap.servers": cluster.bootstrap})
    producer.produce("moving", b"12345")
    assert producer.flush(ANSWER_S_MAX) == 0
    old = cluster.leader("moving", 0)
    others = [node for node in range(BROKERS) if node != old]
    with (
        closing(LiveBytes(cluster.bootstrap, (), ("moving",))) as topics,
        closing(KafkaAdminClient(bootstrap_servers=cluster.bootstrap.split(","))) as admin,
    ):
        assert topics.sample() == {"moving": 5}
        # The same replicas, and another one is preferred.
        admin.alter_partition_reassignments({TopicPartition("moving", 0): [*others, old]})
        admin.elect_leaders(0, {"moving": [0]}, raise_errors=False)
        wait_until(lambda: cluster.leader("moving", 0) != old, ANSWER_S_MAX, "another leader")
        assert topics.sample() == {"moving": 5}
