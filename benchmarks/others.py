"""What the tasks of one worker see when another worker dies, which should be nothing.

Two workers share the partitions of a program whose tasks do not feed each other (the rolling hash:
its inputs are keyed). One is killed and started again at once.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from benchmarks.bench import Bench
from benchmarks.case import PARTITIONS, Case
from benchmarks.clients import BIN_MS, Load, Outside, View
from benchmarks.latency import LINGER_MS, RATES, percentiles
from benchmarks.recovery import log_lines, timeline, wait_live

CASE = Case("rolling hash", "exactly_once")
STEADY_S = 5.0
AFTER_S = 3.0
WINDOW_BINS = 5
"""Bins that count together: markers of commits and fetches come in gusts."""


def measure(bench: Bench, rate: int | None = None) -> dict[str, Any]:
    """One run; rates are records a second of the partitions that stay with the other worker.

    Args:
        bench: broker and topics.
        rate: input records a second.

    Raises:
        BenchError: a worker ended, or was not live in time.
    """
    inputs = [f"bench-others-{name}-{time.time_ns()}" for name in CASE.inputs]
    settings = {"KSTASH_LOG_FORMAT": "json", "PYTHONHASHSEED": "0"}
    bench.create_topics(inputs)
    try:
        with (
            bench.run(CASE, inputs, linger_ms=LINGER_MS, settings=settings, is_supervised=True) as (
                dying,
                _,
            ),
            bench.second_worker(CASE, inputs, linger_ms=LINGER_MS, settings=settings) as other,
        ):
            dying.start()
            dying.wait_ready()
            other.start()
            other.wait_ready()
            load = Load(CASE, inputs, rate or RATES[CASE.program], None)
            outside = Outside(bench.bootstrap, load, bench.output)
            try:
                dying.wait_standby()
                outside.start()
                time.sleep(STEADY_S)
                logged = dying.log.stat().st_size
                killed = dying.crash()
                wait_live(dying, logged, PARTITIONS // 2)
                ready_ms = (time.time_ns() - killed) / 1e6
                time.sleep(AFTER_S)
                outside.stop_feeding()
                outside.wait_fed()
                seen = outside.finish()
            finally:
                outside.close()
            live = [
                line["group"] for line in log_lines(other.log) if line["event"] == "task group live"
            ]
            dying.stop()
            other.stop()
    finally:
        bench.delete_topics("bench-others-")
    kept = sorted(set(live))
    view = seen["read_uncommitted"]
    return {
        "kept_partitions": kept,
        "killed_partitions": sorted(set(range(PARTITIONS)) - set(kept)),
        "ready_ms": ready_ms,
        **_dent(view, kept, killed, ready_ms),
        "timeline": {"bin_ms": BIN_MS, "read_uncommitted": timeline(view, killed)},
    }


def _dent(view: View, kept: list[int], killed: int, ready_ms: float) -> dict[str, Any]:
    """Output and latency of the kept partitions, before the kill and until the other is back."""
    bins: dict[int, int] = {}
    for partition in kept:
        for number, count in view.counts[partition].items():
            bins[number] = bins.get(number, 0) + count
    zero = killed // (BIN_MS * 1_000_000)
    before = _windows(bins, zero - int(3000 / BIN_MS), zero)
    during = _windows(bins, zero, zero + int(ready_ms / BIN_MS) + WINDOW_BINS)
    marks = [m for m in view.marks if m.partition in kept]
    late = [((m.due - killed) / 1e6, (m.read - m.due) / 1e6) for m in marks]
    return {
        "records_per_s_before": statistics.fmean(before),
        "records_per_s_before_min": min(before),
        "records_per_s_during_min": min(during),
        "latency_before": percentiles([ms for due, ms in late if due < 0]),
        "latency_during": percentiles([ms for due, ms in late if 0 <= due < ready_ms]),
    }


def _windows(bins: dict[int, int], first: int, end: int) -> list[float]:
    return [
        sum(bins.get(number, 0) for number in range(at, at + WINDOW_BINS))
        * 1000
        / (WINDOW_BINS * BIN_MS)
        for at in range(first, end - WINDOW_BINS + 1)
    ]
