"""Closing the transactional producers: nobody waits for a broker that is away, one by one."""

from __future__ import annotations

import threading

import pytest

from kstash.kafka.cluster import SINKS_DEADLINE_S, KafkaCluster
from kstash.kafka.sink import JOIN_DEADLINE_S, KafkaSinkProducer
from kstash.settings.config import Config

GROUPS = 20


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, float]]:
    """Threads that were waited for: who waited, for whom, and for how long at most."""
    waits: list[tuple[str, str, float]] = []
    join = threading.Thread.join

    def noted(thread: threading.Thread, timeout: float | None = None) -> None:
        assert timeout is not None, "a wait without a deadline"
        waits.append((threading.current_thread().name, thread.name, timeout))
        join(thread, 0.0)

    monkeypatch.setattr(threading.Thread, "join", noted)
    return waits


@pytest.fixture
def clients() -> KafkaCluster:
    """Clients of a broker that does not answer."""
    return KafkaCluster(Config.load(application_id="closing", bootstrap_servers="127.0.0.1:1"))


def begun(cluster: KafkaCluster, group: int) -> KafkaSinkProducer:
    """A producer that waits for the broker."""
    producer = cluster.sink_producer(group)
    assert isinstance(producer, KafkaSinkProducer)
    producer.initialise(lambda _error, _metadata: None)
    return producer


def test_producers_are_closed_together(
    clients: KafkaCluster, joined: list[tuple[str, str, float]]
) -> None:
    """All are asked to stop, and none is waited for; then there is one deadline for all."""
    producers = [begun(clients, group) for group in range(GROUPS)]
    for producer in producers:
        producer.close()
    assert not joined
    clients.close()
    assert len(joined) == GROUPS
    timeouts = [timeout for _, _, timeout in joined]
    assert timeouts == sorted(timeouts, reverse=True), "what is left of it"
    assert 0.0 <= timeouts[-1] <= timeouts[0] <= SINKS_DEADLINE_S


def test_a_successor_waits_in_its_own_thread(
    clients: KafkaCluster, joined: list[tuple[str, str, float]]
) -> None:
    """The thread of the one before may be about to take over, which would fence this one."""
    first = begun(clients, 0)
    first.close()
    second = begun(clients, 0)
    name = "closing-sink-0"
    for _ in range(500):
        if joined:
            break
        threading.Event().wait(0.01)
    assert joined == [(name, name, JOIN_DEADLINE_S)]
    second.close()
