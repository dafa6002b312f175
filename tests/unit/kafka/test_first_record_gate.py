"""The first record of each partition goes alone (H41)."""

from __future__ import annotations

from typing import Any

import pytest

from kstash.kafka.first_record_gate import REST_S, FirstRecordGate, GatedRecord

TOPIC = "t"


class Client:
    """A client for `FirstRecordGate`: keeps what it is given, up to a number of records."""

    def __init__(self, room: int = 100) -> None:
        self.room = room
        self.sent: list[tuple[int, bytes]] = []
        self.callbacks: dict[bytes, Any] = {}

    def send(self, record: GatedRecord) -> None:
        """Take one record."""
        topic, value, _, partition, on_delivery, *_ = record
        assert (topic, type(value)) == (TOPIC, bytes)
        assert value is not None
        if len(self.sent) == self.room:
            raise BufferError
        self.sent.append((partition, value))
        self.callbacks[value] = on_delivery

    def acknowledge(self, value: bytes, error: object = None) -> None:
        """Tell that a record is in the topic, or failed."""
        self.callbacks.pop(value)(error, None)


def offer(opening: FirstRecordGate, *values: bytes, partition: int = 0, told: Any = None) -> None:
    """Give records to it."""
    for value in values:
        opening.offer((TOPIC, value, None, partition, told, 0, None))


def test_h41_others_wait_for_the_first_one() -> None:
    """After the first record nothing is sent to its partition before it is acknowledged."""
    client = Client()
    opening = FirstRecordGate(client.send, 0.0)
    offer(opening, b"a", b"b", b"c")
    offer(opening, b"x", partition=1)
    assert not opening.release(1.0)
    assert (client.sent, len(opening)) == ([(0, b"a"), (1, b"x")], 2)
    client.acknowledge(b"a")
    assert client.sent[2:] == [], "not within the callback"
    assert opening.release(2.0)
    assert (client.sent[2:], len(opening)) == ([(0, b"b"), (0, b"c")], 0)
    assert opening.open == {(TOPIC, 0)}


def test_the_callback_of_the_first_record_is_called() -> None:
    """Its caller is told as of any other."""
    client = Client()
    opening = FirstRecordGate(client.send, 0.0)
    told: list[object] = []
    offer(opening, b"a", told=lambda error, _: told.append(error))
    client.acknowledge(b"a")
    assert told == [None]


def test_nothing_follows_a_first_record_that_failed() -> None:
    """The producer fails as a whole; what waits is never sent."""
    client = Client()
    opening = FirstRecordGate(client.send, 0.0)
    offer(opening, b"a", b"b")
    client.acknowledge(b"a", error="refused")
    assert not opening.release(1.0)
    assert (client.sent, len(opening)) == ([(0, b"a")], 1)
    opening.clear()
    assert len(opening) == 0


def test_an_order_is_kept_when_there_is_no_room() -> None:
    """What finds no room goes on waiting, and what comes after it too."""
    client = Client(room=2)
    opening = FirstRecordGate(client.send, 0.0)
    offer(opening, b"a", b"b", b"c")
    client.acknowledge(b"a")
    assert opening.release(1.0)
    assert (client.sent, len(opening)) == ([(0, b"a"), (0, b"b")], 1)
    assert opening.open == set()
    offer(opening, b"d")
    client.room = 100
    opening.release(2.0)
    assert [value for _, value in client.sent] == [b"a", b"b", b"c", b"d"]
    assert opening.open == {(TOPIC, 0)}


def test_a_first_record_that_finds_no_room_is_offered_again() -> None:
    """The caller waits for room and tries again, as with any record."""
    client = Client(room=0)
    opening = FirstRecordGate(client.send, 0.0)
    with pytest.raises(BufferError):
        offer(opening, b"a")
    client.room = 1
    offer(opening, b"a")
    assert client.sent == [(0, b"a")]


def test_a_partition_at_rest_begins_anew() -> None:
    """Brokers forget a producer in a day: after one to two hours its next record goes alone."""
    client = Client()
    opening = FirstRecordGate(client.send, 0.0)
    for partition, value in ((0, b"a"), (1, b"x")):
        offer(opening, value, partition=partition)
        client.acknowledge(value)
    opening.release(1.0)
    opening.release(REST_S)
    assert opening.open == set()
    offer(opening, b"b", b"c")  # in use: neither waits
    assert opening.open == {(TOPIC, 0)}
    assert [value for _, value in client.sent] == [b"a", b"x", b"b", b"c"]
    opening.release(2 * REST_S)
    offer(opening, b"y", b"z", partition=1)
    assert [value for _, value in client.sent[4:]] == [b"y"]
