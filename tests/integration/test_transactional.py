"""Sinks with `delivery="transactional"` on a real broker, read by a plain consumer."""

from __future__ import annotations

import pytest

from tests.integration.scene import Scene, Sent

pytestmark = pytest.mark.integration


def keyed(count: int) -> list[Sent]:
    """Records of three keys in turn, some with a header of the user's."""
    return [
        Sent(b"x", b"k%d" % (i % 3), 0, [("trace", b"%d" % i)] if i % 2 else [])
        for i in range(count)
    ]


def test_a_compacted_topic_takes_transactional_delivery(scene: Scene) -> None:
    """Counts arrive once each through a kill, with the user's headers and no other."""
    source, sink = scene.topic("in"), scene.topic("newest", cleanup_policy="compact")
    worker = scene.worker("newest", [source], sink, lineage_ack_delay_ms=200)
    worker.start_ready()
    scene.send(source, keyed(300))
    scene.wait_outputs(sink, 1)
    worker.kill()
    worker.start_ready()
    scene.send(source, keyed(300))
    scene.wait_outputs(sink, 600)
    assert worker.stop() == 0
    (outputs,) = scene.outputs(sink).values()
    for key in (b"k0", b"k1", b"k2"):
        counts = [int(o.value or b"") for o in outputs if o.key == key]
        assert counts == list(range(1, 201))
    names = {name for output in outputs for name, _ in output.headers}
    assert names == {"trace"}
    assert sum(bool(output.headers) for output in outputs) == 300


def test_a_null_key_for_a_compacted_topic_stops_the_worker(scene: Scene) -> None:
    """Kafka would refuse it at every attempt; the error names topic and way out."""
    source, sink = scene.topic("in"), scene.topic("newest", cleanup_policy="compact")
    worker = scene.worker("newest", [source], sink)
    worker.start_ready()
    scene.send(source, [Sent(b"x", b"k"), Sent(b"unkeyed", b"k")])
    assert worker.wait() == 1
    assert (
        "NullKeyError: a record without a key cannot be sent to a compacted topic" in worker.log()
    )
    assert sink in worker.log()


def test_immediate_of_a_transactional_sink_is_an_error(scene: Scene) -> None:
    """A reader that sees aborted records needs headers that are not there: it stops and says so."""
    source, middle, sink = scene.topic("in"), scene.topic("middle"), scene.topic("out")
    scene.send(source, keyed(3))
    first = scene.worker("newest", [source], middle, until="end")
    assert first.run() == 0
    second = scene.worker(
        "relay",
        [middle],
        sink,
        name="second",
        application_id=f"second-{scene.mark}",
        options={"immediate_of": scene.application_id},
    )
    assert second.run() == 1
    assert "immediate_of= is for sinks with immediate delivery" in second.log()
    assert f"{middle}', partition 0, offset 0" in second.log()
