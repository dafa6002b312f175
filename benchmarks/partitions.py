"""The cost of partitions that have little or nothing to do: one worker with all of them.

Only CPU time of the worker is measured, no latency: with a hundred partitions of three stages the
broker is the slower one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Producer

from benchmarks.bench import Bench
from benchmarks.case import Case
from benchmarks.worker import Worker

CASE = Case("hops", "exactly_once")
SETTINGS = {"BENCH_HOPS": "3"}
READY_S_MAX = 300.0
CALM_S = 15.0
"""Seconds after READY until the first checkpoints are out."""

DRAIN_S_MAX = 120.0


@dataclass(frozen=True, slots=True)
class Spread:
    """What is measured.

    Attributes:
        partitions: of each topic.
        per_s: records a second, spread over all partitions.
    """

    partitions: int
    per_s: int = 500

    def __str__(self) -> str:
        return f"partitions: {self.partitions}, three stages"


SPREADS = [Spread(10), Spread(100)]


def measure(bench: Bench, spread: Spread, seconds: float) -> dict[str, Any]:
    """The worker's share of a core without input, and its CPU time for each record.

    The time for each record is that of a trickle, and includes the idle worker's own.
    """
    inputs = [f"bench-spread-{name}" for name in CASE.inputs]
    bench.create_topics(inputs, spread.partitions)
    try:
        with bench.run(
            CASE, inputs, linger_ms=5, partitions=spread.partitions, settings=SETTINGS
        ) as (worker, _):
            worker.start()
            worker.wait_ready(READY_S_MAX)
            started_s = (worker.ready - worker.started) / 1e9
            time.sleep(CALM_S)
            cpu_s, begin = worker.cpu_s(), time.monotonic()
            time.sleep(seconds)
            idle = (worker.cpu_s() - cpu_s) / (time.monotonic() - begin)
            cpu_s = worker.cpu_s()
            count = _trickle(bench, worker, inputs, spread, seconds)
            used = worker.cpu_s() - cpu_s
            worker.stop()
    finally:
        bench.delete_topics("bench-spread-")
    return {
        "start_s": started_s,
        "idle_percent": idle * 100,
        "cpu_us_per_record": used / count * 1e6,
    }


def _trickle(
    bench: Bench, worker: Worker, inputs: list[str], spread: Spread, seconds: float
) -> int:
    """Send records evenly in time until all of them are out at the other end."""
    producer = Producer({"bootstrap.servers": bench.bootstrap, "linger.ms": 5})
    before = bench.end_offsets(bench.output, spread.partitions)
    begin, count = time.monotonic(), int(spread.per_s * seconds)
    for number in range(count):
        time.sleep(max(0.0, begin + number / spread.per_s - time.monotonic()))
        key = b"%d" % number
        producer.produce(inputs[number % 2], b"x", key)
        producer.poll(0)
    producer.flush(30)
    deadline = time.monotonic() + DRAIN_S_MAX
    while bench.end_offsets(bench.output, spread.partitions) - before < count:
        worker.check(time.monotonic() < deadline, f"not through within {DRAIN_S_MAX:g} s")
        time.sleep(0.5)
    return count
