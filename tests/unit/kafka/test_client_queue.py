"""What both kinds of producer do with their client: room, errors, and callbacks on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from kstash.errors import ProducerFailedError, RecordTooLargeError, TopicMissingError
from kstash.kafka import client_settings, producers
from kstash.kafka.client_queue import ROOM_POLL_S, ClientQueue, Tell
from kstash.kafka.producers import KafkaProducer
from kstash.settings.config import Config
from kstash.testing.clock import ManualClock

ROOM_S = 5.0
PLACE = ("out", 3)


class FakeClient:
    """A client with room for so many records.

    Attributes:
        room: records that it holds.
        error: raised by the next `produce`.
        queued: arguments of the records that wait.
        on_poll: what a `poll` leads to.
    """

    def __init__(self, room: int = 100) -> None:
        self.room = room
        self.error: KafkaError | None = None
        self.queued: list[tuple[Any, ...]] = []
        self.on_poll: Callable[[float], object] = lambda _: None

    def produce(self, *arguments: Any) -> None:
        """Queue a record."""
        if self.error is not None:
            raise KafkaException(self.error)
        if len(self.queued) == self.room:
            raise BufferError
        self.queued.append(arguments)

    def poll(self, timeout_s: float) -> int:
        """Serve callbacks."""
        self.on_poll(timeout_s)
        return 0

    def __len__(self) -> int:
        return len(self.queued)


class Queue(ClientQueue):
    """A producer with nothing of its own."""

    def __init__(self, client: FakeClient, clock: ManualClock, tell: Tell | None = None) -> None:
        super().__init__(
            "p", room_deadline_s=ROOM_S, has_gate=False, tell=tell, monotonic=clock.monotonic
        )
        self._client = client  # type: ignore[assignment] # a fake
        self._produce = client.produce

    def open(self) -> None:
        """Have the first record of the partition acknowledged already."""
        self._gate.open.add(PLACE)


@pytest.fixture
def client() -> FakeClient:
    """With room."""
    return FakeClient()


@pytest.fixture
def clock() -> ManualClock:
    """At rest."""
    return ManualClock()


def test_a_record_that_can_never_fit_is_named(client: FakeClient, clock: ManualClock) -> None:
    """It fails alone: the producer goes on."""
    queue = Queue(client, clock)
    client.error = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
    with pytest.raises(RecordTooLargeError) as caught:
        queue.produce("out", b"large", None, 3)
    assert (caught.value.topic, caught.value.partition) == PLACE
    client.error = None
    queue.produce("out", b"small", None, 3)
    assert [arguments[1] for arguments in client.queued] == [b"small"]


def test_a_full_queue_is_waited_for(client: FakeClient, clock: ManualClock) -> None:
    """Until the client has sent something: then the record has its place."""
    queue = Queue(client, clock)
    client.room = 1
    queue.produce("out", b"a", None, 3)
    client.on_poll = lambda _: client.queued.clear()
    queue.produce("out", b"b", None, 3)
    assert [arguments[1] for arguments in client.queued] == [b"b"]


def test_a_queue_that_stays_full_is_a_failure(client: FakeClient, clock: ManualClock) -> None:
    """Nothing waits for ever; the message says for how long."""
    queue = Queue(client, clock)
    client.room = 0
    client.on_poll = clock.advance
    with pytest.raises(ProducerFailedError, match=f"none was acknowledged for {ROOM_S:g} s"):
        queue.produce("out", b"a", None, 3)
    assert clock.monotonic() == pytest.approx(ROOM_S, abs=2 * ROOM_POLL_S)


def test_a_failure_ends_the_wait_for_room(client: FakeClient, clock: ManualClock) -> None:
    """A client that failed for good makes no room: its error is raised, at once."""
    queue = Queue(client, clock)
    client.room = 0

    def fail(timeout_s: float) -> None:
        clock.advance(timeout_s)
        queue._on_error(KafkaError(KafkaError._FATAL, "out of order"))

    client.on_poll = fail
    with pytest.raises(ProducerFailedError, match="out of order"):
        queue.produce("out", b"a", None, 3)
    assert clock.monotonic() <= ROOM_POLL_S


def test_the_first_error_counts(client: FakeClient, clock: ManualClock) -> None:
    """Later ones follow from it; a lost connection is none."""
    queue = Queue(client, clock)
    queue._on_error(KafkaError(KafkaError._TRANSPORT, "a broker is away"))
    queue.produce("out", b"a", None, 3)
    queue._on_error(KafkaError(KafkaError._FATAL, "the cause"))
    queue._on_error(KafkaError(KafkaError._FATAL, "what follows"))
    with pytest.raises(ProducerFailedError, match="the cause"):
        queue.produce("out", b"b", None, 3)


@pytest.mark.parametrize("is_open", [True, False])
def test_outcomes_pass_the_producer_first(
    client: FakeClient, clock: ManualClock, is_open: bool
) -> None:
    """Of the first record of a partition and of all others alike."""
    told: list[tuple[object, ...]] = []
    queue = Queue(client, clock, tell=lambda *outcome: told.append(outcome))
    if is_open:
        queue.open()

    def mine(_error: Any, _message: Any) -> None:
        raise AssertionError("the producer decides whether it is called")

    queue.produce("out", b"a", None, 3, mine)
    client.queued[0][4](None, "message")
    assert told == [(mine, None, "message")]


@pytest.mark.parametrize(
    ("code", "named"),
    [(KafkaError._UNKNOWN_TOPIC, "'out'"), (KafkaError._UNKNOWN_PARTITION, r"'out\[3\]'")],
)
def test_a_plain_producer_names_the_topic_that_is_not_there(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch, code: int, named: str
) -> None:
    """And the partition, where it is only that one."""
    monkeypatch.setattr(producers, "make_producer", lambda *_, **__: client)
    config = Config.load(application_id="shop", bootstrap_servers="nobody:1")
    producer = KafkaProducer(client_settings.data_producer(config))
    client.error = KafkaError(code)
    with pytest.raises(TopicMissingError, match=named):
        producer.produce("out", b"a", None, 3)
