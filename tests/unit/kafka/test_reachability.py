"""A broker that is away is told once, and once that it is back."""

from __future__ import annotations

from confluent_kafka import KafkaError
from structlog.testing import capture_logs

from kstash.kafka.reachability import OUTAGE_S_MIN, BrokerWatch
from kstash.testing.clock import ManualClock


class World:
    """A watch with a manual clock and a broker that is up or not."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.is_up = False
        self.lookups = 0
        self.watch = BrokerWatch("client", "host:9092", monotonic=self.clock.monotonic)

    def look_up(self, topic: str | None, timeout_s: float) -> KafkaError | None:
        """Answer as the cluster does."""
        assert topic is None
        assert timeout_s <= 0.1, "a poll must not be held up"
        self.lookups += 1
        return None if self.is_up else KafkaError(KafkaError._TRANSPORT)


def test_an_outage_is_told_once_with_backoff() -> None:
    """One line when it begins and one when it ends; the cluster is asked less and less often."""
    world = World()
    with capture_logs() as logs:
        world.watch.worry("connection refused")
        for _ in range(200):
            world.watch.worry("connection refused")
            world.watch.check(world.look_up, is_up=False)
            world.clock.advance(0.1)
        assert 5 <= world.lookups <= 9
        world.is_up = True
        world.clock.advance(5)
        world.watch.check(world.look_up, is_up=False)
    assert not world.watch.is_worried
    assert [entry["event"] for entry in logs] == [
        "broker unreachable, waiting",
        "broker reachable again",
    ]
    assert logs[0]["bootstrap_servers"] == "host:9092"
    assert logs[1]["away_seconds"] == 25.0


def test_a_connection_that_broke_for_a_moment_is_no_news() -> None:
    """When the cluster answers the first question, nothing is told."""
    world = World()
    world.is_up = True
    with capture_logs() as logs:
        world.watch.worry("disconnected")
        world.watch.check(world.look_up, is_up=False)
    assert not world.watch.is_worried
    assert logs == []


def test_a_broker_that_is_busy_for_a_moment_is_no_news() -> None:
    """A check or two that nobody answers in time are no outage, when the next one is answered."""
    world = World()
    with capture_logs() as logs:
        world.watch.worry("disconnected")
        while world.lookups < 2:
            world.watch.check(world.look_up, is_up=False)
            world.clock.advance(0.1)
        world.is_up = True
        world.clock.advance(5)
        world.watch.check(world.look_up, is_up=False)
    assert not world.watch.is_worried
    assert logs == []


def test_a_message_proves_that_the_broker_is_back() -> None:
    """Nothing is asked when a message came."""
    world = World()
    with capture_logs() as logs:
        world.watch.worry("connection refused")
        world.clock.advance(OUTAGE_S_MIN)
        world.watch.check(world.look_up, is_up=False)
        world.watch.check(world.look_up, is_up=True)
    assert world.lookups == 1
    assert len(logs) == 2
