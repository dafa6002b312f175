"""Inputs that are compressed: what answers of the broker unpack to, and who may send what."""

from __future__ import annotations

import random
import re

import pytest
from confluent_kafka import KafkaError, Producer

from tests.integration.scene import Process, Scene

pytestmark = pytest.mark.integration

PARTITIONS = 40
BATCHES = 10
BATCH_BYTES = 1_000_000
RATIO = 10
"""Together 400 MB, of which an answer may hold as much as its limit lets in, compressed."""

MORE_MIB_MAX = 32 + 8 * RATIO
"""Above a worker that reads nothing, by docs/operating/running.md."""

BOMB_BYTES = 90_000_000


def producer(scene: Scene, compression: str) -> Producer:
    """One that makes batches as large as it is asked for."""
    return Producer(
        {
            "bootstrap.servers": scene.bootstrap,
            "compression.type": compression,
            "message.max.bytes": 1_000_000_000,
            "batch.size": 1_000_000_000,
            "linger.ms": 60_000,
            "queue.buffering.max.kbytes": 2_000_000,
            "retries": 0,
        }
    )


def send_batch(client: Producer, topic: str, partition: int, value: bytes, count: int) -> list[int]:
    """Append one batch; returns the codes of the errors that there were."""
    codes: list[int] = []

    def delivered(error: KafkaError | None, _: object) -> None:
        if error is not None:
            codes.append(error.code())

    for _ in range(count):
        client.produce(topic, value, partition=partition, on_delivery=delivered)
    assert client.flush(60) == 0
    return codes


def peak_mib(worker: Process) -> int:
    """Peak memory of a worker of `drop` that runs to the end."""
    assert worker.run(120) == 0
    return int(re.findall(r"PEAK (\d+) MiB", worker.log())[-1])


def test_compressed_batches(scene: Scene) -> None:
    """What a worker takes is bounded by `fetch.max.bytes`, the ratio and the client's queue."""
    source, sink = scene.topic("in", PARTITIONS), scene.topic("out")
    packed = BATCH_BYTES // RATIO
    value = random.Random(7).randbytes(packed) + bytes(BATCH_BYTES - packed)
    idle = peak_mib(scene.worker("drop", [source], sink, until="end", name="idle"))
    client = producer(scene, "gzip")
    for partition in range(PARTITIONS):
        for _ in range(BATCHES):
            assert send_batch(client, source, partition, value, 1) == []
    busy = peak_mib(scene.worker("drop", [source], sink, until="end", name="busy"))
    assert busy - idle <= MORE_MIB_MAX


@pytest.mark.parametrize("codec", ["zstd", "gzip", "lz4", "snappy"])
def test_a_topic_that_unpacks_takes_no_bombs(scene: Scene, codec: str) -> None:
    """With `compression.type=uncompressed` a broker refuses what is too large unpacked."""
    topic = scene.topic("in", compression_type="uncompressed")
    client = producer(scene, codec)
    assert send_batch(client, topic, 0, bytes(1000), 9) == []
    codes = send_batch(client, topic, 0, bytes(BOMB_BYTES // 9), 9)
    assert codes == [KafkaError.MSG_SIZE_TOO_LARGE] * 9
