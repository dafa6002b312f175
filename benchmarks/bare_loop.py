"""The yardstick: word count as a loop over the client, with no fault tolerance at all.

Frames on the topic between the two steps and an identity-sized header on each output, as kstash
writes them; the rest is what the client costs any program.
"""

from __future__ import annotations

import argparse
import os
import struct
from collections import defaultdict

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.case import PARTITIONS
from kstash.core.partitioner import Partitioner

BATCH_RECORDS = 500


def main() -> None:
    """Split, exchange, count, until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bootstrap-servers", "application-id", "input", "output"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    frames = f"{options.application_id}-frames"
    common = {"bootstrap.servers": options.bootstrap_servers}
    admin = AdminClient(common)
    admin.create_topics([NewTopic(frames, PARTITIONS, 1)])[frames].result(timeout=30)
    consumer = Consumer(
        {
            **common,
            "group.id": options.application_id,
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 50,
        }
    )
    producer = Producer(
        {
            **common,
            "enable.idempotence": True,
            "linger.ms": int(os.environ.get("KSTASH_LINGER_MS", "0")),
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    partitions = range(PARTITIONS)
    consumer.assign(
        [
            TopicPartition(t, p, OFFSET_BEGINNING)
            for t in (options.input, frames)
            for p in partitions
        ]
    )
    print("READY", flush=True)
    _loop(consumer, producer, frames, options.output)


def _loop(consumer: Consumer, producer: Producer, frames: str, output: str) -> None:
    produce = producer.produce
    partition_of = Partitioner(PARTITIONS)
    counts: dict[bytes, int] = defaultdict(int)
    identity, pack = bytes(43), struct.Struct(">Q").pack
    sequence = 0
    while True:
        producer.poll(0)
        first = consumer.poll(0.005)
        if first is None:
            continue
        out: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
        for message in (first, *consumer.consume(BATCH_RECORDS - 1, 0)):
            value, partition = message.value(), message.partition()
            assert value is not None
            assert partition is not None
            if message.topic() != frames:
                for word in value.split():
                    out[partition_of[word]].append(word)
                continue
            for word in value.split():
                counts[word] = count = counts[word] + 1
                sequence += 1
                headers: list[tuple[str, str | bytes | None]] = [
                    ("__kstash.s", identity + pack(sequence))
                ]
                produce(output, b"%d" % count, word, partition, None, None, 0, headers)
            if len(producer) > 200_000:
                producer.flush(1.0)
        for partition, words in enumerate(out):
            if words:
                produce(frames, b" ".join(words), None, partition)


if __name__ == "__main__":
    main()
