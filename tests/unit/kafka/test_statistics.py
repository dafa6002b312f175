"""What is read of the client's statistics: brokers, their connections, their round trips."""

from __future__ import annotations

import json

from kstash.kafka.cluster import KafkaCluster
from kstash.kafka.statistics import ClientStatistics
from kstash.settings.config import Config


def text(*brokers: dict[str, object]) -> str:
    """As the client writes them, with much that nobody needs."""
    named = {f"broker {number}": broker for number, broker in enumerate(brokers)}
    return json.dumps({"name": "c", "ts": 1, "brokers": named, "topics": {"t": {"age": 1}}})


def broker(number: int, state: str = "UP", count: int = 3) -> dict[str, object]:
    """One of them, in microseconds."""
    rtt = {"cnt": count, "min": 1, "p50": 2_000, "p75": 1, "p95": 3_000, "p99": 1_500_000}
    return {"nodeid": number, "state": state, "rtt": rtt, "tx": 5}


def test_round_trips_are_seconds_by_quantile() -> None:
    """An interval without a request has none."""
    said = ClientStatistics()
    said.taker("data")(text(broker(1), broker(2, count=0)))
    first, second = said.brokers()
    assert (first.broker, first.state) == ("1", "up")
    assert first.round_trips == {"0.5": 0.002, "0.95": 0.003, "0.99": 1.5}
    assert second.round_trips == {}


def test_states_are_few() -> None:
    """All steps on the way to a connection are one, whatever the client calls them."""
    said = ClientStatistics()
    names = ["UP", "UPDATE", "DOWN", "INIT", "TRY_CONNECT", "AUTH_REQ", "SSL_HANDSHAKE", "NEW?"]
    said.taker("data")(text(*(broker(1, name) for name in names)))
    states = [status.state for status in said.brokers()]
    assert states == ["up", "up", "down", "idle", *["connecting"] * 4]


def test_addresses_and_coordinators_are_no_brokers() -> None:
    """The client lists each of its connections; those count that have a broker's number."""
    said = ClientStatistics()
    said.taker("data")(text(broker(-1), broker(7)))
    assert [status.broker for status in said.brokers()] == ["7"]


def test_brokers_that_the_client_forgets_are_down() -> None:
    """It does so when no connection is left; one that it hears of again counts as it is."""
    said = ClientStatistics()
    take = said.taker("data")
    take(text(broker(-1, "INIT")))
    assert said.brokers() == (), "it has not met one yet"
    take(text(broker(1), broker(2)))
    for _ in range(2):
        take(text(broker(-1, "INIT"), broker(-1, "TRY_CONNECT")))
        assert [(s.broker, s.state) for s in said.brokers()] == [("1", "down"), ("2", "down")]
        assert all(s.round_trips == {} for s in said.brokers())
    take(text(broker(-1), broker(2)))
    assert [(s.broker, s.state) for s in said.brokers()] == [("2", "up")]


def test_a_reader_waits_at_the_broker_on_purpose() -> None:
    """Its requests last as long as no record comes: only its connections are told."""
    said = ClientStatistics()
    said.taker("reader", waits=True)(text(broker(1)))
    assert [(s.state, s.round_trips) for s in said.brokers()] == [("up", {})]


def test_a_client_that_is_made_anew_takes_the_place_of_the_one_before() -> None:
    """Others stay."""
    said = ClientStatistics()
    said.taker("data")(text(broker(1)))
    said.taker("lineage")(text(broker(2)))
    said.taker("data")
    assert [status.broker for status in said.brokers()] == ["2"]


def test_what_cannot_be_read_says_nothing() -> None:
    """A client that says it in another way stops no worker."""
    said = ClientStatistics()
    take = said.taker("data")
    take(text(broker(1)))
    take("{")
    take('{"brokers": 3}')
    assert said.brokers() == ()


def test_the_interval_may_be_another() -> None:
    """As any setting of the client that nothing depends on."""
    config = Config.load(
        application_id="a",
        bootstrap_servers="127.0.0.1:1",
        kafka={"statistics.interval.ms": 60_000},
    )
    made = KafkaCluster(config)._reporting({"client.id": "c", **config.kafka})
    assert made["statistics.interval.ms"] == 60_000
    assert KafkaCluster(config)._reporting({"client.id": "c"})["statistics.interval.ms"] == 10_000
