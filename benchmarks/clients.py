"""The outside world in a latency run: a feeder that keeps its schedule, and plain readers.

Each is a process of its own, so that neither waits for the other's interpreter. A marker carries
the time at which its record was *due*: a feeder or a worker that is late cannot hide it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from typing import Any, NamedTuple

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from benchmarks.case import PARTITIONS, Case
from benchmarks.worker import BenchError
from benchmarks.workload import MARK, Records, partition_of

MARKS_PER_S = 200
READER_START_S_MAX = 20.0
READER_END_S_MAX = 60.0
BIN_MS = 50
"""Width of the bins in which readers count what they see."""
_MARK = re.compile(MARK.encode() + rb"(\d+)")
_spawn = multiprocessing.get_context("spawn")


class Seen(NamedTuple):
    """A marker that a reader has seen; Unix nanoseconds, and the output partition."""

    due: int
    read: int
    partition: int


@dataclass(slots=True)
class View:
    """What a reader has seen.

    Attributes:
        marks: in order.
        counts: records by output partition and bin of `BIN_MS` since the Unix epoch, repeated ones
            too.
    """

    marks: list[Seen] = field(default_factory=list)
    counts: dict[int, dict[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Load:
    """What is fed.

    Attributes:
        case: what reads it.
        inputs: topics that are fed.
        rate: input records a second.
        seconds: for which it feeds; None: until `Outside.stop_feeding`.
        keys: as of `Records`.
        partitions: of inputs and output.
    """

    case: Case
    inputs: list[str]
    rate: int
    seconds: float | None
    keys: int | None = None
    partitions: int = PARTITIONS


def _feed(bootstrap: str, load: Load, stop: Event) -> None:
    # Not idempotent: such a producer of librdkafka turns its thread in circles while five messages
    # of a partition are on their way, on the core that the broker needs. Five requests at most, so
    # that an overloaded broker gets larger ones.
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, "max.in.flight": 5})
    producer.list_topics(load.inputs[0], timeout=10)
    records = Records(load.case, load.keys)
    start = time.time_ns() + 200_000_000
    # Odd, so that markers go to all partitions.
    every = max(1, load.rate // MARKS_PER_S) | 1
    count = None if load.seconds is None else int(load.rate * load.seconds)
    index = 0
    while index != count and not (count is None and stop.is_set()):
        due = start + index * 1_000_000_000 // load.rate
        while (ahead := due - time.time_ns()) > 0:
            producer.poll(0)
            time.sleep(min(ahead / 1e9, 0.01))
        mark = f"{MARK}{due}" if index % every == 0 else None
        topic, key, value = records.next(mark)
        partition = partition_of(index, key, load.partitions)
        while True:
            try:
                producer.produce(load.inputs[topic], value, key, partition)
                break
            except BufferError:  # the broker is slow: late markers show as latency
                producer.poll(0.05)
        index += 1
    producer.flush(30)


def _read(
    bootstrap: str,
    topic: str,
    partitions: int,
    isolation: str,
    stop: Event,
    results: Connection,
    newest: Any,
) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"bench-{isolation}",
            "enable.auto.commit": False,
            "isolation.level": isolation,
        }
    )
    places = [TopicPartition(topic, p) for p in range(partitions)]
    for place in places:
        place.offset = consumer.get_watermark_offsets(place, timeout=READER_START_S_MAX)[1]
    consumer.assign(places)
    consumer.poll(1.0)
    results.send("ready")
    view = View(counts={p: {} for p in range(partitions)})
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
                    due = int(found[1])
                    view.marks.append(Seen(due, now, message.partition() or 0))
                    newest.value = max(newest.value, due)
        number = now // (BIN_MS * 1_000_000)
        for partition, count in Counter(map(Message.partition, messages)).items():
            bins = view.counts[partition or 0]
            bins[number] = bins.get(number, 0) + count
    consumer.close()
    results.send(view)


class Outside:
    """A feeder and one reader for each isolation level, each in a process.

    The readers begin at the end of what the output topic holds now.

    Args:
        bootstrap: the broker.
        load: what is fed.
        output: topic that is read.
    """

    def __init__(self, bootstrap: str, load: Load, output: str) -> None:
        self._load = load
        self._stop, self._stop_feeding = _spawn.Event(), _spawn.Event()
        self._feeder = _spawn.Process(
            target=_feed, args=(bootstrap, load, self._stop_feeding), daemon=True
        )
        self._readers: dict[str, Connection] = {}
        self._newest: dict[str, Any] = {}
        self._processes = [self._feeder]
        for isolation in ("read_uncommitted", "read_committed"):
            here, there = _spawn.Pipe(duplex=False)
            newest = self._newest[isolation] = _spawn.Value(ctypes.c_uint64, lock=False)
            process = _spawn.Process(
                target=_read,
                args=(bootstrap, output, load.partitions, isolation, self._stop, there, newest),
                daemon=True,
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

    def newest(self) -> int:
        """When the newest marker was due that all readers have seen; 0: none yet."""
        return int(min(newest.value for newest in self._newest.values()))

    @property
    def is_feeding(self) -> bool:
        """Whether input is still written."""
        return self._feeder.is_alive()

    def stop_feeding(self) -> None:
        """End a load without an end of its own."""
        self._stop_feeding.set()

    def wait_fed(self) -> None:
        """Wait until all input is written."""
        self._feeder.join((self._load.seconds or 0) + 60)
        assert self._feeder.exitcode == 0, "the feeder did not finish"

    def finish(self) -> dict[str, View]:
        """Stop the readers; returns what each has seen, by isolation level.

        Raises:
            BenchError: one says nothing.
        """
        self._stop.set()
        seen = {}
        for isolation, results in self._readers.items():
            # Of a process that has ended no end is seen: this one holds the other side as well.
            if not results.poll(READER_END_S_MAX):
                raise BenchError(f"nothing from the {isolation} reader in {READER_END_S_MAX:g} s")
            seen[isolation] = results.recv()
        self.close()
        return seen

    def close(self) -> None:
        """End all processes."""
        self._stop.set()
        for process in self._processes:
            if process.pid is not None:
                process.join(5)
                process.kill()
