"""Records as large as a topic allows, and larger; what they carry besides may not matter."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from kstash.failpoints import EXIT_FAILED, VARIABLE
from kstash.startup.topic_settings import internal_topic_config
from tests.integration.scene import Scene, Sent

pytestmark = pytest.mark.integration

SINK_BYTES_MAX = 100_000
LINEAGE_BYTES_MAX = 4096
INTERNAL = internal_topic_config() | {"max.message.bytes": "100000"}
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
    scene.send(source, [Sent(b"before"), Sent(bytes(VALUE_BYTES_MAX + 1)), Sent(b"after")])
    for _ in range(2):
        worker = scene.worker("copy", [source], sink, until="end")
        assert worker.run() == 1
    log = worker.log()
    assert f"RecordTooLargeError: a record of {VALUE_BYTES_MAX + 65} bytes was made" in log
    assert "raise the topic's max.message.bytes, or make smaller records" in log
    assert f"for topic '{sink}'" in log
    assert f"(topic '{source}', partition 0, offset 1); skip_records={source}/0/1" in log
    worker = scene.worker("copy", [source], sink, until="end", skip_records=f"{source}/0/1")
    assert worker.run() == 0
    assert values(scene, sink) == [b"after", b"before"]


def test_what_a_default_topic_lets_in_passes_an_internal_topic(scene: Scene) -> None:
    """Words as large as Kafka's defaults take are counted, in frames of their own."""
    source, sink = scene.topic("in"), scene.topic("out")
    words = ["a", "b" * 600_000, "c", "d" * 900_000, "e" * 512 * 1024, "b" * 600_000, "a"]
    scene.send(source, [Sent(word.encode()) for word in words[:4]])
    worker = scene.worker("words", [source], sink)
    worker.start_ready()
    scene.wait_outputs(sink, 4)
    worker.kill()
    scene.send(source, [Sent(word.encode()) for word in words[4:]])
    worker.start_ready()
    scene.wait_outputs(sink, len(words))
    assert worker.stop() == 0
    counts = Counter(o.key for part in scene.outputs(sink).values() for o in part)
    assert counts == Counter(word.encode() for word in words)


def test_a_record_too_large_for_an_internal_topic(scene: Scene) -> None:
    """An existing topic keeps its limit; what is above it names its input and the way out."""
    source, sink = scene.topic("in"), scene.topic("out")
    internal = scene.exact_topic(
        f"{scene.application_id}-all-repartition",
        1,
        **{name.replace(".", "_"): value for name, value in INTERNAL.items()},
    )
    limit = 100_000 - LINEAGE_BYTES_MAX - 256
    largest = bytes(limit - 64 - 1)
    scene.send(source, [Sent(b"first", b"k"), Sent(largest, b"k"), Sent(largest + b"x", b"k")])
    worker = scene.worker("through", [source], sink, until="end", frame_bytes_max=10_000)
    assert worker.run() == 1
    log = worker.log()
    assert f"RecordTooLargeError: a record of {limit + 1} bytes was made" in log
    assert f"for topic '{internal}', and {limit} fit" in log
    assert f"--entity-name {internal} --add-config max.message.bytes=100001" in log
    assert f"(topic '{source}', partition 0, offset 2); skip_records={source}/0/2" in log
    scene.alter(internal, max_message_bytes="100001")
    assert worker.run() == 0
    assert values(scene, sink) == sorted([b"first", largest, largest + b"x"])


def test_a_sink_of_small_batches(scene: Scene) -> None:
    """Many records at once go into a topic that takes less in a batch than clients like to send."""
    source = scene.topic("in")
    sink = scene.topic("out", max_message_bytes="20000")
    sent = [b"%05d" % number + bytes(1000) for number in range(2000)]
    scene.send(source, [Sent(value) for value in sent])
    assert scene.worker("copy", [source], sink, until="end", linger_ms=100).run() == 0
    assert values(scene, sink) == sent
