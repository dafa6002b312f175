"""What kstash asks of a cluster of three while one of its nodes does not answer."""

from __future__ import annotations

from contextlib import closing

import pytest

from kstash.kafka.admin import KafkaAdmin
from kstash.ports import NewTopic
from tests.chaos.cluster import Cluster

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

QUESTIONS = 12
"""Each by a client of its own: which node it takes for the controller is chance."""


def test_a_hanging_broker_holds_up_no_question(cluster: Cluster) -> None:
    """A frozen node that a client takes for the controller is left behind before the deadline."""
    settings = {"bootstrap.servers": cluster.bootstrap, "client.id": "asker"}
    with closing(KafkaAdmin(settings)) as admin:
        admin.create([NewTopic("asked-for", 1, None, {})])
    cluster.brokers.pause(1)
    try:
        for _ in range(QUESTIONS):
            with closing(KafkaAdmin(settings)) as admin:
                assert set(admin.describe(["asked-for"])) == {"asked-for"}
    finally:
        cluster.brokers.resume(1)
        cluster.wait_in_sync()
