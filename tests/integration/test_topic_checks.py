"""At the start, topics are created with the right settings and existing ones are checked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

import kstash
from kstash.broker import DevBroker
from kstash.errors import KafkaUnavailableError, TopicMismatchError, TopicMissingError
from kstash.kafka import KafkaCluster
from kstash.kafka.admin import KafkaAdmin
from kstash.kafka.admin_requests import AdminRequests
from kstash.ports.kafka import NewTopic, TopicInfo
from kstash.startup.topic_settings import (
    checkpoints_topic_config,
    internal_topic_config,
    lineage_topic_config,
)
from kstash.startup.topics import check_topics

pytestmark = pytest.mark.integration


class Program:
    """A word count on topics of its own."""

    def __init__(self, broker: DevBroker, application_id: str) -> None:
        self.name = application_id
        self.input = f"{application_id}-in"
        self.output = f"{application_id}-out"
        self.internal = f"{application_id}-counts-repartition"
        self.lineage = f"{application_id}-lineage"
        self.checkpoints = f"{application_id}-checkpoints"
        self.app = kstash.App(application_id, bootstrap_servers=broker.bootstrap_servers)
        self.admin = KafkaCluster(self.app.config).admin()

    def declare(self) -> None:
        """Build the word count."""
        (
            self.app.stream(self.input, value=kstash.text)
            .flat_map(str.split)
            .key_by(lambda word: word, key=kstash.text)
            .count("counts")
            .to(self.output, key=kstash.text, value=kstash.int_text)
        )

    def create(self, topic: str, partitions: int, **config: str) -> None:
        """Create a topic beforehand."""
        settings = {key.replace("_", "."): value for key, value in config.items()}
        self.admin.create([NewTopic(topic, partitions, None, settings)])

    def check(self, **settings: Any) -> dict[str, TopicInfo]:
        """Check the topics as a start does."""
        self.app.configure(**settings)
        return check_topics(self.admin, self.app.topology(), self.app.config)

    def mismatch(self, **settings: Any) -> TopicMismatchError:
        """Check the topics, which must fail."""
        with pytest.raises(TopicMismatchError) as caught:
            self.check(**settings)
        return caught.value


@pytest.fixture
def program(kafka_broker: DevBroker, application_id: str) -> Iterator[Program]:
    """A declared word count, whose topics do not exist yet."""
    program = Program(kafka_broker, application_id)
    program.declare()
    yield program
    program.admin.close()


def test_own_topics_are_created(program: Program) -> None:
    """Our topics get as many partitions as the input, and the settings needed."""
    program.create(program.input, 3)
    program.create(program.output, 1)
    found = program.check()
    assert found == program.check(), "a second start finds what the first made"
    ours = {
        program.internal: internal_topic_config(),
        program.lineage: lineage_topic_config(),
        program.checkpoints: checkpoints_topic_config(),
    }
    assert set(found) == {program.input, program.output, *ours}
    for topic, config in ours.items():
        assert found[topic].partition_count == 3
        assert {setting: found[topic].config[setting] for setting in config} == config


def test_a_topic_that_not_every_broker_knows_yet(program: Program) -> None:
    """What was just created is waited for; what never comes is an error, not an absence."""
    late = threading.Timer(0.5, program.create, (program.input, 1))
    late.start()
    try:
        assert set(program.admin.describe([program.input], are_created=True)) == {program.input}
    finally:
        late.join()
    with (
        closing(KafkaAdmin(AdminRequests(admin_settings(program), deadline_s=0.5))) as impatient,
        pytest.raises(KafkaUnavailableError, match="describe the topics"),
    ):
        impatient.describe([program.lineage], are_created=True)


def admin_settings(program: Program) -> dict[str, Any]:
    """Settings of an admin client."""
    servers = program.app.config.bootstrap_servers
    return {"bootstrap.servers": servers, "client.id": program.name}


def test_missing_user_topics(program: Program) -> None:
    """Missing user topics are named, with what to do, and created only when that is asked for."""
    with pytest.raises(TopicMissingError, match="create_topics=True") as caught:
        program.check()
    assert caught.value.topics == (program.input, program.output)
    assert program.admin.describe([program.internal, program.lineage]) == {}
    found = program.check(create_topics=True)
    assert found[program.input].partition_count >= 1


def test_partition_count_of_an_internal_topic(program: Program) -> None:
    """A partition count that is not the input's is refused: keys would leave their state."""
    program.create(program.input, 2)
    program.create(program.output, 1)
    program.create(program.internal, 3, **underscored(internal_topic_config()))
    error = program.mismatch()
    assert (error.topic, error.setting, error.found) == (program.internal, "partition count", 3)
    assert str(error.needed).startswith("2,")
    assert "kstash reset" in error.fix


