"""Other programs see immediate sinks exactly once, at once: `kstash.readers` and the recipe."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message, Producer
from kafka import KafkaConsumer
from kafka import TopicPartition as PlainPartition

from kstash.broker import DevBroker
from kstash.core.ids import Incarnation, TaskId
from kstash.core.wire import IDENTITY_HEADER, LINEAGE_HEADER, Identity, application_tag
from kstash.errors import ConfigError, SequenceGapError, WireCorruptError
from kstash.readers import Bookmark, BookmarkTooLargeError, ImmediateReader
from kstash.testing.fixtures import TopicFactory

pytestmark = pytest.mark.integration

RECIPE = Path(__file__).parents[2] / "docs" / "readers.md"
APPLICATION = application_tag("app")
DEADLINE_S = 60.0


class Sink:
    """One incarnation of a task group that writes to a topic in transactions."""

    def __init__(self, broker: DevBroker, topic: str, claim: int, *, group: int = 0) -> None:
        self.topic = topic
        self.incarnation = Incarnation(1000, claim)
        self.task = TaskId(0, group)
        self._client = Producer(
            {
                "bootstrap.servers": broker.bootstrap_servers,
                "transactional.id": f"{topic}-{group}",
            }
        )
        self._client.init_transactions(DEADLINE_S)

    def write(self, *seqs: int, partition: int = 0, outcome: str = "commit") -> None:
        """Write outputs with these sequences; the value is the sequence, `outcome` what follows."""
        self._client.begin_transaction()
        for seq in seqs:
            identity = Identity(APPLICATION, self.task, self.incarnation, seq, 1, seq).encode()
            self._client.produce(
                self.topic,
                b"%d" % seq,
                b"key",
                partition,
                headers=[("user", b"u"), (IDENTITY_HEADER, identity), (LINEAGE_HEADER, b"chunk")],
            )
        assert self._client.flush(DEADLINE_S) == 0
        if outcome == "commit":
            self._client.commit_transaction(DEADLINE_S)
        elif outcome == "abort":
            self._client.abort_transaction(DEADLINE_S)


Settings = dict[str, Any]


@pytest.fixture
def settings(kafka_broker: DevBroker, application_id: str) -> Settings:
    """Settings of a reader with a group of its own."""
    return {
        "bootstrap.servers": kafka_broker.bootstrap_servers,
        "group.id": application_id,
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 500,
        "fetch.wait.max.ms": 50,
    }


@pytest.fixture
def topic(kafka_topics: TopicFactory) -> str:
    """An output topic of one partition."""
    return kafka_topics("out")


def read(reader: ImmediateReader, count: int, *, settle_s: float = 0.5) -> list[Message]:
    """The next `count` messages, and all that come soon after."""
    messages: list[Message] = []
    deadline = time.monotonic() + DEADLINE_S
    until = deadline
    while time.monotonic() < until:
        assert len(messages) >= count or time.monotonic() < deadline
        message = reader.poll(0.05)
        if message is not None:
            assert message.error() is None, message.error()
            messages.append(message)
        if len(messages) >= count and until == deadline:
            until = time.monotonic() + settle_s
    assert len(messages) >= count, f"{len(messages)} of {count}"
    return messages


def values(messages: list[Message]) -> list[int]:
    """Sequences of messages."""
    return [int(message.value() or b"") for message in messages]


def takeover(broker: DevBroker, topic: str) -> None:
    """An incarnation dies with 3 and 4 uncommitted; its successor repeats them and goes on."""
    first = Sink(broker, topic, 10)
    first.write(1, 2)
    first.write(3, 4, outcome="open")
    second = Sink(broker, topic, 20)
    second.write(3, 4, 5)
    second.write(6)


def test_each_output_once_and_without_our_headers(
    kafka_broker: DevBroker, topic: str, settings: Settings
) -> None:
    """Open and aborted outputs are seen, and not again when the successor repeats them."""
    with ImmediateReader(settings, [topic]) as reader:
        first = Sink(kafka_broker, topic, 10)
        first.write(1, 2)
        first.write(3, 4, outcome="open")
        messages = read(reader, 4, settle_s=0)
        second = Sink(kafka_broker, topic, 20)
        second.write(3, 4, 5)
        messages += read(reader, 1)
    assert values(messages) == [1, 2, 3, 4, 5]
    assert {str(message.headers()) for message in messages} == {"[('user', b'u')]"}


def test_zombie_outputs_are_dropped(
    kafka_broker: DevBroker, topic: str, settings: Settings
) -> None:
    """What a replaced incarnation writes after its successor's first output does not count."""
    Sink(kafka_broker, topic, 10).write(1, 2)
    Sink(kafka_broker, topic, 20).write(3)
    zombie = Sink(kafka_broker, topic, 15, group=1)
    zombie.task = TaskId(0, 0)  # another transactional id: Kafka does not stop it
    zombie.write(3, 4)
    Sink(kafka_broker, topic, 30).write(4)
    with ImmediateReader(settings, [topic]) as reader:
        assert values(read(reader, 4)) == [1, 2, 3, 4]


