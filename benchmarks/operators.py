"""Cost of the operators alone: word count's stages, bytes in and bytes out, without Kafka.

    python benchmarks/operators.py [--words N] [--profile]

Prints the microseconds of CPU per word of each stage: the median of several runs and their range.
Of two topics that alternate record by record it prints the same per record, with their merge.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Any, TypeAlias

import kstash
from kstash.core.kinds import InputKind
from kstash.operators.batch import Batch
from kstash.operators.merge_times import merge_times
from kstash.operators.program import StageProgram
from kstash.ports.state import Timers
from kstash.runtime.task.inputs import TaskInput
from kstash.runtime.task.merged import Merger
from kstash.testing.kafka.log import MemoryRecord

BATCH_RECORDS = 500
WORDS_PER_SENTENCE = 10
DISTINCT_WORDS = 10_000
REPEATS = 5
MINUTES = kstash.tumbling(timedelta(minutes=1))
HALF_MINUTES = kstash.hopping(timedelta(minutes=1), timedelta(seconds=30))


class DictStore:
    """A store that is just a dict: what is left is what operators cost."""

    def __init__(self) -> None:
        self.live: dict[bytes, Any] = {}

    def load(self, keys: Collection[bytes]) -> dict[bytes, Any]:  # noqa: ARG002 - all is resident
        """Everything is resident."""
        return self.live

    def peek(self, keys: Collection[bytes]) -> dict[bytes, Any]:
        """The values that are there."""
        return {key: self.live[key] for key in keys if key in self.live}

    def items(self) -> list[tuple[bytes, Any]]:
        """All entries in key order."""
        return sorted(self.live.items())

    def range(self, lower: bytes, upper: bytes | None, *, limit: int) -> list[tuple[bytes, Any]]:
        """Some of them."""
        return [
            entry
            for entry in self.items()
            if entry[0] >= lower and (upper is None or entry[0] < upper)
        ][:limit]

    def put(self, entries: Mapping[bytes, Any]) -> None:
        """Set entries."""
        self.live.update(entries)

    def delete(self, keys: Collection[bytes]) -> None:
        """Remove entries."""
        for key in keys:
            self.live.pop(key, None)

    def expire_below(self, bound: bytes, *, limit: int) -> bool:
        """Remove the first entries."""
        first = self.range(b"", bound, limit=limit + 1)
        self.delete([key for key, _ in first[:limit]])
        return len(first) > limit


class DictStores:
    """The stores of a task."""

    def __init__(self) -> None:
        self._stores: dict[str, DictStore] = {}

    def store(self, name: str) -> DictStore:
        """The one of a name."""
        return self._stores.setdefault(name, DictStore())

    ordered = store

    def timers(self, name: str) -> Timers:
        """There are none."""
        raise KeyError(name)


Words: TypeAlias = kstash.KeyedStream[str, str]

COUNTS: dict[str, Callable[[Words], kstash.Stream[Any, int]]] = {
    "count": lambda words: words.count("words"),
    "count in tumbling windows": lambda words: words.window(MINUTES).count("words"),
    "count in tumbling windows, final": lambda words: words.window(MINUTES, emit="final").count(
        "words"
    ),
    "count in hopping windows, two each": lambda words: words.window(HALF_MINUTES).count("words"),
}


def build(count: Callable[[Words], kstash.Stream[Any, int]]) -> kstash.Topology:
    """The word count of the README, or one in windows."""
    app = kstash.App("word-count")
    lines = app.stream("sentences", value=kstash.text)
    words = lines.flat_map(str.split).key_by(lambda word: word, key=kstash.text)
    count(words).to("word-counts", value=kstash.int_text)
    return app.topology()


def sentences(word_count: int) -> list[Batch]:
    """Batches of sentences with words of a long-tailed distribution."""
    source = random.Random(7)
    words = [f"word{number}" for number in range(DISTINCT_WORDS)]
    weights = [1 / (rank + 1) for rank in range(DISTINCT_WORDS)]
    drawn = source.choices(words, weights, k=word_count)
    starts = range(0, word_count, WORDS_PER_SENTENCE)
    lines = [" ".join(drawn[start : start + WORDS_PER_SENTENCE]).encode() for start in starts]
    return [
        Batch([None] * len(part), part, list(range(start, start + len(part))))
        for start in range(0, len(lines), BATCH_RECORDS)
        if (part := lines[start : start + BATCH_RECORDS])
    ]


def alternating() -> kstash.Topology:
    """Counts in windows over two topics."""
    app = kstash.App("alternating")
    both = app.stream("left", "right", key=kstash.text, value=kstash.text)
    both.window(MINUTES).count("records").to("counts", value=kstash.int_text)
    return app.topology()


def merging(record_count: int) -> Callable[[], None]:
    """Take two topics that alternate in the order of their times, and count their records."""
    (stage,) = alternating().stages
    keys = [f"word{number}".encode() for number in range(DISTINCT_WORDS)]
    logs = [
        [
            MemoryRecord(
                topic,
                0,
                number,
                key=keys[number * 7 % len(keys)],
                value=b"v",
                headers=None,
                timestamp_ms=2 * number + at,
            )
            for number in range(record_count // 2)
        ]
        for at, topic in enumerate(("left", "right"), start=1)
    ]

    def merge() -> None:
        program = StageProgram(stage, DictStores())
        inputs = {}
        for index, log in enumerate(logs):
            inputs[index] = TaskInput((log[0].topic(), 0), InputKind.PLAIN, 0, None)
            inputs[index].buffer.extend(log)
        merger = Merger(inputs, merge_times(stage), Counter())
        while len(merger.read()) < len(inputs):
            merged = merger.live(0, BATCH_RECORDS, lambda _: False)
            program.process_merged(merged.shares(0, merged.count))
            program.take_outputs()
            merged.finish()

    return merge


def cpu_us(work: Callable[[], None], word_count: int) -> float:
    """CPU microseconds per word."""
    before = time.process_time()
    work()
    return (time.process_time() - before) * 1e6 / word_count


def main() -> None:
    """Measure the stages and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--words", type=int, default=500_000)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    batches = sentences(options.words)
    splitter = StageProgram(build(COUNTS["count"]).stages[0], DictStores())
    between: list[Batch] = []

    def split() -> None:
        between.clear()
        for batch in batches:
            splitter.process(0, batch)
            between.extend(made for _, made, _ in splitter.take_outputs())

    def counting(program: StageProgram) -> Callable[[], None]:
        """Count all words, each time somewhat later than the last time."""
        runs = itertools.count()

        def count() -> None:
            later_ms = next(runs) * len(batches) * BATCH_RECORDS
            for batch in between:
                stamps = [stamp + later_ms for stamp in batch.timestamps]
                program.process(0, Batch(batch.keys, batch.values, stamps))
                while program.has_work:
                    program.go_on()
                program.take_outputs()

        return count

    works = {"split": split} | {
        name: counting(StageProgram(build(count).stages[1], DictStores()))
        for name, count in COUNTS.items()
    }
    works["count in tumbling windows, two topics that alternate"] = merging(options.words)
    for name, work in works.items():
        runs = [cpu_us(work, options.words) for _ in range(REPEATS)]
        print(
            f"{name}: {statistics.median(runs):.3f} us/word "
            f"({min(runs):.3f} to {max(runs):.3f}, {REPEATS} runs of {options.words} words)"
        )
    if options.profile:
        profile = cProfile.Profile()
        for work in works.values():
            profile.runcall(work)
        profile.print_stats("tottime")


if __name__ == "__main__":
    main()
