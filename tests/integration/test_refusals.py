"""What Kafka refuses: a worker ends and says why, or waits and goes on; it never stands still."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka import Producer as Client
from confluent_kafka.admin._acl import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
)
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from kstash.broker import DevBroker
from tests.chaos.harness import MORTAL, wait_until
from tests.integration.scene import Process, Scene, Sent, lines, sentences

pytestmark = pytest.mark.integration

HOUR_MS = 3_600_000
AWAY_S = 45.0
"""Longer than the client keeps a CLAIM (30 s)."""

REFUSED_S_MAX = 90.0
ANYBODY = "User:ANONYMOUS"

SECURED = {
    **MORTAL,
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}


@pytest.fixture(scope="module")
def fragile_broker() -> Iterator[DevBroker]:
    """A broker that these tests may hurt, and which asks for rights where there are any rules."""
    with DevBroker(config=SECURED) as broker:
        yield broker


@pytest.fixture
def scene_address(fragile_broker: DevBroker) -> str:
    """Topics and workers are on that broker."""
    return fragile_broker.bootstrap_servers


def set_config(scene: Scene, topic: str, name: str, value: str) -> None:
    """Change one setting of a topic."""
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    for future in scene.admin.incremental_alter_configs([resource]).values():
        future.result(30)
    time.sleep(1)  # until it holds


def send_at(scene: Scene, topic: str, records: list[tuple[bytes | None, bytes, int]]) -> None:
    """Append records of key, value and timestamp to partition 0."""
    client = Client({"bootstrap.servers": scene.bootstrap})
    for key, value, timestamp in records:
        client.produce(topic, value, key, partition=0, timestamp=timestamp)
    assert client.flush(30) == 0


class Deny:
    """A rule by which nobody may write to something; all else stays allowed."""

    def __init__(self, scene: Scene, kind: ResourceType, name: str) -> None:
        self._scene = scene
        self._place = kind, name, ResourcePatternType.LITERAL
        rules = [
            AclBinding(*self._place, ANYBODY, "*", operation, permission)
            for operation, permission in (
                (AclOperation.ALL, AclPermissionType.ALLOW),
                (AclOperation.WRITE, AclPermissionType.DENY),
            )
        ]
        for future in scene.admin.create_acls(rules).values():
            future.result(30)

    def lift(self) -> None:
        """Take the rule away."""
        every = AclBindingFilter(
            *self._place, ANYBODY, "*", AclOperation.ANY, AclPermissionType.ANY
        )
        for future in self._scene.admin.delete_acls([every]).values():
            future.result(30)


# --- records ------------------------------------------------------------------------------------


@pytest.mark.parametrize("delivery", ["immediate", "transactional"])
@pytest.mark.parametrize("reason", ["timestamp", "compact", "small"])
def test_a_record_that_a_sink_refuses(scene: Scene, reason: str, delivery: str) -> None:
    """The worker ends at once, with exit code 1; sink, reason, task, key and input are named."""
    source = scene.topic("in", message_timestamp_after_max_ms=str(2**63 - 1))
    sink = scene.topic("out")
    worker = scene.worker("copy_to", [source], sink, options={"delivery": delivery})
    worker.start_ready()
    now_ms = round(time.time() * 1000)
    send_at(scene, source, [(b"k", b"good", now_ms)])
    scene.wait_outputs(sink, 1)
    bad = {
        "timestamp": (b"odd", b"x", now_ms + 2 * HOUR_MS),
        "compact": (None, b"x", now_ms),
        "small": (b"odd", b"x" * 5000, now_ms),
    }[reason]
    if reason == "compact":
        set_config(scene, sink, "cleanup.policy", "compact")
    if reason == "small":
        set_config(scene, sink, "max.message.bytes", "2000")
    send_at(scene, source, [bad, (b"k", b"later", now_ms)])
    assert worker.wait(REFUSED_S_MAX) == 1
    last = worker.log()[-2000:]
    assert "RecordRefusedError" in last
    assert f"topic '{sink}', partition 0" in last
    assert f"key {bad[0]!r}" in last
    assert f"made of {source}[0], offset" in last
    words = {"timestamp": "Invalid timestamp", "compact": "validate record", "small": "too large"}
    assert words[reason] in last
    assert worker.log().count("task group starts over") == 0
    # What was refused is not lost: mended, the worker goes on.
    set_config(scene, sink, "message.timestamp.after.max.ms", str(2**63 - 1))
    set_config(scene, sink, "cleanup.policy", "delete")
    set_config(scene, sink, "max.message.bytes", "1048588")
    worker.start_ready()
    scene.wait_outputs(sink, 3)
    assert worker.stop() == 0
    values = [record.value for record in scene.outputs(sink)[0]]
    assert values == [b"good", bad[1], b"later"]


def test_a_frame_that_an_internal_topic_refuses(scene: Scene) -> None:
    """An internal topic whose setting was changed: named are the topic and the input."""
    source, sink = scene.topic("in"), scene.topic("out")
    worker = scene.worker("words", [source], sink)
    worker.start_ready()
    scene.send(source, lines("a"))
    scene.wait_outputs(sink, 1)
    internal = f"{scene.application_id}-words-repartition"
    set_config(scene, internal, "max.message.bytes", "500")
    scene.send(source, [Sent(b"w" * 5000)])
    assert worker.wait(REFUSED_S_MAX) == 1
    last = worker.log()[-2000:]
    assert f"topic '{internal}', partition 0" in last
    assert f"made of {source}[0], offset 1" in last


# --- rights -------------------------------------------------------------------------------------


def _places(scene: Scene, sink: str) -> dict[str, tuple[ResourceType, str]]:
    application = scene.application_id
    return {
        "sink": (ResourceType.TOPIC, sink),
        "internal": (ResourceType.TOPIC, f"{application}-words-repartition"),
        "lineage": (ResourceType.TOPIC, f"{application}-lineage"),
        "transactional id": (ResourceType.TRANSACTIONAL_ID, f"{application}-0"),
    }


@pytest.mark.parametrize("what", ["sink", "internal", "lineage", "transactional id"])
def test_a_right_that_is_missing(scene: Scene, what: str) -> None:
    """A start ends with the reason within some seconds; granted, it goes on."""
    source, sink = scene.topic("in"), scene.topic("out")
    worker = scene.worker("words", [source], sink)
    worker.start_ready()
    scene.send(source, lines("a"))
    scene.wait_outputs(sink, 1)
    assert worker.stop() == 0
    deny = Deny(scene, *_places(scene, sink)[what])
    scene.send(source, lines("a"))
    worker.start()
    assert worker.wait(REFUSED_S_MAX) == 1
    last = worker.log()[-2000:]
    if what == "transactional id":
        assert "ProducerRefusedError" in last
        assert "authorization failed" in last.lower()
    else:
        assert "RightMissingError: Kafka does not allow this client: WRITE on topic" in last
    assert "check the client's credentials and the ACLs" in last
    assert worker.log().count("task group starts over") < 12
    deny.lift()
    worker.start_ready()
    scene.wait_outputs(sink, 2)
    assert worker.stop() == 0
    scene.check_words(sink, ["a", "a"])


@pytest.mark.parametrize("what", ["sink", "internal", "lineage", "transactional id"])
def test_a_right_that_is_away_for_a_moment(scene: Scene, what: str) -> None:
    """Rules that are written anew stop nobody: the worker goes on by itself."""
    source, sink = scene.topic("in"), scene.topic("out")
    worker = scene.worker("words", [source], sink)
    worker.start_ready()
    scene.send(source, lines("a"))
    scene.wait_outputs(sink, 1)
    deny = Deny(scene, *_places(scene, sink)[what])
    scene.send(source, lines("a"))
    worker.wait_log("(?s)(start over|starts over|append failed).*uthorization")
    time.sleep(5)
    deny.lift()
    scene.wait_outputs(sink, 2)
    assert worker.stop() == 0
    scene.check_words(sink, ["a", "a"])


# --- a broker that is away ----------------------------------------------------------------------


def _has_records(scene: Scene, topic: str) -> bool:
    client = Consumer({"bootstrap.servers": scene.bootstrap, "group.id": "look"})
    try:
        return client.get_watermark_offsets(TopicPartition(topic, 0), timeout=1)[1] > 0
    except KafkaException:
        return False  # not made yet
    finally:
        client.close()


def test_a_broker_that_is_killed_under_the_first_claim(
    scene: Scene, fragile_broker: DevBroker
) -> None:
    """Away for 45 s, as long as no append waits: the worker claims anew and gets live."""
    source, sink = scene.topic("in"), scene.topic("out")
    texts = sentences(100)
    scene.send(source, lines(*texts))
    worker: Process = scene.worker("words", [source], sink)
    worker.start()
    # CONFIG is there, CLAIM is next.
    wait_until(
        lambda: _has_records(scene, f"{scene.application_id}-lineage"), 60, "the first record"
    )
    fragile_broker.kill()
    time.sleep(AWAY_S)
    assert worker.is_running()
    fragile_broker.restart()
    worker.wait_ready()
    scene.wait_outputs(sink, 500)
    assert worker.stop() == 0
    scene.check_words(sink, texts)
