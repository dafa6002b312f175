"""A client whose `close` waits for a broker that is away holds up nobody for long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from kstash.kafka import client_settings as settings
from kstash.kafka import closing
from kstash.kafka.census import share_out
from kstash.kafka.consumer import KafkaConsumer
from kstash.kafka.unreadable import last_offset_of
from kstash.settings.config import Config

LEFT = "a client waits for the broker, it is not waited for"


class Hanging:
    """A client in whose group a request is under way: its `close` waits until the test ends.

    Attributes:
        closed_in: names of the threads that close it.
    """

    def __init__(self) -> None:
        self.closed_in: list[str] = []
        self._broker_is_back = threading.Event()

    def close(self) -> None:
        """Wait for the broker."""
        self.closed_in.append(threading.current_thread().name)
        self._broker_is_back.wait(60)

    def end(self) -> None:
        """So that no thread outlives the test."""
        self._broker_is_back.set()

    def subscribe(self, *_: Any, **__: Any) -> None:
        """Nobody answers."""

    def poll(self, _: float) -> None:
        """Nobody answers."""

    def get_watermark_offsets(self, *_: Any, **__: Any) -> tuple[int, int]:
        """What is in the log: one batch of one record, at offset 7."""
        return 0, 8


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    """A client that cannot be closed; little time is given to it."""
    monkeypatch.setattr(closing, "CLOSE_DEADLINE_S", 0.01)
    client = Hanging()
    for module in ("census", "unreadable"):
        monkeypatch.setattr(f"kstash.kafka.{module}.make_consumer", lambda *_, **__: client)
    yield client
    client.end()


def warned(logs: Any) -> list[tuple[str, str]]:
    """What the log says of clients."""
    return [(line["event"], line["client"]) for line in logs]


def test_a_close_that_ends_in_time_is_waited_for() -> None:
    """What it does has happened by then, and nothing is said."""
    done: list[bool] = []
    with capture_logs() as logs:
        closing.close_in_time("client", lambda: done.append(True))
    assert done
    assert not logs


def test_a_consumer_that_cannot_be_closed_is_left_behind(hanging: Hanging) -> None:
    """The client of a member waits for its coordinator, minutes if need be; the log says so."""
    config = Config.load(application_id="closing", bootstrap_servers="127.0.0.1:1")
    consumer = KafkaConsumer(settings.reader(config), bootstrap_servers="127.0.0.1:1")
    client = consumer._client
    consumer._client = hanging  # type: ignore[assignment] # all that `close` uses
    with capture_logs() as logs:
        consumer.close()
    client.close()
    assert hanging.closed_in == ["closing-reader-close"]
    assert warned(logs) == [(LEFT, "closing-reader")]


def test_who_has_groups_shared_out_does_not_wait_for_its_client(hanging: Hanging) -> None:
    """Other looks wait for this one."""
    with capture_logs() as logs:
        share_out({"client.id": "member"}, "in", deadline_s=0)
    assert hanging.closed_in == ["member-close"]
    assert warned(logs) == [(LEFT, "member")]


def test_who_looks_for_the_end_of_a_batch_does_not_wait_for_its_client(hanging: Hanging) -> None:
    """The worker's loop stands still meanwhile."""
    with capture_logs() as logs:
        assert last_offset_of({"client.id": "reader"}, ("in", 0), 7) == 7
    assert hanging.closed_in == ["reader-close"]
    assert warned(logs) == [(LEFT, "reader")]
