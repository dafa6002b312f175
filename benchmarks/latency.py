"""Latency at a steady rate, as plain readers of the output see it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from benchmarks.bench import Bench
from benchmarks.case import Case
from benchmarks.clients import Load, Outside

LINGER_MS = 1
"""The default of `kstash.Config`."""

WARM_S = 3.0
DRAIN_S = 1.5
RATES = {"word count": 1_000, "rolling hash": 5_000, "hops": 2_000}
"""Input records a second; 1,000 sentences are 10,000 words."""


def measure(
    bench: Bench,
    case: Case,
    seconds: float,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """One run at a steady rate: percentiles in ms for each kind of reader, CPU of the worker.

    `settings` is more of the worker's environment. `commit_adds` of the result is how much later
    the `read_committed` reader saw a marker than the other one did, marker by marker: a machine
    that is busy slows both down.
    """
    inputs = [f"bench-live-{name}" for name in case.inputs]
    bench.create_topics(inputs)
    try:
        with bench.run(case, inputs, linger_ms=LINGER_MS, settings=settings) as (worker, _):
            worker.start()
            outside = _outside(bench, case, inputs, WARM_S + seconds)
            try:
                worker.wait_ready()
                outside.start()
                time.sleep(WARM_S)
                cpu_s, begin = worker.cpu_s(), time.time_ns()
                time.sleep(seconds)
                used, end = worker.cpu_s() - cpu_s, time.time_ns()
                outside.wait_fed()
                time.sleep(DRAIN_S)
                worker.check(True, "")
                seen = outside.finish()
            finally:
                outside.close()
            worker.stop()
    finally:
        bench.delete_topics("bench-live-")
    result: dict[str, Any] = {"worker_cpu_percent": used * 1e11 / (end - begin)}
    for isolation, view in seen.items():
        late = [(m.read - m.due) / 1e6 for m in view.marks if begin <= m.due < end]
        result[isolation] = percentiles(late)
    committed = {m.due: m.read for m in seen["read_committed"].marks}
    result["commit_adds"] = percentiles(
        [
            (committed[m.due] - m.read) / 1e6
            for m in seen["read_uncommitted"].marks
            if begin <= m.due < end and m.due in committed
        ]
    )
    return result


def _outside(bench: Bench, case: Case, inputs: list[str], seconds: float) -> Outside:
    load = Load(case, inputs, RATES[case.program], seconds)
    return Outside(bench.bootstrap, load, bench.output)


def percentiles(late_ms: list[float]) -> dict[str, Any]:
    """Median, 99th percentile and maximum."""
    if len(late_ms) < 2:
        return {"count": len(late_ms)}
    cuts = statistics.quantiles(late_ms, n=100, method="inclusive")
    return {"count": len(late_ms), "p50_ms": cuts[49], "p99_ms": cuts[98], "max_ms": max(late_ms)}
