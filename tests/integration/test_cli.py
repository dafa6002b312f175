"""The command line against a real Kafka."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from kstash.broker import DevBroker
from kstash.core.determinants import Consumed
from kstash.core.ids import Incarnation, TaskId
from kstash.core.record_codec import encode_value
from kstash.core.record_keys import encode_key
from kstash.core.records import Segment
from kstash.kafka.console import KafkaConsole
from kstash.testing.fixtures import TopicFactory
from tests.chaos.harness import place_of

DEADLINE_S = 60.0


class CommandLine:
    """`kstash` with the broker's address."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers

    def __call__(self, *arguments: str, stdin: str = "", code: int = 0) -> str:
        """Run it and return its standard output; the exit code must be `code`."""
        done = subprocess.run(
            [sys.executable, "-m", "kstash.cli.main", *arguments, "-b", self.bootstrap_servers],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr


@pytest.fixture
def kstash_command(kafka_broker: DevBroker) -> CommandLine:
    """The command line."""
    return CommandLine(kafka_broker.bootstrap_servers)


def test_topics_are_created_listed_and_checked(
    kstash_command: CommandLine, application_id: str
) -> None:
    """A topic is created once; asking again with another partition count fails and says why."""
    name = f"{application_id}-lines"
    assert "created" in kstash_command("topics", "create", name, "--partitions", "3")
    assert "exists (3 partitions)" in kstash_command("topics", "create", name, "-p", "3")
    assert "with 3 partitions, not 2" in kstash_command("topics", "create", name, "-p", "2", code=1)
    line = next(line for line in kstash_command("topics", "list").splitlines() if name in line)
    assert line.split()[:3] == [name, "3", "1"]


def test_what_is_sent_is_read_from_the_partition_of_its_key(
    kstash_command: CommandLine, kafka_topics: TopicFactory
) -> None:
    """Keys go where murmur2 says, and reading gives keys and values back."""
    topic = kafka_topics("keyed", partitions=4)
    keys = [f"key-{number}" for number in range(20)]
    lines = "".join(f"{key}:value of {key}\n" for key in keys)
    kstash_command("send", topic, "--key-separator", ":", stdin=lines)
    records = [
        json.loads(line) for line in kstash_command("topics", "read", topic, "--json").splitlines()
    ]
    assert {r["key"]: r["value"] for r in records} == {k: f"value of {k}" for k in keys}
    for record in records:
        assert record["partition"] == place_of(record["key"].encode(), 4)


def test_values_without_a_key_are_dealt_out(
    kstash_command: CommandLine, kafka_topics: TopicFactory
) -> None:
    """Without keys the partitions get equal shares; one partition can be read alone."""
    topic = kafka_topics("plain", partitions=2)
    kstash_command("send", topic, "-v", "a", "-v", "b", "-v", "c", "-v", "d")
    assert kstash_command("topics", "read", topic, "-p", "1") == "1:0\t(null)\tb\n1:1\t(null)\td\n"
    one = kstash_command("topics", "read", topic, "-p", "0", "--offset", "1", "--limit", "1")
    assert one == "0:1\t(null)\tc\n"


def test_a_missing_topic_or_partition_is_named(
    kstash_command: CommandLine, kafka_topics: TopicFactory
) -> None:
    """Reading or sending to what is not there exits with 1 and names it."""
    assert "no such topic: 'nowhere'" in kstash_command("topics", "read", "nowhere", code=1)
    assert "no such topic: 'nowhere'" in kstash_command("send", "nowhere", "-v", "x", code=1)
    assert "'gone-lineage'" in kstash_command("lineage", "show", "gone", code=1)
    topic = kafka_topics("small")
    assert "partition 5" in kstash_command("topics", "read", topic, "-p", "5", code=1)


def test_lineage_is_shown(
    kstash_command: CommandLine, kafka_broker: DevBroker, application_id: str
) -> None:
    """Every record of a lineage topic is a line: group, offset, kind and fields."""
    topic = f"{application_id}-lineage"
    kstash_command("topics", "create", topic)
    segment = Segment(
        Incarnation(1700000000000, 4), TaskId(0, 0), 1, 5, 8, (Consumed(5, 1, 3, 12),)
    )
    with KafkaConsole(kafka_broker.bootstrap_servers) as kafka:
        kafka.send(topic, 0, encode_key(segment), encode_value(segment))
        kafka.send(topic, 0, encode_key(segment), None)
        kafka.flush()
    lines = kstash_command("lineage", "show", application_id).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("0:0\tSEGMENT\tincarnation=1700000000000:4 task=0_0 number=1")
    assert "5: 3 of input 1 before 12" in lines[0]
    assert lines[1].startswith("0:1\tTOMBSTONE")


def test_a_broker_that_is_not_there_is_reported() -> None:
    """No answer is an error that says which address was asked, why, and what to do."""
    printed = CommandLine("127.0.0.1:9")("topics", "list", code=1)
    assert "127.0.0.1:9 has nobody listening" in printed
    assert "start the broker" in printed
