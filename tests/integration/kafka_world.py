"""What the tests of the Kafka adapters share: clients of one application on a real Kafka."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer as PlainConsumer
from confluent_kafka import Producer as Client
from confluent_kafka import TopicPartition

from kstash.broker import DevBroker
from kstash.kafka import KafkaCluster
from kstash.ports.kafka import Admin, Consumer, Message, NewTopic, SinkProducer
from kstash.runtime.inputs import take as take_records
from kstash.settings.config import Config

DEADLINE_S = 60.0


class World:
    """A cluster of clients of one application, closed after the test."""

    def __init__(self, broker: DevBroker, application_id: str) -> None:
        self.broker = broker
        self.application_id = application_id
        self.lineage_topic = f"{application_id}-lineage"
        self._closing = contextlib.ExitStack()
        self.admin: Admin = self.cluster().admin()

    def cluster(self, **settings: Any) -> KafkaCluster:
        """The factory of another worker."""
        return KafkaCluster(
            Config.load(
                application_id=self.application_id,
                bootstrap_servers=self.broker.bootstrap_servers,
                session_timeout_ms=6000,
                **settings,
            )
        )

    def create(self, topic: str, partitions: int = 1, **config: str) -> str:
        """Create a topic."""
        settings = {key.replace("_", "."): value for key, value in config.items()}
        self.admin.create([NewTopic(topic, partitions, None, settings)])
        return topic

    def write(self, topic: str, values: list[bytes], partition: int = 0) -> None:
        """Append records by a client of its own."""
        client = Client({"bootstrap.servers": self.broker.bootstrap_servers})
        for value in values:
            client.produce(topic, value, partition=partition)
        assert client.flush(DEADLINE_S) == 0

    def member(self, groups: list[int] | None = None, **settings: Any) -> Owner:
        """A member that has joined; with `groups`, that owns exactly these."""
        owner = Owner(self.cluster(**settings), self.lineage_topic)
        self._closing.callback(owner.close)
        if groups is not None:
            owner.wait(lambda: owner.groups == set(groups), "the groups")
        return owner

    def scanner(self) -> Consumer:
        """A scanner."""
        scanner = self.cluster().scanner()
        self._closing.callback(scanner.close)
        return scanner

    def sink(self, group: int = 0, *, expect: str | None = None) -> SinkProducer:
        """An initialised sink producer; `expect` is the committed position it must read."""
        sink = self.cluster().sink_producer(group)
        self._closing.callback(sink.close)
        answers: list[tuple[Exception | None, str | None]] = []
        sink.initialise(lambda error, metadata: answers.append((error, metadata)))
        wait_for(lambda: bool(answers), sink.poll, "init_transactions")
        assert answers == [(None, expect)]
        return sink

    def close(self) -> None:
        """Close all clients."""
        self._closing.close()
        self.admin.close()


class Owner:
    """A member with its groups, its consumer, and every message that it got."""

    def __init__(self, cluster: KafkaCluster, lineage_topic: str) -> None:
        self.membership = cluster.membership()
        self.consumer = cluster.consumer()
        self._lineage_topic = lineage_topic
        self.groups: set[int] = set()
        self.calls: list[tuple[str, list[int]]] = []
        self.messages: list[Message] = []
        self.is_closed = False
        self.releases = True

        def assigned(groups: list[int]) -> None:
            self.calls.append(("assigned", groups))
            self.groups.update(groups)

        def revoked(groups: list[int]) -> None:
            self.calls.append(("revoked", groups))
            self.groups.difference_update(groups)
            if self.releases:
                self.release(groups)

        def lost(groups: list[int]) -> None:
            self.calls.append(("lost", groups))
            self.groups.difference_update(groups)

        self.membership.subscribe(on_assigned=assigned, on_revoked=revoked, on_lost=lost)

    def follow(self, group: int, offset: int) -> None:
        """Read the lineage of a group from an offset on."""
        self.consumer.add({(self._lineage_topic, group): offset})

    def release(self, groups: list[int]) -> None:
        """Give up groups, as a worker does."""
        self.consumer.remove([(self._lineage_topic, group) for group in groups])
        self.membership.release(groups)

    def poll(self, timeout_s: float = 0.05) -> list[Message]:
        """Take what is there, and keep it."""
        messages = take_records(self.membership, self.consumer, timeout_s)
        self.messages += messages
        return messages

    def wait(self, until: Callable[[], bool], what: str) -> None:
        """Poll until something holds."""
        wait_for(until, self.poll, what)

    def values(self, topic: str) -> list[bytes | None]:
        """Values of a topic got so far."""
        return [m.value() for m in self.messages if m.topic() == topic]

    def close(self, *, leave: bool = False) -> None:
        """Close the member, once."""
        if not self.is_closed:
            self.is_closed = True
            self.membership.close(leave=leave)
            self.consumer.close()


def wait_for(until: Callable[[], bool], step: Callable[[], object], what: str) -> None:
    """Do `step` until something holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not until():
        assert time.monotonic() < deadline, f"waited for {what} in vain"
        step()
        time.sleep(0.001)


def drain(owner: Owner | Consumer, seconds: float) -> list[Message]:
    """Everything that a consumer hands out in some time."""
    messages: list[Message] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        messages += owner.poll(0.02)
    return messages


def take(reader: Owner | Consumer, count: int) -> list[Message]:
    """Messages until there are `count`."""
    messages: list[Message] = []
    wait_for(lambda: len(messages) >= count, lambda: messages.extend(reader.poll(0.05)), "records")
    return messages


def committed_values(world: World, topic: str) -> list[bytes | None]:
    """What a plain `read_committed` reader sees in partition 0 now."""
    reader = PlainConsumer(
        {
            "bootstrap.servers": world.broker.bootstrap_servers,
            "group.id": "plain",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    reader.assign([TopicPartition(topic, 0, 0)])
    values: list[bytes | None] = []
    while (message := reader.poll(DEADLINE_S)) is not None and message.error() is None:
        values.append(message.value())
    reader.close()
    return values


def commit(sink: SinkProducer, metadata: str) -> None:
    """Commit and wait for it."""
    answers: list[Exception | None] = []
    sink.commit(metadata, answers.append)
    wait_for(lambda: bool(answers), sink.poll, "the commit")
    if answers[0] is not None:
        raise answers[0]
