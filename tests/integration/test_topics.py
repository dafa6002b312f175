"""Topics that are wrong, damaged, or deleted under a worker: a clear error, and nothing lost."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.chaos.harness import wait_until
from tests.integration.scene import Process, Scene, Sent, key_in, lines, sentences

pytestmark = pytest.mark.integration

ERROR_S_MAX = 60.0


def _stopped_worker(scene: Scene, source: str, sink: str, **settings: Any) -> Process:
    """A worker that has counted 100 sentences and was stopped."""
    worker = scene.worker("words", [source], sink, **settings)
    worker.start_ready()
    scene.send(source, lines(*sentences(100), partitions=2))
    scene.wait_outputs(sink, 500)
    assert worker.stop() == 0
    return worker


def test_settings_changed_between_two_runs(scene: Scene) -> None:
    """A start names topic, setting, found, needed and the command; once mended, it goes on."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    worker = _stopped_worker(scene, source, sink)
    lineage = f"{scene.application_id}-lineage"
    scene.alter(lineage, cleanup_policy="delete")
    assert worker.run() == 1
    assert (
        f"topic '{lineage}': cleanup.policy is delete, needed is compact; to fix it: "
        f"kafka-configs.sh --alter --entity-type topics --entity-name {lineage} "
        "--add-config cleanup.policy=compact"
    ) in worker.log()
    scene.alter(lineage, cleanup_policy="compact")

    scene.alter(sink, cleanup_policy="compact")
    assert worker.run() == 1
    assert f"topic '{sink}': cleanup.policy is compact, needed is delete" in worker.log()
    scene.alter(sink, cleanup_policy="delete")

    worker.start_ready()
    scene.send(source, lines(*sentences(100), partitions=2))
    scene.wait_outputs(sink, 1000)
    assert worker.stop() == 0
    scene.check_words(sink, sentences(100) * 2)


@pytest.mark.parametrize("which", ["lineage", "words-repartition"])
def test_a_partition_count_that_does_not_fit(scene: Scene, which: str) -> None:
    """An own topic with another partition count than the inputs is refused at the start."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    topic = scene.exact_topic(f"{scene.application_id}-{which}", 3)
    worker = scene.worker("words", [source], sink)
    assert worker.run() == 1
    log = worker.log()
    assert f"topic '{topic}': partition count is 3, needed is 2" in log
    assert f"kstash reset {scene.application_id}" in log


def test_a_corrupt_header_on_an_internal_topic(scene: Scene) -> None:
    """Somebody else wrote into an internal topic: the place is reported, no output made of it."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    worker = _stopped_worker(scene, source, sink)
    internal = f"{scene.application_id}-words-repartition"
    end = _end_offset(scene, internal, 1)
    scene.send(internal, [Sent(b"frame?", None, 1, [("__kstash.s", b"\x01garbage")])])
    for _ in range(2):
        assert worker.run() == 1
    log = worker.log()
    assert "WireCorruptError" in log
    assert f"(topic '{internal}', partition 1, offset {end})" in log
    scene.check_words(sink, sentences(100))


def test_a_record_without_headers_on_an_internal_topic(scene: Scene) -> None:
    """A foreign record on an internal topic is corruption too, found while the worker runs."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    worker = scene.worker("words", [source], sink)
    worker.start_ready()
    internal = f"{scene.application_id}-words-repartition"
    scene.send(internal, [Sent(b"value", b"key")])
    assert worker.wait(ERROR_S_MAX) == 1
    log = worker.log()
    assert "WireCorruptError: record without an identity header" in log
    assert f"(topic '{internal}', partition 0, offset" in log


def test_a_corrupt_record_on_the_lineage_topic(scene: Scene) -> None:
    """Garbage in the lineage topic stops the next start with its place."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    worker = _stopped_worker(scene, source, sink)
    lineage = f"{scene.application_id}-lineage"
    end = _end_offset(scene, lineage, 0)
    scene.send(lineage, [Sent(b"\x01garbage", b"\x01some key")])
    assert worker.run() == 1
    log = worker.log()
    assert "WireCorruptError" in log
    assert f"(topic '{lineage}', partition 0, offset {end})" in log


