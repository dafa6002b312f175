"""The disk is gone: workers come back from remote checkpoints, on a real Kafka, exactly once.

What is right is computed from the sentences that were sent; outputs are read with kafka-python.
"""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from kstash.core.record_codec import decode_record
from kstash.core.records import Checkpoint
from tests.chaos.harness import wait_until
from tests.integration.scene import WAIT_S_MAX, Process, Scene, Sent, lines, sentences

pytestmark = pytest.mark.integration

RESTORED = "restored from the checkpoint store"
STORES = ("topic", "file")


class Count:
    """A word count that checkpoints often, into the topic or a folder, and loses its disk."""

    program = "words"

    def __init__(self, scene: Scene, store: str = "file", **settings: Any) -> None:
        self.scene = scene
        self.source, self.sink = scene.topic("sentences"), scene.topic("counts")
        self.texts: list[str] = []
        self.objects = scene.folder / "objects"
        url = f"file://{self.objects}" if store == "file" else store
        self.worker: Process = scene.worker(
            self.program,
            [self.source],
            self.sink,
            checkpoint_store=url,
            **{"checkpoint_interval_ms": 200, "http_port": 0, **settings},
        )

    def feed(self, count: int = 100) -> None:
        """Send sentences and wait until their words are counted."""
        more = sentences(count)
        self.texts += more
        self.scene.send(self.source, lines(*more))
        self.scene.wait_outputs(self.sink, len(self.texts) * 5)

    def lose_disk(self) -> None:
        """As after a move to another machine."""
        shutil.rmtree(self.scene.folder / "state-worker")

    def check(self) -> None:
        """Each word was counted 1, 2, 3 … n: state and outputs agree with what was sent."""
        self.scene.check_words(self.sink, self.texts)

    def remote(self) -> list[Checkpoint]:
        """Remote checkpoints of the counting task, oldest first."""
        client = Consumer({"bootstrap.servers": self.scene.bootstrap, "group.id": "look"})
        place = TopicPartition(f"{self.scene.application_id}-lineage", 0, 0)
        end = client.get_watermark_offsets(place, timeout=WAIT_S_MAX)[1]
        client.assign([place])
        found: dict[str, Checkpoint] = {}
        while client.position([place])[0].offset < end:
            message = client.poll(1.0)
            value = None if message is None else message.value()
            if message is None or value is None:
                continue
            record = decode_record(message.key(), value)
            if isinstance(record, Checkpoint) and record.is_remote and record.files:
                found[record.label] = record
        client.close()
        return list(found.values())

    def wait_remote(self) -> None:
        """Feed until one more checkpoint is remote."""
        known = {checkpoint.label for checkpoint in self.remote()}
        self.feed()
        wait_until(
            lambda: bool({checkpoint.label for checkpoint in self.remote()} - known),
            WAIT_S_MAX,
            "a remote checkpoint",
        )

    def damage(self, checkpoint: Checkpoint, keep: Checkpoint | None = None) -> str:
        """Damage a stored file of a checkpoint which another one does not have."""
        kept = {entry.digest for entry in keep.files} if keep is not None else set()
        entry = next(
            f for f in checkpoint.files if f.name.endswith(".sst") and f.digest not in kept
        )
        name = entry.uri.removeprefix("object:")
        path = self.objects / self.scene.application_id / name
        path.write_bytes(b"damaged" + path.read_bytes()[7:])  # again is fine
        return entry.uri


class Merged(Count):
    """A count without an internal topic: it can be made again from its input alone."""

    program = "merged"

    def feed(self, count: int = 100) -> None:
        """Send records of a few keys and wait until they are counted."""
        keys = [f"k{number % 7}" for number in range(count)]
        self.texts += keys
        self.scene.send(self.source, [Sent(b"x", key.encode()) for key in keys])
        self.scene.wait_outputs(self.sink, len(self.texts))


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_a_lost_disk_is_restored(scene: Scene, store: str, end: str) -> None:
    """An orderly stop replays nothing after it, a kill what came after the last upload."""
    count = Count(scene, store)
    count.worker.start_ready()
    for _ in range(3):
        count.wait_remote()
    if end == "stopped":
        assert count.worker.stop() == 0
    else:
        count.worker.kill()
    count.lose_disk()
    count.worker.start_ready()
    count.feed()
    assert count.worker.stop() == 0
    log = count.worker.log()
    assert RESTORED in log
    if end == "stopped":
        assert "replaying" not in log
    count.check()


def test_a_damaged_object_falls_back_to_the_older_checkpoint(scene: Scene) -> None:
    """It is named, the older one is restored, and the replay is longer by what lies between."""
    count = Count(scene, "file")
    count.worker.start_ready()
    for _ in range(3):
        count.wait_remote()
    count.worker.kill()
    count.lose_disk()
    older, newest = count.remote()[-2:]
    uri = count.damage(newest, keep=older)
    count.worker.start_ready()
    count.feed()
    assert count.worker.stop() == 0
    log = count.worker.log()
    assert "remote checkpoint is damaged, falling back to an older one" in log
    assert f"label={newest.label}" in log
    assert uri in log
    assert RESTORED in log
    assert f"base={older.position}" in log
    count.check()


@pytest.mark.parametrize("inputs", ["kept", "cut"])
def test_without_any_sound_checkpoint(scene: Scene, inputs: str) -> None:
    """All is made again from the start of the inputs, or refused with what is missing there.

    The whole program is one stage over one topic that users own: its input is never purged.
    """
    count = Merged(scene)
    count.worker.start_ready()
    for _ in range(3):
        count.wait_remote()
    count.worker.kill()
    count.lose_disk()
    for checkpoint in count.remote()[-2:]:
        count.damage(checkpoint)
    if inputs == "cut":
        place = TopicPartition(count.source, 0, 7)
        for future in scene.admin.delete_records([place]).values():
            future.result(timeout=WAIT_S_MAX)
        assert count.worker.run() == 1
        log = count.worker.log()
        assert "OffsetOutOfRangeError" in log
        assert "the earliest offset that it needs is 0, but the first that is left is 7" in log
        assert f"topic '{count.source}', partition 0" in log
        return
    count.worker.start_ready()
    count.feed()
    assert count.worker.stop() == 0
    assert count.worker.log().count("remote checkpoint is damaged, falling back") >= 2
    assert "base=0" in count.worker.log()
    count.check()


def test_a_kill_in_the_middle_of_an_upload(scene: Scene) -> None:
    """The half-stored checkpoint counts for nothing; its remains are deleted by the next life."""
    count = Count(scene, "topic", checkpoint_upload_bytes_per_s=20_000)
    count.worker.start_ready()
    count.wait_remote()
    count.feed(400)
    count.worker.kill()
    count.lose_disk()
    count.worker.start_ready()
    count.wait_remote()
    assert count.worker.stop() == 0
    assert RESTORED in count.worker.log()
    count.check()
