"""Cost of the operators alone: word count's two stages, bytes in and bytes out, without Kafka.

    python benchmarks/operators.py [--words N] [--profile]

Prints the microseconds of CPU per word of each stage: the median of several runs and their range.
"""

from __future__ import annotations

import argparse
import cProfile
import random
import statistics
import time
from collections.abc import Callable, Collection
from typing import Any

import kstash
from kstash.operators.batch import Batch
from kstash.operators.program import StageProgram
from kstash.ports.state import OrderedStore, Timers

BATCH_RECORDS = 500
WORDS_PER_SENTENCE = 10
DISTINCT_WORDS = 10_000
REPEATS = 5


class DictStore:
    """A store that is just a dict, and the task's only one: what is left is what operators cost."""

    def __init__(self) -> None:
        self.live: dict[bytes, Any] = {}

    def store(self, name: str) -> DictStore:  # noqa: ARG002 - there is one
        """This one."""
        return self

    def ordered(self, name: str) -> OrderedStore:
        """There is none."""
        raise KeyError(name)

    def timers(self, name: str) -> Timers:
        """There are none."""
        raise KeyError(name)

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


def build() -> kstash.Topology:
    """The word count of the README."""
    app = kstash.App("word-count")
    (
        app.stream("sentences", value=kstash.text)
        .flat_map(str.split)
        .key_by(lambda word: word, key=kstash.text)
        .count("words")
        .to("word-counts", value=kstash.int_text)
    )
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


def cpu_us(work: Callable[[], None], word_count: int) -> float:
    """CPU microseconds per word."""
    before = time.process_time()
    work()
    return (time.process_time() - before) * 1e6 / word_count


def main() -> None:
    """Measure both stages and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--words", type=int, default=500_000)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    topology = build()
    batches = sentences(options.words)

    splitter = StageProgram(topology.stages[0], DictStore())
    counter = StageProgram(topology.stages[1], DictStore())
    between: list[Batch] = []

    def split() -> None:
        between.clear()
        for batch in batches:
            splitter.process(0, batch)
            between.extend(made for _, made, _ in splitter.take_outputs())

    def count() -> None:
        for batch in between:
            counter.process(0, batch)
            counter.take_outputs()

    for name, work in (("split", split), ("count", count)):
        runs = [cpu_us(work, options.words) for _ in range(REPEATS)]
        print(
            f"{name}: {statistics.median(runs):.3f} us/word "
            f"({min(runs):.3f} to {max(runs):.3f}, {REPEATS} runs of {options.words} words)"
        )
    if options.profile:
        profile = cProfile.Profile()
        profile.runcall(split)
        profile.runcall(count)
        profile.print_stats("tottime")


if __name__ == "__main__":
    main()
