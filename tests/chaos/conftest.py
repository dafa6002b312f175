"""What all tests that hurt workers share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from xdist.scheduler.loadscope import (  # type: ignore[import-untyped] # ships no types
    LoadScopeScheduling,
)

from kstash.broker import DevBroker
from tests.chaos.cluster import Cluster, running_cluster

CLUSTER_MODULES = (
    "test_cluster.py",
    "test_first_record.py",
    "test_leader_change.py",
    "test_storm.py",
)
"""Run by one process, one after the other: a second cluster of three would be too many."""


class OneCluster(LoadScopeScheduling):  # type: ignore[misc] # its base has no types
    """Deals the tests out one by one, but for those of the cluster.

    (`--dist loadgroup` of xdist 3.8 groups nothing under pytest 9.)
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.split("::")[0]
        return "cluster" if module.endswith(CLUSTER_MODULES) else nodeid


@pytest.hookimpl(optionalhook=True)  # also without xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> OneCluster:
    """How `-n 2` spreads the tests of this folder."""
    return OneCluster(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """No test of the cluster is forgotten."""
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            assert item.path.name in CLUSTER_MODULES, f"add {item.path.name} to CLUSTER_MODULES"


@pytest.fixture
def broker(kafka_broker: DevBroker) -> str:
    """Bootstrap servers of the session's Kafka."""
    return kafka_broker.bootstrap_servers


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    """Three brokers with proxies, shared by all tests of this folder; all of them run between."""
    with running_cluster() as cluster:
        yield cluster
