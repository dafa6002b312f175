"""Bounds of time and memory: many open windows, windows that close at once, pending timers.

Run with `python -m benchmarks.bounds [--windows N] [--closing N] [--timers N] [--every N]
[--memory-mib N] [--only PART]`.
The operators of one task over RocksDB, without Kafka. Each part runs in a process of its own and
prints a line for each figure: what came out, and the aim. A pause is the longest time between two
moments at which the task returns to its worker.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import kstash
from kstash.operators.batch import Batch
from kstash.operators.program import StageProgram
from kstash.ports.state import TaskState
from kstash.process.garbage import seldom_collecting
from kstash.runtime.write_time import WRITE_S
from kstash.state.rocks import RocksBackend
from kstash.topology.model import Stage

Words: TypeAlias = kstash.KeyedStream[str, str]
Results: TypeAlias = kstash.Stream[Any, Any]

BATCH_RECORDS = 5000
PAUSE_MS_MAX = 200
SIZE = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
LATER_MS = 1000 * 3_600_000
YEAR_MS = 365 * 24 * 3_600_000

CLOSING: dict[str, Callable[[Words], Results]] = {
    "tumbling, update": lambda words: words.window(kstash.tumbling(SIZE)).count("n"),
    "tumbling, final": lambda words: words.window(kstash.tumbling(SIZE), emit="final").count("n"),
    "session, update": lambda words: words.window(kstash.session(SIZE)).count("n"),
    "session, final": lambda words: words.window(kstash.session(SIZE), emit="final").count("n"),
    "sliding, update": lambda words: words.window(kstash.sliding(SIZE)).count("n"),
    "sliding, final": lambda words: words.window(kstash.sliding(SIZE), emit="final").count("n"),
}


class Silence(kstash.Processor[str, str, str]):
    """A timer for each key."""

    def on_record(self, record: Any, context: Any) -> None:
        """An hour after its last record."""
        context.timer("silent", at=record.timestamp_ms + SIZE // timedelta(milliseconds=1))

    def on_timer(self, timer: Any, context: Any) -> None:
        """Tell."""
        context.send(timer.name)


class Pulse(kstash.Processor[str, str, str]):
    """A timer for each key that fires again and again."""

    def on_record(self, record: Any, context: Any) -> None:
        """A minute after its last record, and each minute from then on."""
        at_ms = record.timestamp_ms + MINUTE // timedelta(milliseconds=1)
        context.timer("pulse", at=at_ms, every=MINUTE)

    def on_timer(self, timer: Any, context: Any) -> None:
        """Tell."""
        context.send(timer.name)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes:
        what: was measured.
        value: what came out.
        aim: for it; empty: none.
    """

    what: str
    value: str
    aim: str = ""


class Driver:
    """A task of one stage over a state on the disk.

    Attributes:
        pause_s: the longest time of one call.
    """

    def __init__(self, stage: Stage, state: TaskState) -> None:
        self._program = StageProgram(stage, state)
        self.pause_s = 0.0

    def feed(self, numbers: Sequence[int], at_ms: int) -> int:
        """A record for each number, which is its key, all at one time; returns how many leave."""
        made = 0
        for first in range(0, len(numbers), BATCH_RECORDS):
            keys: list[bytes | None] = [b"key-%07d" % n for n in numbers[first:][:BATCH_RECORDS]]
            batch = Batch(keys, [b"v"] * len(keys), [at_ms] * len(keys))
            made += self._timed(partial(self._program.process, 0, batch))
            while self._program.has_work:
                made += self._timed(self._program.go_on)
        return made

    def _timed(self, call: Callable[[], None]) -> int:
        started = time.perf_counter()
        call()
        made = sum(len(batch) for _, batch, _ in self._program.take_outputs())
        self.pause_s = max(self.pause_s, time.perf_counter() - started)
        return made


def plain_count(words: Words) -> Results:
    """Without windows."""
    return words.count("n")


def stage_of(build: Callable[[Words], Results]) -> Stage:
    """The stage of a program on keyed words."""
    app = kstash.App("bounds")
    build(app.stream("in", key=kstash.text, value=kstash.text)).to("out", value=kstash.json)
    (stage,) = app.topology().stages
    return stage


@contextmanager
def backend(folder: Path, memory_mib: int) -> Iterator[RocksBackend]:
    """The states of an application."""
    made = RocksBackend(folder, "bounds", topology_hash="h", memory_bytes=memory_mib << 20)
    try:
        yield made
    finally:
        made.close()