def underscored(config: dict[str, str]) -> dict[str, str]:
    """Topic settings as keywords."""
    return {key.replace(".", "_"): value for key, value in config.items()}


@pytest.mark.parametrize(
    ("which", "setting", "value", "needed"),
    [
        ("lineage", "cleanup.policy", "delete", "compact"),
        ("lineage", "cleanup.policy", "compact,delete", "compact"),
        ("lineage", "max.message.bytes", "10000", "20480 or more"),
        ("internal", "cleanup.policy", "compact", "delete"),
        ("internal", "retention.ms", "1000000", "-1"),
        ("internal", "message.timestamp.type", "LogAppendTime", "CreateTime"),
        ("internal", "max.message.bytes", "500000", "532480 or more"),
        ("internal", "unclean.leader.election.enable", "true", "false"),
    ],
)
def test_setting_of_an_own_topic(
    program: Program, which: str, setting: str, value: str, needed: str
) -> None:
    """A wrong setting is refused with topic, setting, found, needed and the command."""
    config = lineage_topic_config() if which == "lineage" else internal_topic_config()
    topic = program.lineage if which == "lineage" else program.internal
    program.create(program.input, 1)
    program.create(program.output, 1)
    program.create(topic, 1, **underscored(config | {setting: value}))
    error = program.mismatch()
    assert (error.topic, error.setting, error.found) == (topic, setting, value)
    assert str(error.needed).startswith(needed)
    assert f"kafka-configs.sh --alter --entity-type topics --entity-name {topic}" in error.fix
    assert f"{setting}=" in error.fix.partition(" --add-config ")[2]


def test_compacted_input(program: Program) -> None:
    """A compacted input is refused where inputs are replayed, and taken where they are not."""
    program.create(program.input, 1, cleanup_policy="compact")
    program.create(program.output, 1)
    error = program.mismatch()
    assert (error.topic, error.setting, error.found) == (program.input, "cleanup.policy", "compact")
    assert program.input in program.check(guarantee="at_least_once")


def test_compacted_sink(program: Program) -> None:
    """Immediate delivery into a compacted topic is refused: the cleaner removes what was seen."""
    program.create(program.input, 1)
    program.create(program.output, 1, cleanup_policy="compact,delete")
    error = program.mismatch()
    assert (error.topic, error.setting) == (program.output, "cleanup.policy")
    assert "delivery='immediate'" in str(error)
    assert 'delivery="transactional"' in str(error)


def test_transactional_sink(program: Program) -> None:
    """Transactional delivery takes compacted topics, and ones that forget soon."""
    program.create(program.input, 1)
    program.create(program.output, 1, cleanup_policy="compact,delete", retention_ms="3600000")
    app = kstash.App(program.name, bootstrap_servers=program.app.config.bootstrap_servers)
    stream = app.stream(program.input, key=kstash.text)
    stream.to(program.output, delivery="transactional")
    assert program.output in check_topics(program.admin, app.topology(), app.config)


def test_retention_of_a_sink(program: Program) -> None:
    """A sink that forgets sooner than the longest outage is refused."""
    program.create(program.input, 1)
    program.create(program.output, 1, retention_ms="3600000")
    error = program.mismatch()
    assert (error.topic, error.setting, error.found) == (program.output, "retention.ms", "3600000")
    assert program.output in program.check(outage_ms_max=1_800_000)


def test_inputs_of_state_must_be_spread_alike(kafka_broker: DevBroker, application_id: str) -> None:
    """State directly over two topics of different partition counts is refused."""
    program = Program(kafka_broker, application_id)
    other = f"{application_id}-other"
    (
        program.app.stream(program.input, other, key=kstash.text, value=kstash.text)
        .count("counts")
        .to(program.output, key=kstash.text, value=kstash.int_text)
    )
    program.create(program.input, 2)
    program.create(other, 3)
    program.create(program.output, 1)
    error = program.mismatch()
    assert (error.topic, error.setting, error.found) == (program.input, "partition count", 2)
    assert "kafka-topics.sh --alter" in error.fix
