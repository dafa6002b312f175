"""What a commit interval costs after one hop and after three, for both deliveries.

Stages inside an application read each other's frames at once; only the plain reader at the end
waits for a commit. So its latency grows by one interval, however many hops there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks import latency
from benchmarks.bench import Bench
from benchmarks.case import Case


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What is measured.

    Attributes:
        interval_ms: `sink_commit_interval_ms`.
        hops: topics that a record passes on its way, the sink included.
        delivery: of the sink.
    """

    interval_ms: int
    hops: int
    delivery: str

    def __str__(self) -> str:
        hops = "1 hop" if self.hops == 1 else f"{self.hops} hops"
        return f"hops: commit every {self.interval_ms:,} ms, {hops}, {self.delivery}"


PIPELINES = [
    Pipeline(interval_ms, hops, delivery)
    for interval_ms in (10, 100, 1000)
    for delivery in ("immediate", "transactional")
    for hops in (1, 3)
]


def measure(bench: Bench, pipeline: Pipeline, seconds: float) -> dict[str, Any]:
    """One run at a steady rate: percentiles in ms for each kind of reader, CPU of the worker."""
    settings = {
        "BENCH_HOPS": str(pipeline.hops),
        "BENCH_DELIVERY": pipeline.delivery,
        "KSTASH_SINK_COMMIT_INTERVAL_MS": str(pipeline.interval_ms),
    }
    return latency.measure(bench, Case("hops", "exactly_once"), seconds, settings)