def test_records_of_other_programs_pass(
    kafka_broker: DevBroker, topic: str, settings: Settings
) -> None:
    """A record without identity header is handed out, headers or not."""
    client = Producer({"bootstrap.servers": kafka_broker.bootstrap_servers})
    client.produce(topic, b"7", partition=0)
    client.produce(topic, b"7", partition=0, headers=[("a", b"b")])
    client.flush(DEADLINE_S)
    with ImmediateReader(settings, [topic]) as reader:
        messages = read(reader, 2)
        assert values(messages) == [7, 7]
        assert messages[1].headers() == [("a", b"b")]


def test_table_is_saved_with_the_offsets(
    kafka_broker: DevBroker, topic: str, settings: Settings
) -> None:
    """A restart in the middle of a takeover sees no output twice and misses none."""
    first = Sink(kafka_broker, topic, 10)
    first.write(1, 2, 3, outcome="open")
    with ImmediateReader(settings, [topic]) as reader:
        assert values(read(reader, 3)) == [1, 2, 3]
        reader.commit()
        reader.commit()  # nothing new: nothing to do
    Sink(kafka_broker, topic, 20).write(1, 2, 3, 4)
    with ImmediateReader(settings, [topic]) as reader:
        assert values(read(reader, 1)) == [4]
    with ImmediateReader(settings, [topic]) as reader:
        assert values(read(reader, 1)) == [4], "it was not committed"


def test_bookmarks_in_a_store_of_ones_own(
    kafka_broker: DevBroker, topic: str, settings: Settings
) -> None:
    """Results and bookmarks stored together give exactly-once results, without commits in Kafka."""
    takeover(kafka_broker, topic)
    store: dict[tuple[str, int], str] = {}

    def restore(topic: str, partition: int) -> Bookmark | None:
        text = store.get((topic, partition))
        return None if text is None else Bookmark.decode(text)

    results: list[int] = []
    for count in (2, 3, 1):
        with ImmediateReader(settings, [topic], restore=restore) as reader:
            results += values(read(reader, count, settle_s=0))[:count]
            store |= {name: mark.encode() for name, mark in reader.bookmarks().items()}
    assert results == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_tables_move_with_their_partitions(
    kafka_broker: DevBroker, kafka_topics: TopicFactory, settings: Settings, strategy: str
) -> None:
    """In a group of two, a partition's next owner goes on where the last one saved."""
    topic = kafka_topics("out", partitions=2)
    settings |= {"partition.assignment.strategy": strategy}
    sinks = [Sink(kafka_broker, topic, 10, group=0), Sink(kafka_broker, topic, 10, group=1)]
    for partition, sink in enumerate(sinks):
        sink.write(1, 2, partition=partition, outcome="open")
    seen: list[tuple[int | None, int]] = []

    readers: list[ImmediateReader] = []

    def poll() -> None:
        for reader in readers:
            message = reader.poll(0.05)
            if message is not None:
                assert message.error() is None
                seen.append((message.partition(), int(message.value() or b"")))

    readers.append(ImmediateReader(settings, [topic], on_revoked=lambda _: readers[0].commit()))
    wait_for(lambda: len(seen) == 4, poll)
    readers.append(ImmediateReader(settings, [topic]))
    wait_for(lambda: len(readers[1].bookmarks()) == 1, poll)
    for partition in (0, 1):
        successor = Sink(kafka_broker, topic, 20, group=partition)
        successor.write(1, 2, 3, partition=partition)
    wait_for(lambda: len(seen) == 6, poll)
    assert sorted(seen) == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]
    for reader in readers:
        reader.close()


