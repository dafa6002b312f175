"""Clients that are made before they are needed."""

from __future__ import annotations

import time

from kstash.kafka.cluster import KafkaCluster
from kstash.kafka.prepared_clients import PreparedClients
from kstash.settings.config import Config

NOWHERE = "127.0.0.1:1"


class Client:
    """Something that is closed."""

    is_closed = False

    def close(self) -> None:
        """Note it."""
        self.is_closed = True


def _never() -> Client:
    raise AssertionError("made although there was a made one")


def test_a_spare_client_is_taken_once() -> None:
    """Its taker does not make one; the next one does, and closes its own."""
    prepared = PreparedClients()
    made, other = Client(), Client()
    prepared.make("admin", lambda: made)
    prepared.make("admin", _never)
    assert prepared.take("admin", _never) is made
    assert prepared.take("admin", lambda: other) is other
    prepared.keep("admin", other)
    assert prepared.take("admin", _never) is other
    prepared.close()
    assert not made.is_closed
    assert not other.is_closed


def test_what_failed_long_ago_is_tried_again() -> None:
    """A client that could not be made in advance is made by who needs it."""
    prepared = PreparedClients()
    prepared.make("admin", _never)
    client = Client()
    assert prepared.take("admin", lambda: client) is client
    prepared.make("admin", _never)
    prepared.close()


def test_what_nobody_took_is_closed() -> None:
    """With the rest, or when it is of no use any more."""
    prepared = PreparedClients()
    dropped, left = Client(), Client()
    prepared.make("data", lambda: dropped)
    prepared.make("scan", lambda: left)
    prepared.drop("data")
    assert dropped.is_closed
    assert not left.is_closed
    prepared.close()
    assert left.is_closed


def test_clients_are_prepared_while_the_cluster_is_away() -> None:
    """It takes no time of who prepares; the clients are there, and connect when they can."""
    config = Config.load(application_id="app", bootstrap_servers=NOWHERE, kafka={"log_level": 0})
    cluster = KafkaCluster(config)
    began = time.monotonic()
    cluster.prepare()
    assert time.monotonic() - began < 0.9  # a look-up alone would take a second
    prepared = cluster.prepared.take("claims", _never)
    prepared.close()
    cluster.take_place(config, "program")  # its member is taken by nobody
    cluster.renew()
    first = cluster.marker_producer()
    second = cluster.marker_producer()
    assert first is not second
    for producer in (first, second):
        producer.close()
    cluster.close()


def test_producers_that_would_make_too_large_requests_are_made_anew() -> None:
    """Topics that take less than was thought when the clients were prepared; others change naught.

    The others are the producers of single records.
    """
    config = Config.load(application_id="app", bootstrap_servers=NOWHERE, kafka={"log_level": 0})
    for bytes_max, is_kept in ((1_048_588, True), (500_000, False)):
        cluster = KafkaCluster(config)
        prepared = {name: Client() for name in ("data", "lineage", "markers")}
        for name, client in prepared.items():
            cluster.prepared.keep(name, client)
        cluster.limit_batches(bytes_max)
        assert [c.is_closed for c in prepared.values()] == [not is_kept, not is_kept, False]
        cluster.close()


def test_clients_of_a_cluster_that_has_never_answered_are_not_closed() -> None:
    """They have nothing to close, and each would wait for the cluster for seconds."""
    prepared, client = PreparedClients(), Client()
    prepared.keep("member", client)
    prepared.close(has_access=False)
    assert not client.is_closed
