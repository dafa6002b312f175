"""What all tests that hurt workers share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kstash.broker import DevBroker
from tests.chaos.cluster import Cluster, running_cluster


@pytest.fixture
def broker(kafka_broker: DevBroker) -> str:
    """Bootstrap servers of the session's Kafka."""
    return kafka_broker.bootstrap_servers


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    """Three brokers with proxies, shared by all tests of this folder; all of them run between."""
    with running_cluster() as cluster:
        yield cluster