def wait_for(until: Callable[[], bool], step: Callable[[], object]) -> None:
    """Do `step` until something holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not until():
        assert time.monotonic() < deadline
        step()


def test_gap_is_an_error_that_names_the_record(
    kafka_broker: DevBroker, topic: str, settings: Settings
) -> None:
    """A missing sequence is reported, with topic, partition and offset."""
    Sink(kafka_broker, topic, 10).write(1, 2, 4)
    with (
        ImmediateReader(settings, [topic]) as reader,
        pytest.raises(SequenceGapError, match="partition 0, offset 2"),
    ):
        read(reader, 4)


def test_corrupt_header_is_an_error_that_names_the_record(
    kafka_broker: DevBroker, topic: str, settings: Settings
) -> None:
    """An identity header that does not decode is reported, never skipped."""
    client = Producer({"bootstrap.servers": kafka_broker.bootstrap_servers})
    client.produce(topic, b"1", partition=0, headers=[(IDENTITY_HEADER, b"garbage")])
    client.flush(DEADLINE_S)
    with (
        ImmediateReader(settings, [topic]) as reader,
        pytest.raises(WireCorruptError, match="partition 0, offset 0"),
    ):
        read(reader, 1)


def test_offset_without_bookmark_is_refused(
    kafka_broker: DevBroker, topic: str, settings: Settings
) -> None:
    """An offset that another consumer committed for the group has no table: it is refused."""
    from confluent_kafka import Consumer, TopicPartition

    Sink(kafka_broker, topic, 10).write(1, 2)
    other = Consumer({**settings, "enable.auto.commit": False})
    other.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
    other.close()
    with (
        ImmediateReader(settings, [topic]) as reader,
        pytest.raises(WireCorruptError, match="committed by another program"),
    ):
        read(reader, 1)


def test_table_that_does_not_fit_is_reported(
    kafka_broker: DevBroker, topic: str, settings: Settings
) -> None:
    """A bookmark above the limit raises before anything is committed, and says what to do."""
    Sink(kafka_broker, topic, 10).write(1)
    with ImmediateReader(settings, [topic], metadata_bytes_max=64) as reader:
        read(reader, 1)
        with pytest.raises(BookmarkTooLargeError, match=r"offset\.metadata\.max\.bytes") as caught:
            reader.commit()
    assert caught.value.size > caught.value.size_max == 64
    with ImmediateReader(settings, [topic]) as reader:
        assert values(read(reader, 1)) == [1]


def test_settings_that_contradict(settings: Settings) -> None:
    """Settings under which the rule would see too little or save too early are refused."""
    for setting, value in (("isolation.level", "read_committed"), ("enable.auto.commit", True)):
        with pytest.raises(ConfigError, match=setting):
            ImmediateReader({**settings, setting: value}, ["t"])


def test_bookmarks_are_small() -> None:
    """200 tasks that write to one partition fit into Kafka's default limit."""
    mark = Bookmark(10**9)
    for group in range(200):
        identity = Identity(
            APPLICATION,
            TaskId(1, group),
            Incarnation(1_700_000_000_000, 31 * group),
            9,
            1,
            1 + group * 2_654_435_761 % 10_000_000,
        )
        mark.reader.accept(identity)
    assert len(mark.encode()) <= 4096
    assert Bookmark.decode(mark.encode()) == mark


@pytest.mark.parametrize("text", ["", "garbage", "z1;", "z1;####", "z1;AAAA", "z1;eJwDAAAAAAE="])
def test_bookmark_garbage(text: str) -> None:
    """What is no bookmark gives the one error that says so."""
    with pytest.raises(WireCorruptError):
        Bookmark.decode(text)


def test_the_documented_recipe(kafka_broker: DevBroker, topic: str) -> None:
    """The code in docs/readers.md, with a client that knows nothing of kstash, sees the same."""
    takeover(kafka_broker, topic)
    block = re.search(r"```python recipe\n(.*?)```", RECIPE.read_text(), re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {}
    exec(block[1], names)  # the documented code is what is tested
    rule = names["ReaderRule"]()
    consumer = KafkaConsumer(
        bootstrap_servers=kafka_broker.bootstrap_servers,
        isolation_level="read_uncommitted",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        group_id=None,
    )
    consumer.assign([PlainPartition(topic, 0)])
    seen: list[int] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(seen) < 6 and time.monotonic() < deadline:
        for records in consumer.poll(timeout_ms=200).values():
            seen += [int(record.value) for record in records if rule.counts(record.headers)]
    consumer.close()
    assert seen == [1, 2, 3, 4, 5, 6]
