"""What checkpoints cost: CPU and time of the same work, with more and with fewer of them."""

from __future__ import annotations

import time
from itertools import chain
from typing import Any

from benchmarks.bench import Bench
from benchmarks.case import Case
from benchmarks.workload import WORDS_PER_SENTENCE, Records, each_key_once, write

CASE = Case("word count", "exactly_once")
KEYS = 100_000
INTERVALS_MS = (500, 1_000, 2_000, 5_000, 10_000, 30_000)
NEVER_MS = 3_600_000
"""The yardstick."""

LINGER_MS = 5
SAMPLE_S = 0.05
STALL_S_MAX = 30.0
COST_MAX = 0.03
"""Share of the throughput that checkpoints may cost by default."""


def preload(bench: Bench, topic: str, words: int) -> None:
    """Write each key once, then `words` of them at random."""
    records = Records(CASE, KEYS)
    sentences = chain(
        ((0, None, sentence) for sentence in each_key_once(KEYS)),
        (records.next() for _ in range(words // WORDS_PER_SENTENCE)),
    )
    bench.create_topics([topic])
    write(bench.bootstrap, [topic], sentences)


def measure(bench: Bench, topic: str, words: int, interval_ms: int) -> dict[str, Any]:
    """One run over the preloaded topic; figures are of the random words, all keys known.

    Raises:
        BenchError: the worker ended or made no progress for `STALL_S_MAX` seconds.
    """
    settings = {"KSTASH_CHECKPOINT_INTERVAL_MS": str(interval_ms), "PYTHONHASHSEED": "0"}
    with bench.run(CASE, [topic], linger_ms=LINGER_MS, settings=settings) as (worker, metrics):
        worker.start()
        worker.wait_ready()
        begin = _wait_for(bench, worker, KEYS + words // 10)
        before, cpu_before = metrics(), worker.cpu_s()
        end = _wait_for(bench, worker, KEYS + words)
        after, cpu_s = metrics(), worker.cpu_s() - cpu_before
        worker.stop()
    seconds, outputs = end[0] - begin[0], end[1] - begin[1]

    def grown(name: str) -> float:
        return float(after.get(name, 0.0) - before.get(name, 0.0))

    return {
        "outputs_per_s": outputs / seconds,
        "cpu_us_per_output": cpu_s * 1e6 / outputs,
        "checkpoints": grown("kstash_checkpoint_seconds_count"),
        "stall_share": grown("kstash_checkpoint_seconds_sum") / seconds,
        "measured_s": seconds,
    }


def _wait_for(bench: Bench, worker: Any, outputs: int) -> tuple[float, int]:
    """Wait for so many outputs; returns when they were seen (monotonic seconds) and how many."""
    seen, changed = 0, time.monotonic()
    while True:
        end = bench.end_offsets(bench.output)
        now = time.monotonic()
        if end >= outputs:
            return now, end
        if end > seen:
            seen, changed = end, now
        worker.check(now < changed + STALL_S_MAX, f"made {end} of {outputs} outputs")
        time.sleep(SAMPLE_S)
