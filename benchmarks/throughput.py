"""Throughput: a preloaded topic, and the slope of the output's end offsets from 20 % to 90 %."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.bench import Bench
from benchmarks.case import Case
from benchmarks.workload import WORDS_PER_SENTENCE, outputs_per_record

LINGER_MS = 5
SAMPLE_S = 0.05
FROM, TO = 0.2, 0.9
STALL_S_MAX = 30.0
RUN_S_MAX = 1800.0
"""One that only trickles ends as well."""

QUIET_S = 3.0
"""After so long without an output all are there, where nobody knows how many there will be."""


def measure(bench: Bench, case: Case, inputs: list[str], record_count: int) -> dict[str, Any]:
    """One run: outputs a second, CPU a output, and what lineage and headers cost.

    Args:
        bench: broker and topics.
        case: what to run.
        inputs: preloaded topics.
        record_count: records in them together.

    Raises:
        BenchError: the worker ended, made no progress for `STALL_S_MAX` seconds, or was not done
            within `RUN_S_MAX`.
    """
    each = outputs_per_record(case)
    expected = None if each is None else record_count * each
    samples: list[tuple[float, int, float]] = []
    with bench.run(case, inputs, linger_ms=LINGER_MS) as (worker, metrics):
        worker.start()
        worker.wait_ready()
        began = changed = time.monotonic()
        while not _is_over(samples, expected, changed):
            end = bench.end_offsets(bench.output)
            now = time.monotonic()
            if samples and end > samples[-1][1]:
                changed = now
            samples.append((now, end, worker.cpu_s()))
            made = f"made {end} of {expected or 'nobody knows how many'} outputs"
            worker.check(now < changed + STALL_S_MAX, f"{made}, and none for {STALL_S_MAX:g} s")
            worker.check(now < began + RUN_S_MAX, f"{made} in {RUN_S_MAX:g} s")
            time.sleep(SAMPLE_S)
        time.sleep(1.2)  # counters of records are brought up to date once a second
        found = metrics()
        worker.stop()
    found_outputs = samples[-1][1]
    expected = expected or found_outputs
    first = next(sample for sample in samples if sample[1] >= expected * FROM)
    last = [sample for sample in samples if sample[1] <= expected * TO][-1]
    if last[0] <= first[0]:  # too fast for this little input
        first, last = samples[0], samples[-1]
    outputs = last[1] - first[1]
    result: dict[str, Any] = {
        "outputs_per_s": outputs / (last[0] - first[0]),
        "cpu_us_per_output": (last[2] - first[2]) * 1e6 / outputs,
        "outputs": found_outputs,
        "measured_s": last[0] - first[0],
    }
    if case.counts_words:
        words = record_count * WORDS_PER_SENTENCE * outputs / expected
        result["words_per_s"] = words / result["measured_s"]
    if found:
        header_bytes = found.get("kstash_header_bytes_total", 0.0)
        result["header_bytes_per_output"] = header_bytes / expected
        lineage_bytes = found.get("kstash_lineage_appended_bytes_total", 0.0)
        result["lineage_bytes_per_output"] = lineage_bytes / expected
        result["lineage_entries"] = found.get("kstash_lineage_appended_entries_total", 0.0)
    return result


def _is_over(samples: list[tuple[float, int, float]], expected: int | None, changed: float) -> bool:
    if not samples or not samples[-1][1]:
        return False
    if expected is None:
        return samples[-1][0] > changed + QUIET_S
    return samples[-1][1] >= expected
