"""What a consumer's errors are taken for; no broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, Message

from kstash.errors import OffsetOutOfRangeError, RecordUnreadableError
from kstash.kafka import KafkaCluster
from kstash.kafka.consumer import TROUBLE_S, UNREADABLE_S, KafkaConsumer
from kstash.settings.config import Config
from kstash.testing import ManualClock

HERE = "data", 3


def failure(offset: int, code: int = KafkaError._AUTO_OFFSET_RESET) -> Message:
    """A consumed error, as the client hands it out."""
    return Message(topic="data", partition=3, offset=offset, error=KafkaError(code, "reason"))


def end(offset: int) -> Message:
    """What the client hands out at the end of a partition."""
    return failure(offset, KafkaError._PARTITION_EOF)


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Iterator[KafkaConsumer]:
    """A consumer without a broker, whose questions for watermarks need not wait."""
    monkeypatch.setattr("kstash.kafka.consumer.LOOKUP_DEADLINE_S", 0.05)
    settings = {"client.id": "app-scan", "group.id": "app", "bootstrap.servers": "127.0.0.1:9"}
    consumer = KafkaConsumer(settings, bootstrap_servers="127.0.0.1:9")
    yield consumer
    consumer.close()


@pytest.mark.parametrize(
    ("offset", "shown"),
    [(17, 17), (OFFSET_INVALID, 4)],
    ids=["below the log's start", "of a truncated log"],
)
def test_records_that_are_gone_are_named(
    consumer: KafkaConsumer, monkeypatch: pytest.MonkeyPatch, offset: int, shown: int
) -> None:
    """The error names the offset, also that of a truncated log, where the client gives none."""
    monkeypatch.setattr(consumer, "_fetch", lambda _: [failure(offset)])
    consumer.add({("data", 3): 4})
    assert consumer.poll(0) == []
    with pytest.raises(OffsetOutOfRangeError, match=f"partition 3, offset {shown}"):
        consumer.poll(0)


def given(consumer: KafkaConsumer, monkeypatch: pytest.MonkeyPatch, *messages: Message) -> None:
    """Poll, when the client has these."""
    monkeypatch.setattr(consumer, "_fetch", lambda _: list(messages))
    assert consumer.poll(0) == []
    monkeypatch.setattr(consumer, "_fetch", lambda _: [])


def test_an_error_of_a_partition_that_was_given_up_is_nothing(
    consumer: KafkaConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has it now has the trouble; it may come before or after the partition goes."""
    consumer.add({HERE: 4})
    given(consumer, monkeypatch, failure(4))
    consumer.remove([HERE])
    assert consumer.poll(0) == []
    given(consumer, monkeypatch, failure(4), end(9))
    assert consumer.poll(0) == []
    consumer.add({HERE: 7})
    assert consumer.poll(0) == []
    assert consumer.position(HERE) == 7


@pytest.mark.parametrize("is_removed", [True, False])
def test_what_was_said_of_an_older_assignment_does_not_count(
    consumer: KafkaConsumer, monkeypatch: pytest.MonkeyPatch, is_removed: bool
) -> None:
    """A partition that is read anew from an earlier offset has not been read to its end."""
    consumer.add({HERE: 9})
    given(consumer, monkeypatch, end(9), failure(9))
    if is_removed:
        consumer.remove([HERE])
    consumer.add({HERE: 4})
    assert consumer.position(HERE) == 4
    assert consumer.poll(0) == []


