"""Three real brokers with a proxied lane for each worker, and what the tests ask of the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from kstash.broker import DevBroker
from tests.chaos.harness import MORTAL, wait_until
from tests.chaos.proxy import Lane, Proxy, free_ports

BROKERS = 3
LANES = 4
ANSWER_S_MAX = 10.0
IN_SYNC_S_MAX = 90.0
START_S_MAX = 240.0
"""Of the brokers, also on a machine with much other work."""

# Three nodes on a small machine; one replica of three may be gone, a second one may not.
HEAP_MB = 256
CONFIG = {
    **MORTAL,
    "num.network.threads": 1,
    "num.io.threads": 2,
    "num.replica.fetchers": 1,
    # A returned node must not wait for long before it leads and follows again.
    "replica.fetch.backoff.ms": 200,
    "leader.imbalance.check.interval.seconds": 5,
}


@dataclass(slots=True)
class Cluster:
    """Three brokers, and a lane of proxies for each of `LANES` workers.

    Attributes:
        brokers: the nodes, reached directly by tests.
        lanes: one worker's connections each.
    """

    brokers: DevBroker
    lanes: list[Lane]

    @property
    def bootstrap(self) -> str:
        """Bootstrap servers that no proxy stands before."""
        return self.brokers.bootstrap_servers

    def leader(self, topic: str, partition: int) -> int:
        """The node that leads a partition now; -1 when none does."""
        return int(self._topics(topic)[topic].partitions[partition].leader)

    def wait_in_sync(self, *topics: str) -> None:
        """Wait until all three replicas of all partitions are in sync: one may then go.

        Args:
            topics: which must be; none: all topics of the cluster.
        """

        def are_in_sync() -> bool:
            try:
                found = self._topics()
            except KafkaException:
                return False
            return all(
                len(partition.isrs) == len(partition.replicas)
                for name, topic in found.items()
                if not topics or name in topics
                for partition in topic.partitions.values()
            )

        wait_until(are_in_sync, IN_SYNC_S_MAX, "all replicas in sync")

    def _topics(self, topic: str | None = None) -> dict[str, Any]:
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        if topic is None:
            return dict(admin.list_topics(timeout=ANSWER_S_MAX).topics)
        return dict(admin.list_topics(topic, timeout=ANSWER_S_MAX).topics)


@contextmanager
def running_cluster(count: int = BROKERS) -> Iterator[Cluster]:
    """Start brokers, three by default, and the proxies; all are gone afterwards."""
    ports = iter(free_ports(2 * count * LANES))
    # By lane and node: the port of the proxy, and the node's listener that it leads to.
    lanes = [[(next(ports), next(ports)) for _ in range(count)] for _ in range(LANES)]
    listeners = {
        node: [(listener, proxy) for proxy, listener in (lane[node] for lane in lanes)]
        for node in range(count)
    }
    with (
        DevBroker(
            brokers=count,
            heap_mb=HEAP_MB,
            # Nodes that live for seconds want a fast start more than fast code.
            java_options=["-XX:TieredStopAtLevel=1"],
            config=CONFIG,
            listeners=listeners,
            start_timeout_s=START_S_MAX,
        ) as brokers,
        Proxy(lanes) as proxy,
    ):
        yield Cluster(brokers, proxy.lanes)
