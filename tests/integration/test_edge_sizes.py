"""Records as large as a topic allows, and larger; what they carry besides may not matter."""

from __future__ import annotations

import time

import pytest

from kstash.failpoints import EXIT_FAILED, VARIABLE
from tests.integration.scene import Scene, Sent

pytestmark = pytest.mark.integration

SINK_BYTES_MAX = 100_000
LINEAGE_BYTES_MAX = 4096
# As documented: the cap of the lineage, 256 bytes for framing and 64 for each record are kstash's.
VALUE_BYTES_MAX = SINK_BYTES_MAX - LINEAGE_BYTES_MAX - 256 - 64


def values(scene: Scene, topic: str) -> list[bytes]:
    """Values of a topic as a plain reader sees them, sorted."""
    return sorted(o.value or b"" for part in scene.outputs(topic).values() for o in part)


@pytest.mark.parametrize("point", ["sink.append.after:3", "sink.commit.before:1"])
def test_the_largest_record_fits_in_a_replay_too(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """A record of exactly the size allowed arrives once, whatever lineage its replay carries."""
    inputs = [scene.topic("left"), scene.topic("right")]
    sink = scene.topic("out", max_message_bytes=str(SINK_BYTES_MAX))
    sent = [b"%d" % number for number in range(40)]
    sent[10] = bytes(VALUE_BYTES_MAX)
    sent[25] = b"x" * VALUE_BYTES_MAX
    worker = scene.worker("copy", inputs, sink, lineage_ack_delay_ms=500)
    monkeypatch.setenv(VARIABLE, point)
    armed = scene.worker("copy", inputs, sink, lineage_ack_delay_ms=500)
    armed.start_ready()
    for number, value in enumerate(sent):
        scene.send(inputs[number % 2], [Sent(value)])
    deadline = time.monotonic() + 60
    while armed.is_running():
        # How many batches the records above make is the worker's choice: more, until it is there.
        assert time.monotonic() < deadline, f"{point} was not reached"
        sent.append(b"%d" % len(sent))
        scene.send(inputs[0], [Sent(sent[-1])])
    assert armed.exit_code() == EXIT_FAILED
    monkeypatch.delenv(VARIABLE)
    worker.start_ready()
    scene.wait_outputs(sink, len(sent))
    assert worker.stop() == 0
    assert values(scene, sink) == sorted(sent)


def test_a_record_too_large_for_a_sink(scene: Scene) -> None:
    """One byte more is refused before anything of it is out; passed over, the work goes on."""
    source = scene.topic("in")
    sink = scene.topic("out", max_message_bytes=str(SINK_BYTES_MAX))
    scene.send(source, [Sent(b"before"), Sent(bytes(VALUE_BYTES_MAX + 1)), Sent(b"behind")])
    for _ in range(2):
        worker = scene.worker("copy", [source], sink, until="end")
        assert worker.run() == 1
    log = worker.log()
    assert f"RecordTooLargeError: a record of {VALUE_BYTES_MAX + 65} bytes was made" in log
    assert "raise the topic's max.message.bytes, or make smaller records" in log
    assert f"topic '{sink}'" in log
    worker = scene.worker("copy", [source], sink, until="end", skip_records=f"{source}/0/1")
    assert worker.run() == 0
    assert values(scene, sink) == [b"before", b"behind"]


def test_a_record_too_large_for_a_frame(scene: Scene) -> None:
    """The largest record that a frame takes goes through; one byte more names the way out."""
    source, sink = scene.topic("in"), scene.topic("out")
    largest = bytes(10_000 - 64 - 1)
    scene.send(source, [Sent(largest, b"k")])
    worker = scene.worker("through", [source], sink, until="end", frame_bytes_max=10_000)
    assert worker.run() == 0
    assert values(scene, sink) == [largest]
    scene.send(source, [Sent(largest + b"x", b"k")])
    assert worker.run() == 1
    assert "RecordTooLargeError: a record of 10001 bytes does not fit into a frame" in worker.log()
    assert f"{scene.application_id}-all-repartition" in worker.log()
    worker = scene.worker("through", [source], sink, until="end", frame_bytes_max=20_000)
    assert worker.run() == 0
    assert values(scene, sink) == sorted([largest, largest + b"x"])


def test_a_sink_of_small_batches(scene: Scene) -> None:
    """Many records at once go into a topic that takes less in a batch than clients like to send."""
    source = scene.topic("in")
    sink = scene.topic("out", max_message_bytes="20000")
    sent = [b"%05d" % number + bytes(1000) for number in range(2000)]
    scene.send(source, [Sent(value) for value in sent])
    assert scene.worker("copy", [source], sink, until="end", linger_ms=100).run() == 0
    assert values(scene, sink) == sent
