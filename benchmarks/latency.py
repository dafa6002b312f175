"""Latency at a steady rate, and recovery after SIGKILL, as plain readers of the output see them."""

from __future__ import annotations

import statistics
import time
from typing import Any

from benchmarks.clients import Outside
from benchmarks.harness import Bench, Case

LINGER_MS = 1
"""The default of `kstash.Config`."""

WARM_S = 3.0
DRAIN_S = 1.5
RATES = {"word count": 1_000, "rolling hash": 5_000}
"""Input records a second; 1,000 sentences are 10,000 words."""

KILL_AFTER_S = 5.0
RECOVERY_FED_S = 14.0


def measure(bench: Bench, case: Case, seconds: float) -> dict[str, Any]:
    """One run at a steady rate: percentiles in ms for each kind of reader, CPU of the worker."""
    inputs = [f"bench-live-{name}" for name in case.inputs]
    bench.create_topics(inputs)
    try:
        with bench.run(case, inputs, linger_ms=LINGER_MS) as (worker, _):
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
    for isolation, marks in seen.items():
        late = [(m.read - m.due) / 1e6 for m in marks if begin <= m.due < end]
        result[isolation] = _percentiles(late)
    return result


def measure_recovery(bench: Bench, case: Case) -> dict[str, Any]:
    """SIGKILL under load and a restart at once: ms from the start of the new process.

    `first_output_ms` is when a plain reader gets the first output of an input that came after the
    crash, which only the new process can have made.
    """
    inputs = [f"bench-live-{name}" for name in case.inputs]
    bench.create_topics(inputs)
    try:
        with bench.run(case, inputs, linger_ms=LINGER_MS) as (worker, _):
            worker.start()
            outside = _outside(bench, case, inputs, RECOVERY_FED_S)
            try:
                worker.wait_ready()
                outside.start()
                time.sleep(KILL_AFTER_S)
                worker.kill()
                killed = time.time_ns()
                worker.start()
                worker.wait_ready()
                outside.wait_fed()
                time.sleep(DRAIN_S)
                seen = outside.finish()
            finally:
                outside.close()
            started, ready = worker.started, worker.ready
            worker.stop()
    finally:
        bench.delete_topics("bench-live-")
    result: dict[str, Any] = {"ready_ms": (ready - started) / 1e6}
    for isolation, marks in seen.items():
        first = next((m.read for m in marks if m.due >= killed), None)
        result[f"first_output_ms_{isolation}"] = first and (first - started) / 1e6
    return result


def _outside(bench: Bench, case: Case, inputs: list[str], seconds: float) -> Outside:
    rate = RATES[case.program]
    return Outside(bench.bootstrap, case, inputs, bench.output, rate=rate, seconds=seconds)


def _percentiles(late_ms: list[float]) -> dict[str, Any]:
    if len(late_ms) < 2:
        return {"count": len(late_ms)}
    cuts = statistics.quantiles(late_ms, n=100, method="inclusive")
    return {"count": len(late_ms), "p50_ms": cuts[49], "p99_ms": cuts[98], "max_ms": max(late_ms)}
