"""The outside world in a latency run: a feeder that keeps its schedule, and plain readers.

Each is a process of its own, so that neither waits for the other's interpreter. A marker carries
the time at which its record was *due*: a feeder or a worker that falls behind cannot hide it.
"""

from __future__ import annotations

import multiprocessing
import re
import time
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from typing import NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from benchmarks.harness import PARTITIONS, Case
from benchmarks.workload import MARK, Records, partition_of

MARKS_PER_S = 200
READER_START_S_MAX = 20.0
_MARK = re.compile(MARK.encode() + rb"(\d+)")
_spawn = multiprocessing.get_context("spawn")


class Seen(NamedTuple):
    """A marker that a reader has seen; Unix nanoseconds."""

    due: int
    read: int


def _feed(bootstrap: str, case: Case, topics: list[str], rate: int, seconds: float) -> None:
    # Not idempotent: such a producer of librdkafka turns its thread in circles while five messages
    # of a partition are on their way, on the core that the broker needs. Five requests at most, so
    # that an overloaded broker gets larger ones.
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, "max.in.flight": 5})
    producer.list_topics(topics[0], timeout=10)
    records = Records(case)
    start = time.time_ns() + 200_000_000
    every = max(1, rate // MARKS_PER_S)
    for index in range(int(rate * seconds)):
        due = start + index * 1_000_000_000 // rate
        while (ahead := due - time.time_ns()) > 0:
            producer.poll(0)
            time.sleep(min(ahead / 1e9, 0.01))
        mark = f"{MARK}{due}" if index % every == 0 else None
        topic, key, value = records.next(mark)
        producer.produce(topics[topic], value, key, partition_of(index, key))
    producer.flush(30)


def _read(bootstrap: str, topic: str, isolation: str, stop: Event, results: Connection) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"bench-{isolation}",
            "enable.auto.commit": False,
            "isolation.level": isolation,
        }
    )
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
    consumer.poll(1.0)
    results.send("ready")
    seen: list[Seen] = []
    mark = MARK.encode()
    while not stop.is_set():
        first = consumer.poll(0.1)
        if first is None:
            continue
        messages = [first, *consumer.consume(5000, 0)]
        now = time.time_ns()
        for message in messages:
            text = (message.key() or b"") + b" " + (message.value() or b"")
            if mark in text:
                found = _MARK.search(text)
                if found is not None:
                    seen.append(Seen(int(found[1]), now))
    consumer.close()
    results.send(seen)


class Outside:
    """A feeder and one reader for each isolation level, each in a process.

    Args:
        bootstrap: the broker.
        case: what is fed.
        inputs: topics that are fed.
        output: topic that is read.
        rate: input records a second.
        seconds: for which it feeds.
    """

    def __init__(
        self,
        bootstrap: str,
        case: Case,
        inputs: list[str],
        output: str,
        *,
        rate: int,
        seconds: float,
    ) -> None:
        self.seconds = seconds
        self._stop = _spawn.Event()
        self._feeder = _spawn.Process(
            target=_feed, args=(bootstrap, case, inputs, rate, seconds), daemon=True
        )
        self._readers: dict[str, Connection] = {}
        self._processes = [self._feeder]
        for isolation in ("read_uncommitted", "read_committed"):
            here, there = _spawn.Pipe(duplex=False)
            process = _spawn.Process(
                target=_read, args=(bootstrap, output, isolation, self._stop, there), daemon=True
            )
            process.start()
            self._processes.append(process)
            self._readers[isolation] = here

    def start(self) -> None:
        """Start feeding once the readers are ready."""
        for isolation, results in self._readers.items():
            assert results.poll(READER_START_S_MAX), f"the {isolation} reader did not start"
            results.recv()
        self._feeder.start()

    def wait_fed(self) -> None:
        """Wait until all input is written."""
        self._feeder.join(self.seconds + 60)
        assert self._feeder.exitcode == 0, "the feeder did not finish"

    def finish(self) -> dict[str, list[Seen]]:
        """Stop the readers; returns what each has seen, by isolation level, in order."""
        self._stop.set()
        seen = {isolation: results.recv() for isolation, results in self._readers.items()}
        self.close()
        return seen

    def close(self) -> None:
        """End all processes."""
        self._stop.set()
        for process in self._processes:
            if process.pid is not None:
                process.join(5)
                process.kill()
