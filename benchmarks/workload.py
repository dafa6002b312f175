"""The input: words of a Zipf distribution, in sentences; the same from the same seed."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import accumulate

from confluent_kafka import Producer

from benchmarks.case import PARTITIONS, Case
from benchmarks.worker import BenchError
from kstash.core.partitioner import Partitioner

WORDS = 5_000
WORDS_PER_SENTENCE = 10
MARK = "@"
"""First part of a marker; the nanosecond at which its record was due follows."""

TAKEN_S_MAX = 60.0

_BLOCK = 10_000
_POOL = 500_000
"""Words drawn in advance when all are equally likely: of a million keys, two in five occur."""


def _words(seed: int) -> Iterator[list[str]]:
    """Endless blocks of words, word number n with a probability of 1/n (Zipf, exponent 1.0)."""
    source = random.Random(seed)
    words = [f"word{number}" for number in range(WORDS)]
    weights = list(accumulate(1 / (rank + 1) for rank in range(WORDS)))
    while True:
        yield source.choices(words, cum_weights=weights, k=_BLOCK)


def _repeated_words(keys: int, seed: int) -> Iterator[list[str]]:
    """Endless blocks of words out of `keys`, taken in turn from `_POOL` words drawn in advance.

    This makes a feeder fast enough for half of a worker's rate.
    """
    source = random.Random(seed)
    pool = [f"word{source.randrange(keys)}" for _ in range(_POOL)]
    while True:
        yield pool


class Records:
    """Makes one input record after the other: (index of the input topic, key, value).

    Args:
        case: what reads them.
        keys: number of different words, all equally likely. None: as in a text, `WORDS` by Zipf's
            law.
        seed: of the words.
    """

    def __init__(self, case: Case, keys: int | None = None, seed: int = 1) -> None:
        self._is_sentences = case.counts_words
        blocks = _words(seed) if keys is None else _repeated_words(keys, seed)
        self._words = (word for block in blocks for word in block)
        self._made = 0

    def next(self, mark: str | None = None) -> tuple[int, bytes | None, bytes]:
        """The next record; a `mark` stands in it as one of its words, or as its value."""
        self._made += 1
        if self._is_sentences:
            words = [next(self._words) for _ in range(WORDS_PER_SENTENCE)]
            if mark is not None:
                words[-1] = mark
            return 0, None, " ".join(words).encode()
        value = mark if mark is not None else f"value{self._made}"
        return self._made % 2, next(self._words).encode(), value.encode()


def outputs_per_record(case: Case) -> int | None:
    """Outputs that an input record leads to; None: nobody knows.

    A session sends two for a word, but for its first one, or one when its ends stay the same.
    """
    if case.program.startswith("session count"):
        return None
    if case.program == "hopping count":
        return 2 * WORDS_PER_SENTENCE
    return WORDS_PER_SENTENCE if case.counts_words else 1


def partition_of(index: int, key: bytes | None, partitions: int = PARTITIONS) -> int:
    """Input partition of record `index`: in turn, or the one that an output of its key goes to."""
    return index % partitions if key is None else _partitioner(partitions)[key]


@cache
def _partitioner(count: int) -> Partitioner:
    return Partitioner(count)


def each_key_once(keys: int) -> Iterator[bytes]:
    """Sentences that hold each of `keys` words (as `Records` makes them) once."""
    for first in range(0, keys, WORDS_PER_SENTENCE):
        end = min(keys, first + WORDS_PER_SENTENCE)
        yield " ".join(f"word{number}" for number in range(first, end)).encode()


def preload(bootstrap: str, case: Case, topics: list[str], count: int) -> None:
    """Write `count` records into the input topics and wait until the broker has them."""
    records = Records(case, case.words)
    write(bootstrap, topics, (records.next() for _ in range(count)))


def write(
    bootstrap: str,
    topics: list[str],
    records: Iterable[tuple[int, bytes | None, bytes]],
    partitions: int = PARTITIONS,
) -> None:
    """Write records (index of the topic, key, value) and wait until the broker has them."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 50,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    for index, (topic, key, value) in enumerate(records):
        deadline = time.monotonic() + TAKEN_S_MAX
        while time.monotonic() < deadline:
            try:
                producer.produce(topics[topic], value, key, partition_of(index, key, partitions))
                break
            except BufferError:
                producer.poll(0.1)
        else:
            raise BenchError(f"the broker took no record of the input within {TAKEN_S_MAX:g} s")
        if index % 1000 == 0:
            producer.poll(0)
    missing = producer.flush(TAKEN_S_MAX)
    if missing:
        raise BenchError(f"{missing} records of the input were not taken by the broker")