def peak_mib() -> float:
    """Most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def words_of(count: int) -> list[int]:
    """Words as people use them, a few of them often, out of so many; where they lie is chance."""
    source = random.Random(7)
    ranked = source.sample(range(count), count)
    weights = [1 / (rank + 1) for rank in range(count)]
    return source.choices(ranked, weights, k=max(count // 2, BATCH_RECORDS))


def pause(what: str, pause_s: float, note: str = "") -> Figure:
    """The longest time for which something has stopped a task, beside the aim."""
    return Figure(f"{what}: pause", f"{pause_s * 1000:.0f} ms{note}", f"{PAUSE_MS_MAX} ms")


def measure_open(folder: Path, count: int, memory_mib: int) -> list[Figure]:
    """As many windows as keys are open: memory, and words a second against the plain count."""
    numbers = words_of(count)
    before_mib = peak_mib()
    rates: dict[str, float] = {}
    # The windows come first, so that the peak is theirs.
    counts = {"windows": CLOSING["tumbling, final"], "plain": plain_count}
    for name, build in counts.items():
        stage = stage_of(build)
        with backend(folder / name, memory_mib) as states:
            state = states.task(name, 0).open(stage.stores, base=None)
            driver = Driver(stage, state)
            driver.feed(range(count), 1)
            started = time.process_time()
            driver.feed(numbers, 2)
            rates[name] = len(numbers) / (time.process_time() - started)
            if name == "windows":
                used_mib = peak_mib() - before_mib
            state.close()
    return [
        Figure(f"{count} open windows, memory", f"{used_mib:.0f} MiB", f"{memory_mib * 1.2:.0f}"),
        Figure(
            "words a second, of the plain count's",
            f"{rates['windows'] / rates['plain']:.0%} of {rates['plain']:.0f}",
            "50%",
        ),
    ]


def measure_closing(folder: Path, count: int, memory_mib: int) -> list[Figure]:
    """As many windows as keys close at one record."""
    figures = []
    for number, (name, build) in enumerate(CLOSING.items()):
        stage = stage_of(build)
        with backend(folder / str(number), memory_mib) as states:
            state = states.task("closing", 0).open(stage.stores, base=None)
            driver = Driver(stage, state)
            driver.feed(range(count), 1)
            driver.pause_s = 0.0
            started = time.perf_counter()
            made = driver.feed([count], LATER_MS)
            total_s = time.perf_counter() - started
            state.close()
        note = f" ({made} results in {total_s:.1f} s)"
        figures.append(pause(f"{count} close at once, {name}", driver.pause_s, note))
    return figures


def checkpoint(state: TaskState, label: str) -> float:
    """Take a checkpoint as a worker does, whose turns end now and then; the longest one in s."""
    pause_s, is_left = 0.0, True
    while is_left:
        started = time.perf_counter()
        while (is_left := state.write_ahead()) and time.perf_counter() - started < WRITE_S:
            pass
        if not is_left:
            state.checkpoint(label, 1)
        pause_s = max(pause_s, time.perf_counter() - started)
    return pause_s


def measure_timers(folder: Path, count: int, memory_mib: int) -> list[Figure]:
    """As many timers are pending: a checkpoint, a restart, and then all fire."""
    stage = stage_of(lambda words: words.process("p", Silence, value=kstash.text))
    with backend(folder, memory_mib) as states:
        task = states.task("timers", 0)
        state = task.open(stage.stores, base=None)
        Driver(stage, state).feed(range(count), 1)
        checkpoint_s = checkpoint(state, "1")
        state.close()
        started = time.perf_counter()
        state = task.open(stage.stores, base="1")
        driver = Driver(stage, state)
        driver.feed([0], 2)
        restart_s = time.perf_counter() - started
        driver.pause_s = 0.0
        made = driver.feed([0], LATER_MS)
        state.close()
    return [
        pause(f"{count} timers, the first checkpoint", checkpoint_s),
        Figure(f"{count} timers: from open to the first record", f"{restart_s:.2f} s", "1 s"),
        pause("all fire at once", driver.pause_s, f" ({made} results)"),
    ]


def measure_every(folder: Path, count: int, memory_mib: int) -> list[Figure]:
    """Time jumps by a year over as many timers, each of which is due once a minute."""
    stage = stage_of(lambda words: words.process("p", Pulse, value=kstash.text))
    with backend(folder, memory_mib) as states:
        state = states.task("every", 0).open(stage.stores, base=None)
        driver = Driver(stage, state)
        driver.feed(range(count), 1)
        driver.pause_s = 0.0
        started = time.perf_counter()
        made = driver.feed([count], YEAR_MS)
        total_s = time.perf_counter() - started
        checkpoint_s = checkpoint(state, "1")
        state.close()
    note = f" ({made} results in {total_s:.1f} s)"
    return [
        pause(f"a year's jump over {count} timers, every=1 min", driver.pause_s, note),
        pause("the checkpoint after it", checkpoint_s),
    ]


PARTS: dict[str, Callable[[Path, int, int], list[Figure]]] = {
    "windows": measure_open,
    "closing": measure_closing,
    "timers": measure_timers,
    "every": measure_every,
}


def measure(part: str, count: int, memory_mib: int) -> list[Figure]:
    """Measure one part in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder, seldom_collecting():
        return PARTS[part](Path(folder), count, memory_mib)


def main() -> None:
    """Measure all parts, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bounds", description=__doc__)
    parser.add_argument("--windows", type=int, default=1_000_000, help="that are open (1000000)")
    parser.add_argument("--closing", type=int, default=100_000, help="at one record (100000)")
    parser.add_argument("--timers", type=int, default=1_000_000, help="that are set (1000000)")
    parser.add_argument("--memory-mib", type=int, default=256, help="state_memory_bytes (256)")
    parser.add_argument("--every", type=int, default=1_000_000, help="that repeat (1000000)")
    parser.add_argument("--only", choices=list(PARTS), help="one part")
    options = parser.parse_args()
    for part in [options.only] if options.only else PARTS:
        # A process of its own, whose peak of memory is that of the part.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            figures = pool.apply(measure, (part, getattr(options, part), options.memory_mib))
        for figure in figures:
            print(f"{figure.what:58} {figure.value:36} aim {figure.aim}", flush=True)


if __name__ == "__main__":
    main()