def test_after_a_sleep_the_group_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of partitions wait for the answer to a heartbeat, which may take them away."""
    clock = ManualClock()
    monkeypatch.setattr("kstash.kafka.consumer.LOOKUP_DEADLINE_S", 0.05)
    settings = {"client.id": "app-reader", "group.id": "app", "bootstrap.servers": "127.0.0.1:9"}
    consumer = KafkaConsumer(
        settings, bootstrap_servers="127.0.0.1:9", monotonic=clock.monotonic, grace_s=1.5
    )
    consumer.add({HERE: 4})
    given(consumer, monkeypatch, failure(4))
    clock.advance(1.4)
    assert consumer.poll(0) == []
    clock.advance(0.2)
    with pytest.raises(OffsetOutOfRangeError):
        consumer.poll(0)
    assert consumer.poll(0) == []
    consumer.close()


@pytest.mark.parametrize(
    ("code", "patience_s"),
    [(KafkaError._BAD_COMPRESSION, UNREADABLE_S), (KafkaError.UNKNOWN, TROUBLE_S)],
)
def test_an_error_of_a_partition_that_does_not_pass_is_raised(
    monkeypatch: pytest.MonkeyPatch, code: int, patience_s: float
) -> None:
    """With its place; one that passes is logged, and so is one after a record."""
    clock = ManualClock()
    monkeypatch.setattr("kstash.kafka.consumer.last_offset_of", lambda *_: 19)
    settings = {"client.id": "app-reader", "group.id": "app", "bootstrap.servers": "127.0.0.1:9"}
    consumer = KafkaConsumer(settings, bootstrap_servers="127.0.0.1:9", monotonic=clock.monotonic)
    consumer.add({HERE: 4})
    given(consumer, monkeypatch, failure(5, code))
    clock.advance(patience_s - 0.1)
    given(consumer, monkeypatch, failure(5, code))
    monkeypatch.setattr(
        consumer, "_fetch", lambda _: [Message(topic="data", partition=3, offset=5)]
    )
    assert len(consumer.poll(0)) == 1
    for _ in range(2):
        clock.advance(patience_s - 0.1)
        given(consumer, monkeypatch, failure(6, code))
    clock.advance(0.2)
    given(consumer, monkeypatch, failure(6, code))
    with pytest.raises(RecordUnreadableError, match="partition 3, offset 6") as caught:
        consumer.poll(0)
    assert caught.value.skip == ("data/3/6-19" if patience_s == UNREADABLE_S else None)
    consumer.close()


def test_a_batch_that_is_to_be_passed_over_is(
    consumer: KafkaConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client would try it for ever: it is told to go on after it."""
    consumer.add({HERE: 4})
    consumer.pass_over({HERE: [(5, 19)]})
    given(consumer, monkeypatch, failure(5, KafkaError._BAD_COMPRESSION))
    assert consumer.position(HERE) == 20
    given(consumer, monkeypatch, failure(20, KafkaError._BAD_COMPRESSION))
    assert consumer.position(HERE) == 20


def test_what_is_no_offset_is_refused(consumer: KafkaConsumer) -> None:
    """Below 0 the client would go to a committed offset, or to one end of the log."""
    with pytest.raises(AssertionError, match="no offsets"):
        consumer.add({("data", 3): OFFSET_INVALID})


def test_a_worker_waits_for_its_heartbeat() -> None:
    """Its consumer waits for longer than the answer to a heartbeat takes."""
    config = Config.load(
        application_id="app", bootstrap_servers="127.0.0.1:9", heartbeat_interval_ms=700
    )
    cluster = KafkaCluster(config)
    consumer = cluster.consumer()
    assert isinstance(consumer, KafkaConsumer)
    assert consumer._health._grace_s > 2 * 0.7
    consumer.close()
    cluster.close()


class Asked:
    """A client that is asked for metadata, and gives none."""

    def __init__(self) -> None:
        self.topics: list[str | None] = []

    def list_topics(self, topic: str | None = None, **_: object) -> None:
        """Nobody answers."""
        self.topics.append(topic)
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def close(self) -> None:
        """Nothing to do."""


def test_a_topic_that_exists_is_asked_for(
    consumer: KafkaConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a topic "" the client would ask again and again, up to 50 times a second."""
    asked = Asked()
    monkeypatch.setattr(consumer, "_client", asked)
    consumer._look_up(None, 0.1)
    monkeypatch.setattr(consumer, "_known_topics", {"seen"})
    consumer._look_up(None, 0.1)
    monkeypatch.setattr(consumer, "_assigned", {("data", 0): 1})
    consumer._look_up(None, 0.1)
    assert asked.topics == [None, "seen", "data"]


def test_topics_of_a_cluster_that_is_away_are_not_looked_up_one_by_one(
    consumer: KafkaConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would take a second, and a start that is refused would wait for all of them."""
    asked = Asked()
    monkeypatch.setattr(consumer, "_client", asked)
    consumer.warm(["a", "b", "c"])
    assert asked.topics == ["a"]


@pytest.mark.parametrize("code", [KafkaError._AUTHENTICATION, KafkaError._SSL])
def test_access_that_was_there_is_waited_for(consumer: KafkaConsumer, code: int) -> None:
    """A consumer is made when the cluster has answered: its connections may break in any way."""
    consumer._on_error(KafkaError(code))
    assert consumer._health._watch.is_worried
    assert consumer.poll(0) == []
