"""The transactional producer over a client that is told what to do: what a failure leads to."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from kstash.errors import ProducerFailedError, ProducerRefusedError, RecordRefusedError
from kstash.kafka import client_settings as settings
from kstash.kafka import sink
from kstash.kafka.positions import CommittedPositionsReader
from kstash.kafka.sink import KafkaSinkProducer
from kstash.settings.config import Config

TXNERR = (
    "Current transaction failed in state InTransaction: ProduceRequest for out [0] with 3 "
    "message(s) failed: Broker: Invalid timestamp (broker 0 PID{Id:7,Epoch:49}, base seq 0): "
    "current transaction must be aborted (INVALID_TIMESTAMP)"
)


class FakeMessage:
    """What a delivery callback gets."""

    def topic(self) -> str:
        """Of the record."""
        return "out"

    def partition(self) -> int:
        """Of the record."""
        return 0

    def offset(self) -> int:
        """Where it is."""
        return 7


class FakeClient:
    """A `confluent_kafka.Producer` that delivers and commits as a test says.

    Attributes:
        made: all of them, oldest first.
        calls: transactional calls that succeeded.
        errors: by call, what it raises.
        unacked: callbacks of records on their way.
    """

    made: ClassVar[list[FakeClient]] = []

    def __init__(self, _settings: dict[str, Any], logger: Any, on_error: Any) -> None:
        self.made.append(self)
        self.log, self.on_error = logger, on_error
        self.calls: list[str] = []
        self.errors: dict[str, KafkaError] = {}
        self.unacked: deque[Callable[[Any, Any], None] | None] = deque()

    def _call(self, name: str) -> None:
        if name in self.errors:
            raise KafkaException(self.errors[name])
        self.calls.append(name)

    def init_transactions(self, _timeout_s: float) -> None:
        """Take over."""
        self._call("init")

    def begin_transaction(self) -> None:
        """Begin."""
        self._call("begin")

    def send_offsets_to_transaction(self, *_: Any) -> None:
        """Add the committed position."""
        self._call("offsets")

    def commit_transaction(self, _timeout_s: float) -> None:
        """Commit."""
        self._call("commit")

    def produce(self, *arguments: Any) -> None:
        """Queue a record; its callback is the fifth argument."""
        self.unacked.append(arguments[4])

    def deliver(self, error: KafkaError | None = None) -> None:
        """Tell of all records on their way."""
        while self.unacked:
            told = self.unacked.popleft()
            if told is not None:
                told(error, FakeMessage())

    def poll(self, _timeout_s: float) -> int:
        """Deliver nothing by itself."""
        return 0

    def flush(self, _timeout_s: float) -> int:
        """Wait in vain for what is not delivered."""
        return len(self.unacked)

    def purge(self, **_: Any) -> None:
        """Forget."""
        self.unacked.clear()

    def __len__(self) -> int:
        return len(self.unacked)


class FakePositions:
    """Reads the committed position of a group that has none."""

    group_metadata = None

    def read(self, _position: Any) -> str | None:
        """There is none."""
        return None


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> Iterator[KafkaSinkProducer]:
    """A sink producer that has taken over."""
    monkeypatch.setattr(FakeClient, "made", [])
    monkeypatch.setattr(sink, "make_producer", FakeClient)
    config = Config.load(application_id="shop", bootstrap_servers="nobody:1")
    made = KafkaSinkProducer(
        settings.sink_producer(config, 0, 0),
        position=("shop-lineage", 0),
        positions=cast("CommittedPositionsReader", FakePositions()),
        bootstrap_servers="nobody:1",
    )
    done: list[Exception | None] = []
    made.initialise(lambda error, _: done.append(error))
    serve(made, done)
    assert done == [None]
    yield made
    made.close()


def serve(producer: KafkaSinkProducer, done: list[Exception | None]) -> None:
    """Poll until something was told; the thread that does it needs a moment."""
    waiting = threading.Event()
    for _ in range(2_000):
        if done:
            return
        waiting.wait(0.005)
        producer.poll()
    raise AssertionError("nothing was told")


def put(producer: KafkaSinkProducer, told: list[Any]) -> None:
    """One record with a callback."""
    producer.produce("out", b"v", b"k", 0, lambda error, _: told.append(error), 0, None)


def committed(producer: KafkaSinkProducer) -> Exception | None:
    """Commit; returns its error, told in a `poll` that then raises what ended the producer."""
    done: list[Exception | None] = []
    producer.commit("1;5;0:7", done.append)
    if not done:
        try:
            serve(producer, done)
        except ProducerFailedError:
            assert done, "the end of the producer is told after the callback"
    return done[0]


def test_a_commit(producer: KafkaSinkProducer) -> None:
    """The position goes into the transaction, then it is committed, and the next one begun."""
    told: list[Any] = []
    put(producer, told)
    FakeClient.made[0].deliver()
    assert committed(producer) is None
    assert told == [None]
    assert FakeClient.made[0].calls == ["init", "begin", "offsets", "commit", "begin"]


def test_what_is_not_acknowledged_is_not_committed(producer: KafkaSinkProducer) -> None:
    """A commit without all records would say that they are out: it fails, and nothing is sent."""
    put(producer, [])
    error = committed(producer)
    assert isinstance(error, ProducerFailedError)
    assert "1 records of a transaction were not acknowledged" in str(error)
    assert FakeClient.made[0].calls == ["init", "begin"]


@pytest.mark.parametrize("call", ["offsets", "commit"])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError._TIMED_OUT, ProducerFailedError),
        (KafkaError._FENCED, ProducerFailedError),
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, ProducerRefusedError),
    ],
)
def test_a_failed_commit_ends_the_producer(
    producer: KafkaSinkProducer, call: str, code: int, kind: type[Exception]
) -> None:
    """Nobody knows whether it was done: no record may follow by this producer."""
    FakeClient.made[0].errors[call] = KafkaError(code)
    assert type(committed(producer)) is kind
    with pytest.raises(kind):
        producer.poll()
    with pytest.raises(kind):
        put(producer, [])


def test_a_record_that_is_lost_ends_the_producer(producer: KafkaSinkProducer) -> None:
    """The error is told to its caller, and nothing follows."""
    told: list[Any] = []
    put(producer, told)
    FakeClient.made[0].deliver(KafkaError(KafkaError._MSG_TIMED_OUT))
    with pytest.raises(ProducerFailedError, match="_MSG_TIMED_OUT"):
        producer.poll()
    assert len(told) == 1
    with pytest.raises(ProducerFailedError):
        put(producer, [])


def test_the_cause_is_told_and_not_what_follows_from_it(producer: KafkaSinkProducer) -> None:
    """Records after the refused one are purged; the client's log has said why, and where."""
    put(producer, [])
    client = FakeClient.made[0]
    client.log.log(3, "%s [%s] %s", "TXNERR", "shop-sink-0#producer-1", TXNERR)
    client.deliver(KafkaError(KafkaError._PURGE_QUEUE))
    with pytest.raises(RecordRefusedError, match="Invalid timestamp") as caught:
        producer.poll()
    assert (caught.value.topic, caught.value.partition) == ("out", 0)
    assert caught.value.suspect == "timestamp"
    assert "%s" not in str(caught.value), "a line of the client's log is a format and arguments"


def test_a_transactional_id_that_is_refused(
    producer: KafkaSinkProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told at once, by the error that is waited for a while, and not retried to the deadline."""
    code = KafkaError(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)

    def refuse(_self: FakeClient, _timeout_s: float) -> None:
        raise KafkaException(code)

    monkeypatch.setattr(FakeClient, "init_transactions", refuse)
    other = KafkaSinkProducer(
        producer._settings,
        position=("shop-lineage", 0),
        positions=cast("CommittedPositionsReader", FakePositions()),
        bootstrap_servers="nobody:1",
    )
    done: list[Exception | None] = []
    other.initialise(lambda error, _: done.append(error))
    with pytest.raises(ProducerRefusedError):
        serve(other, done)
    assert isinstance(done[0], ProducerRefusedError)
    other.close()
