"""Readers of the word counts: plain Kafka consumers, and kstash's own beside them.

The verdict comes from a plain consumer that knows nothing of kstash.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from kstash.readers import ImmediateReader

LATENCY_WINDOW_S = 5


def plain_consumer(bootstrap_servers: str, topic: str, partition_count: int) -> Consumer:
    """A `read_committed` consumer of a whole topic from its beginning, in no group."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "kstash-demo-reader",  # the client wants one; nothing is committed
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
            "log_level": 0,  # its log lines would tear the live table
        }
    )
    consumer.assign(
        [TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partition_count)]
    )
    return consumer


class Client(Protocol):
    """What both kinds of consumers can do."""

    def poll(self, timeout: float, /) -> Message | None:
        """The next record or error."""

    def consume(self, count: int, timeout: float, /) -> list[Message]:
        """What comes in time."""

    def close(self) -> None:
        """Close."""


def kstash_reader(bootstrap_servers: str, topic: str) -> Client:
    """A reader with the reader rule: it need not wait for the transactions of the worker."""
    settings = {
        "bootstrap.servers": bootstrap_servers,
        "group.id": "kstash-demo-at-once",
        "fetch.wait.max.ms": 10,
        "log_level": 0,
    }
    return ImmediateReader(settings, [topic])


class LiveReader(threading.Thread):
    """Follows the output topic while the demo runs.

    Attributes:
        outputs: the counts of each word, in order.
        seen: outputs seen so far.
        last_seen_at: when the last output was seen (`time.monotonic`).
        longest_gap_s: longest time without any output since `watch_gap`.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(name="reader", daemon=True)
        self.outputs: dict[str, list[int]] = {}
        self.seen = 0
        self.last_seen_at = time.monotonic()
        self.longest_gap_s = 0.0
        self._latencies: deque[tuple[float, int]] = deque()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._client = client

    def run(self) -> None:
        """Read until `stop`."""
        while not self._stopping.is_set():
            first = self._client.poll(0.1)
            if first is not None:
                # `consume` alone would wait until it has them all.
                self._take([first, *self._client.consume(5000, 0)])
        self._client.close()

    def _take(self, messages: list[Message]) -> None:
        records = [message for message in messages if message.error() is None]
        if not records:
            return
        now = time.monotonic()
        unix_ms = int(time.time() * 1000)
        with self._lock:
            self.longest_gap_s = max(self.longest_gap_s, now - self.last_seen_at)
            self.last_seen_at = now
            self.seen += len(records)
            for record in records:
                word, count = _word_and_count(record)
                self.outputs.setdefault(word, []).append(count)
                # An output carries the timestamp of the record that made it.
                self._latencies.append((now, unix_ms - record.timestamp()[1]))

    def watch_gap(self) -> None:
        """Measure the longest gap from now on."""
        with self._lock:
            self.longest_gap_s = 0.0
            self.last_seen_at = time.monotonic()

    def top(self, count: int) -> list[tuple[str, int]]:
        """The most frequent words."""
        with self._lock:
            counts = Counter({word: numbers[-1] for word, numbers in self.outputs.items()})
        return counts.most_common(count)

    def latency_ms(self) -> tuple[int, int] | None:
        """Median and 99th percentile over the last seconds, record to visible output."""
        with self._lock:
            horizon = time.monotonic() - LATENCY_WINDOW_S
            while self._latencies and self._latencies[0][0] < horizon:
                self._latencies.popleft()
            values = sorted(latency for _, latency in self._latencies)
        if not values:
            return None
        return values[len(values) // 2], values[int(len(values) * 0.99)]

    def stop(self) -> None:
        """End and close."""
        self._stopping.set()
        if self.is_alive():
            self.join(10)


def _word_and_count(record: Message) -> tuple[str, int]:
    key, value = record.key(), record.value()
    assert isinstance(key, bytes)
    assert isinstance(value, bytes)
    return key.decode(), int(value)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reader found against what the text says.

    Attributes:
        expected: words in the text.
        lost: numbers of a word's 1 … n that nobody saw.
        duplicated: numbers seen more than once, or that the text does not have.
        misplaced: numbers that came before a smaller one.
    """

    expected: int
    lost: int
    duplicated: int
    misplaced: int

    @property
    def is_exactly_once(self) -> bool:
        """Each word's outputs were 1, 2, 3 … n."""
        return not (self.lost or self.duplicated or self.misplaced)

    def __str__(self) -> str:
        words = f"{self.expected:,} words, {self.lost:,} lost, {self.duplicated:,} duplicated"
        if self.is_exactly_once:
            return f"exactly once: {words}"
        return f"NOT exactly once: {words}, {self.misplaced:,} out of order"


def read_all(
    bootstrap_servers: str, topic: str, partition_count: int, *, deadline_s: float
) -> dict[str, list[int]]:
    """Read a topic from its beginning to its end: the counts of each word in order.

    Raises:
        TimeoutError: the end was not reached within the deadline.
    """
    consumer = plain_consumer(bootstrap_servers, topic, partition_count)
    outputs: dict[str, list[int]] = {}
    ended: set[int | None] = set()
    deadline = time.monotonic() + deadline_s
    try:
        while len(ended) < partition_count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"topic {topic!r} was not read to its end in {deadline_s} s")
            for message in consumer.consume(5000, 0.2):
                error = message.error()
                if error is None:
                    word, count = _word_and_count(message)
                    outputs.setdefault(word, []).append(count)
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
    finally:
        consumer.close()
    return outputs


def judge(outputs: Mapping[str, list[int]], expected: Mapping[str, int]) -> Verdict:
    """Compare each word's outputs with exactly 1, 2, 3 … n."""
    lost = duplicated = misplaced = 0
    for word in outputs.keys() | expected.keys():
        numbers = outputs.get(word, [])
        needed = range(1, expected.get(word, 0) + 1)
        right = len(set(numbers).intersection(needed))
        lost += len(needed) - right
        duplicated += len(numbers) - right
        misplaced += sum(b < a for a, b in pairwise(numbers))
    return Verdict(sum(expected.values()), lost, duplicated, misplaced)