def _without_lineage(scene: Scene, program: str) -> tuple[Process, str, Path, str]:
    """A worker with state and checkpoints, whose lineage topic was then deleted.

    Returns:
        The worker, its sink, its state folder and the name of the lineage topic.
    """
    inputs = [scene.topic("one", 2), scene.topic("two", 2)]
    sink = scene.topic("counts", 2)
    worker = scene.worker(program, inputs, sink, checkpoint_interval_ms=100)
    worker.start_ready()
    scene.send(inputs[0], [Sent(b"word", key_in(i % 2, 2), i % 2) for i in range(100)])
    scene.wait_outputs(sink, 100)
    state = scene.folder / "state-worker"
    _wait_checkpoints(scene, state)
    lineage = f"{scene.application_id}-lineage"
    scene.delete(lineage)
    return worker, sink, state, lineage


@pytest.mark.parametrize("program", ["words", "merged"])
def test_a_deleted_lineage_topic(scene: Scene, program: str) -> None:
    """Deleted under the worker: it stops and names the topic, and no start begins from nothing."""
    worker, sink, state, lineage = _without_lineage(scene, program)
    assert worker.wait(ERROR_S_MAX) == 1
    assert f"no such topic: '{lineage}'" in worker.log()
    assert worker.run() == 1
    log = worker.log()
    assert f"no such topic: '{lineage}'; to fix it: the application ran before" in log
    assert f"kstash reset {scene.application_id}" in log
    shutil.rmtree(state)
    assert worker.run() == 1
    assert worker.log().count("the application ran before") == 2
    values = [o.value for outputs in scene.outputs(sink).values() for o in outputs]
    assert len(values) == 100


@pytest.mark.parametrize("program", ["words", "merged"])
def test_a_lineage_topic_made_anew_under_a_worker(scene: Scene, program: str) -> None:
    """With no time to miss it: the worker stops, and no start takes the new topic for a history.

    A program without internal topics knows it by its state, and by the checkpoints in Kafka.
    """
    worker, sink, state, lineage = _without_lineage(scene, program)
    scene.wait_deleted(lineage)
    scene.exact_topic(lineage, 2, cleanup_policy="compact")
    assert worker.wait(ERROR_S_MAX) == 1
    log = worker.log()
    assert re.search(
        "OffsetOutOfRangeError: .*the topic was deleted and made anew, or its leader lost records"
        rf".*\(topic '{lineage}', partition [01], offset \d+\)",
        log,
    )
    for _ in range(2):
        assert worker.run() == 1
    shutil.rmtree(state)
    assert worker.run() == 1
    assert worker.log().count(f"made anew since the application read it: '{lineage}'") == 3
    values = [o.value for outputs in scene.outputs(sink).values() for o in outputs]
    assert len(values) == 100


def test_a_deleted_input_topic(scene: Scene) -> None:
    """Deleted under the worker: it stops and names the topic; so does a start without it."""
    source, other, sink = scene.topic("left"), scene.topic("right"), scene.topic("counts")
    worker = scene.worker("merged", [source, other], sink)
    worker.start_ready()
    scene.send(source, [Sent(b"v", b"k")])
    scene.wait_outputs(sink, 1)
    scene.delete(other)
    assert worker.wait(ERROR_S_MAX) == 1
    assert f"no such topic: '{other}'" in worker.log()
    assert worker.run() == 1
    assert f"no such topic: '{other}'; to fix it: create" in worker.log()


def test_a_deleted_sink_topic(scene: Scene) -> None:
    """Deleted under the worker: it stops and names the topic instead of waiting for ever."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    worker = scene.worker("words", [source], sink)
    worker.start_ready()
    scene.send(source, lines("one two"))
    scene.wait_outputs(sink, 2)
    scene.delete(sink)
    scene.send(source, lines("three"))
    assert worker.wait(ERROR_S_MAX) == 1
    assert f"no such topic: '{sink}'" in worker.log()
    scene.exact_topic(sink)
    worker.start_ready()
    scene.wait_outputs(sink, 1)
    assert worker.stop() == 0
    (outputs,) = scene.outputs(sink).values()
    assert [(o.key, o.value) for o in outputs] == [(b"three", b"1")]


def _wait_checkpoints(scene: Scene, state: Path) -> None:
    """Wait for a checkpoint on the disk, and for one in Kafka."""
    topic = f"{scene.application_id}-checkpoints"
    wait_until(lambda: any(state.glob("*/*/checkpoints/[!.]*/CURRENT")), 30, "a checkpoint")
    wait_until(lambda: any(_end_offset(scene, topic, p) for p in (0, 1)), 30, "a remote one")


def _end_offset(scene: Scene, topic: str, partition: int) -> int:
    consumer = Consumer({"bootstrap.servers": scene.bootstrap, "group.id": "ends"})
    try:
        return int(consumer.get_watermark_offsets(TopicPartition(topic, partition), 10)[1])
    finally:
        consumer.close()
