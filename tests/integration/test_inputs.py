"""What inputs may look like: partition counts, null keys, tombstones, starts, gaps."""

from __future__ import annotations

import pytest
from confluent_kafka import TopicPartition

from tests.integration.scene import WAIT_S_MAX, Scene, Sent, lines

pytestmark = pytest.mark.integration


def test_inputs_of_different_partition_counts(scene: Scene) -> None:
    """Without state, topics with 1 and 3 partitions are merged; null keys and values pass."""
    narrow, wide, sink = scene.topic("narrow", 1), scene.topic("wide", 3), scene.topic("out", 2)
    scene.send(narrow, [Sent(b"n%d" % i, None) for i in range(20)])
    scene.send(wide, [Sent(b"w%d" % i, b"k%d" % (i % 5), i % 3) for i in range(30)])
    scene.send(wide, [Sent(None, b"k%d" % i, i % 3) for i in range(5)])
    scene.send(wide, [Sent(None, None, 2)])
    worker = scene.worker("copy", [narrow, wide], sink, until="end")
    assert worker.run() == 0
    found = scene.outputs(sink)
    pairs = sorted(
        ((o.key, o.value) for outputs in found.values() for o in outputs),
        key=lambda pair: (pair[0] or b"", pair[1] or b""),
    )
    expected: list[tuple[bytes | None, bytes | None]] = [(None, b"n%d" % i) for i in range(20)]
    expected += [(b"k%d" % (i % 5), b"w%d" % i) for i in range(30)]
    expected += [(b"k%d" % i, None) for i in range(5)] + [(None, None)]
    assert pairs == sorted(expected, key=lambda pair: (pair[0] or b"", pair[1] or b""))
    # A null key goes to the input's partition modulo the sink's number of partitions.
    assert {o.value for o in found[0] if o.key is None} == {b"n%d" % i for i in range(20)} | {None}


def test_null_keys_and_tombstones_through_frames(scene: Scene) -> None:
    """Frames keep null apart from empty, in keys and in values."""
    source, sink = scene.topic("in", 2), scene.topic("out", 2)
    pairs = [(None, b"a"), (b"", b"b"), (b"k", None), (b"k", b""), (None, None), (b"", b"")]
    scene.send(source, [Sent(value, key) for key, value in pairs])
    assert scene.worker("through", [source], sink, until="end").run() == 0
    found = scene.outputs(sink)
    order = [(o.key, o.value) for outputs in found.values() for o in outputs]
    assert sorted(map(repr, order)) == sorted(map(repr, pairs))


def test_a_new_application_starts_at_the_end(scene: Scene) -> None:
    """With `latest` only what comes after the first start counts, also after a crash then."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    scene.send(source, lines("old old old"))
    worker = scene.worker(
        "words", [source], sink, auto_offset_reset="latest", checkpoint_interval_ms=60_000
    )
    worker.start_ready()
    scene.send(source, lines("new words"))
    scene.wait_outputs(sink, 2)
    worker.kill()
    scene.send(source, lines("new"))
    worker.start_ready()
    scene.wait_outputs(sink, 3)
    assert worker.stop() == 0
    scene.check_words(sink, ["new words", "new"])


def _truncate(scene: Scene, topic: str, offset: int) -> None:
    asked = scene.admin.delete_records([TopicPartition(topic, 0, offset)])
    for future in asked.values():
        future.result(timeout=30)


def test_records_deleted_before_they_were_read(scene: Scene) -> None:
    """When retention passed a stopped worker, its next start names the place and what is left."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    scene.send(source, lines("one two", "three"))
    worker = scene.worker("words", [source], sink)
    worker.start_ready()
    scene.wait_outputs(sink, 3)
    assert worker.stop() == 0
    scene.send(source, lines("four", "five", "six"))
    _truncate(scene, source, 4)
    assert worker.run(WAIT_S_MAX) == 1
    log = worker.log()
    assert "OffsetOutOfRangeError" in log
    assert f"(topic '{source}', partition 0, offset 2)" in log
    assert "needs is 2, but the first that is left is 4" in log


def test_records_deleted_that_a_replay_needs(scene: Scene) -> None:
    """When records after the last checkpoint are gone, the restart after a crash reports it."""
    source, other, sink = scene.topic("left"), scene.topic("right"), scene.topic("counts")
    worker = scene.worker("merged", [source, other], sink, checkpoint_interval_ms=60_000)
    worker.start_ready()
    scene.send(source, [Sent(b"v", b"k") for _ in range(10)])
    scene.wait_outputs(sink, 10)
    worker.kill()
    _truncate(scene, source, 8)
    assert worker.run(WAIT_S_MAX) == 1
    log = worker.log()
    assert "OffsetOutOfRangeError" in log
    assert f"(topic '{source}', partition 0, offset 0)" in log
    assert "needs is 0, but the first that is left is 8" in log
