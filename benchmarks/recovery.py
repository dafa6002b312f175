"""Recovery time: SIGKILL under half of the worker's greatest load, and a restart at once.

Each case has an application of its own. The keys are put into its state, and a burst warms it up
and gives an upper bound of its rate. A probe with a higher load, beside the feeder and the readers,
then finds the rate that the worker sustains. Half of that is fed at a steady rate, and at a moment
that only the case decides the worker is killed. It is the only worker of a supervisor, which gives
its seat to the standby process. The load goes on all the while; two plain readers record the
outputs.
"""

from __future__ import annotations

import contextlib
import json
import random
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from benchmarks.bench import Bench
from benchmarks.case import Case
from benchmarks.clients import BIN_MS, Load, Outside, View
from benchmarks.latency import LINGER_MS, percentiles
from benchmarks.worker import Worker
from benchmarks.workload import WORDS_PER_SENTENCE, Records, each_key_once, write

PHASES = ("detect", "claim", "fence", "scan", "restore", "start", "replay")
"""As `task group live` names them, in order."""

BURST_WORDS = 400_000
MEASURED = 0.3, 0.9
"""Shares of the outputs of a burst or probe between which the rate is taken: the worker is warm at
the first, and the feeder still works at the last."""

PROBE_S = 6.0
"""Seconds of input at the rate of the burst, which the worker reaches when nothing else runs."""

PROGRESS_S_MAX = 60.0
CAUGHT_UP_MS = 250
"""Latency below which the lag counts as drained: two commits, and a slow poll; or the latency that
was usual before, if that was higher."""

BEHIND_MS_MAX = 400
"""Greatest latency of the readers, one of which waits for commits, at a load that is sustained."""

SLOWER = 0.7
LEAST_SHARE = 0.1
"""Share of the worker's greatest rate that counts as sustained anyhow: where the disk delays every
commit, readers are late at any load."""

AFTER_S = 2.0
SAMPLE_S = 0.05
AIM_S = 1.0
"""Time to the first new output, besides the replay."""


@dataclass(frozen=True, slots=True)
class Crash:
    """One case.

    Attributes:
        keys: in the state.
        disk: whether the next process finds the state folder.
        partitions: task groups, all of the one worker.
        interval_ms: between checkpoints.
        guarantee: of the application.
        burst_words: words of the burst that shows the worker's rate.
        load_share: share that is fed of the worker's rate beside feeder and readers.
        steady_s: least time from the first record to the kill: some checkpoints, and the usual
            latency.
    """

    keys: int
    disk: Literal["kept", "lost"] = "kept"
    partitions: int = 4
    interval_ms: int = 1000
    guarantee: str = "exactly_once"
    burst_words: int = BURST_WORDS
    load_share: float = 0.5
    steady_s: float = 6.0

    def __str__(self) -> str:
        guarantee = "" if self.guarantee == "exactly_once" else f", {self.guarantee}"
        tasks = "1 group" if self.partitions == 1 else f"{self.partitions} groups"
        often = "" if self.interval_ms == 1000 else f", every {self.interval_ms / 1000:g} s"
        return f"{self.keys:,} keys, disk {self.disk}, {tasks}{guarantee}{often}"

    @property
    def case(self) -> Case:
        """The program that is killed."""
        return Case("word count", self.guarantee)


LONG_REPLAY = Crash(10_000, interval_ms=10_000, steady_s=12.0)
"""Enough events that the replay's own speed shows, and not the time before it."""

FULL = [
    *(
        Crash(keys, disk, partitions)
        for keys in (10_000, 100_000, 1_000_000)
        for disk in ("kept", "lost")
        for partitions in (4, 1)
    ),
    *(Crash(10_000, guarantee=guarantee) for guarantee in ("write_first", "at_least_once")),
    LONG_REPLAY,
]
SHORT = [
    *(Crash(keys) for keys in (10_000, 100_000, 1_000_000)),
    Crash(100_000, partitions=1),
    Crash(100_000, "lost"),
    LONG_REPLAY,
]


def measure(bench: Bench, crash: Crash) -> dict[str, Any]:
    """One run.

    Returns:
        Times in ms from the death, if not said otherwise, and the raw timeline under `timeline`.

    Raises:
        BenchError: a worker ended, or was not ready or live in time.
    """
    # A topic made anew under its old name may lose what is written at once, with the old one.
    inputs = [f"bench-crash-{time.time_ns()}"]
    settings = {
        "KSTASH_LOG_FORMAT": "json",
        "KSTASH_CHECKPOINT_INTERVAL_MS": str(crash.interval_ms),
        "PYTHONHASHSEED": "0",
    }
    bench.create_topics(inputs, crash.partitions)
    try:
        with bench.run(
            crash.case,
            inputs,
            linger_ms=LINGER_MS,
            partitions=crash.partitions,
            settings=settings,
            is_supervised=True,
        ) as (worker, _):
            burst = _fill(bench, crash, inputs, worker)
            capacity = _probe(bench, crash, inputs, worker, burst)
            sustained = _sustained(bench, crash, inputs, worker, capacity)
            rate = max(1, int(sustained * crash.load_share / WORDS_PER_SENTENCE))
            load = Load(crash.case, inputs, rate, None, crash.keys, crash.partitions)
            outside = Outside(bench.bootstrap, load, bench.output)
            try:
                result = _crash(crash, worker, outside, bench.state_dir)
            finally:
                outside.close()
            worker.stop()
    finally:
        bench.delete_topics("bench-crash-")
    result |= {
        "burst_per_s": burst,
        "capacity_per_s": capacity,
        "sustained_per_s": sustained,
        "load_per_s": rate * WORDS_PER_SENTENCE,
        # Words and sentences: what `replayed` counts.
        "live_per_s": capacity * (1 + 1 / WORDS_PER_SENTENCE),
    }
    return result | _judged(result)


def _judged(result: dict[str, Any]) -> dict[str, Any]:
    """The aim: the first new output within 1 s plus the replay, from the process's restart on."""
    replay_s = result["replayed"] / result["replay_per_s"] if result["replay_per_s"] else 0.0
    bound_ms = (AIM_S + replay_s) * 1000
    first_ms = result["read_uncommitted"]["first_output_ms"]
    after_ms = None if first_ms is None else first_ms - result["restarted_ms"]
    judged: dict[str, Any] = {
        "bound_ms": bound_ms,
        "after_restart_ms": after_ms,
        "is_met": after_ms is not None and after_ms <= bound_ms,
    }
    if result["replay_per_s"]:
        judged["replay_to_live"] = result["replay_per_s"] / result["live_per_s"]
    return judged


def _fill(bench: Bench, crash: Crash, inputs: list[str], worker: Worker) -> float:
    """Bring the keys into the state, then a burst; returns its outputs a second."""
    records = Records(crash.case, crash.keys)
    burst = crash.burst_words // WORDS_PER_SENTENCE
    sentences = chain(
        ((0, None, sentence) for sentence in each_key_once(crash.keys)),
        (records.next() for _ in range(burst)),
    )
    write(bench.bootstrap, inputs, sentences, crash.partitions)
    worker.start()
    worker.wait_ready()
    return _rate(bench, crash, worker, crash.keys, crash.burst_words)


def _probe(bench: Bench, crash: Crash, inputs: list[str], worker: Worker, burst: float) -> float:
    """The worker's greatest rate, in outputs a second, while it is fed and read.

    The burst was written before and has no readers, so its worker had the machine for itself.
    """
    rate = max(1, int(burst / WORDS_PER_SENTENCE))
    load = Load(crash.case, inputs, rate, PROBE_S, crash.keys, crash.partitions)
    before = bench.end_offsets(bench.output, crash.partitions)
    outside = Outside(bench.bootstrap, load, bench.output)
    try:
        outside.start()
        words = int(rate * PROBE_S) * WORDS_PER_SENTENCE
        return _rate(bench, crash, worker, before, words)
    finally:
        outside.close()


def _sustained(bench: Bench, crash: Crash, inputs: list[str], worker: Worker, most: float) -> float:
    """Outputs a second up to which the readers keep up with the feeder.

    This is less than the rate at which the worker processes a backlog, in large batches.
    """
    rate = most
    while rate > LEAST_SHARE * most:
        sentences = max(1, int(rate / WORDS_PER_SENTENCE))
        load = Load(crash.case, inputs, sentences, PROBE_S, crash.keys, crash.partitions)
        outside = Outside(bench.bootstrap, load, bench.output)
        behind_ms: list[float] = []
        try:
            outside.start()
            deadline = time.monotonic() + PROGRESS_S_MAX
            while outside.is_feeding:
                worker.check(time.monotonic() < deadline, "was not fed in time")
                time.sleep(SAMPLE_S)
                behind_ms.append((time.time_ns() - outside.newest()) / 1e6)
            outside.wait_fed()
            _settle(bench, crash, worker)
        finally:
            outside.close()
        if statistics.median(behind_ms[len(behind_ms) // 2 :]) < BEHIND_MS_MAX:
            break
        rate *= SLOWER
    return rate


def _settle(bench: Bench, crash: Crash, worker: Worker) -> None:
    """Wait until there are no more outputs."""
    seen, deadline = -1, time.monotonic() + PROGRESS_S_MAX
    while (end := bench.end_offsets(bench.output, crash.partitions)) != seen:
        seen = end
        worker.check(time.monotonic() < deadline, "its output does not end")
        time.sleep(0.5)


def _rate(bench: Bench, crash: Crash, worker: Worker, before: int, words: int) -> float:
    """Outputs a second while so many words are counted, after so many earlier outputs."""
    first, last = (before + words * share for share in MEASURED)
    samples = [(time.monotonic(), before)]
    deadline = time.monotonic() + PROGRESS_S_MAX
    while samples[-1][1] < before + words:
        end = bench.end_offsets(bench.output, crash.partitions)
        samples.append((time.monotonic(), end))
        worker.check(time.monotonic() < deadline, f"made {end - before} of {words} outputs")
        time.sleep(SAMPLE_S)
    return _rate_between(samples, first, last)


def _rate_between(samples: list[tuple[float, int]], first: float, last: float) -> float:
    """Outputs a second from the sample that reached the one number to that of the other.

    Args:
        samples: seconds and outputs until then, in order; the last one reached `last`.
        first: outputs, which a sample before that may have reached already.
        last: outputs.
    """
    begin, end = (next(s for s in samples if s[1] >= number) for number in (first, last))
    if begin is end:
        # A small burst is over within one sample: then the rate is taken from the beginning.
        begin = samples[0]
    return (end[1] - begin[1]) / (end[0] - begin[0])


def _crash(crash: Crash, worker: Worker, outside: Outside, state_dir: Path) -> dict[str, Any]:
    # Anywhere between two checkpoints, but the same for the same case.
    more_s = random.Random(str(crash)).random() * crash.interval_ms / 1000
    worker.wait_standby()
    outside.start()
    is_steady = _is_caught_up(worker, outside, 0)
    time.sleep(crash.steady_s + more_s)
    (process, *_) = worker.children()
    cpu_s, since = worker.cpu_s(process), time.monotonic()
    time.sleep(1.0)
    cpu_percent = (worker.cpu_s(process) - cpu_s) * 100 / (time.monotonic() - since)
    logged = worker.log.stat().st_size
    if crash.disk == "lost":
        # Before the kill, since nothing comes between that and the next process.
        state_dir.rename(state_dir.with_name(f"{state_dir.name}-lost"))
    killed = worker.crash()
    wait_live(worker, logged, crash.partitions)
    _is_caught_up(worker, outside, killed)
    time.sleep(AFTER_S)
    outside.stop_feeding()
    outside.wait_fed()
    time.sleep(0.5)
    seen = outside.finish()
    result: dict[str, Any] = {
        "kill_after_s": crash.steady_s + 1 + more_s,
        "worker_cpu_percent": cpu_percent,
        "is_steady": is_steady,
        **_logged_phases(worker.log, logged, killed),
    }
    for isolation, view in seen.items():
        result[isolation] = _seen(view, killed)
    result["timeline"] = {"bin_ms": BIN_MS, **{i: timeline(v, killed) for i, v in seen.items()}}
    return result


def _is_caught_up(worker: Worker, outside: Outside, since: int) -> bool:
    """Wait until the readers see at once what was due after `since` (Unix nanoseconds).

    Returns:
        Whether they did within the deadline: one that does not is a result as well.
    """
    deadline = time.monotonic() + PROGRESS_S_MAX
    while time.monotonic() < deadline:
        behind_ms = (time.time_ns() - outside.newest()) / 1e6
        if outside.newest() > since and behind_ms < CAUGHT_UP_MS:
            return True
        worker.check(True, "")
        time.sleep(SAMPLE_S)
    return False


def wait_live(worker: Worker, logged: int, groups: int) -> None:
    """Wait until so many task groups are live again, by the log after position `logged`."""
    deadline = time.monotonic() + PROGRESS_S_MAX
    while len(_live(log_lines(worker.log, logged))) < groups:
        worker.check(time.monotonic() < deadline, f"not live within {PROGRESS_S_MAX:g} s")
        time.sleep(SAMPLE_S)


def _live(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == "task group live"]


def _logged_phases(path: Path, start: int, killed: int) -> dict[str, Any]:
    """The recovery in the log: times by phase, of the group that was live last."""
    lines = list(log_lines(path, start))
    live = _live(lines)
    restarted = next(line for line in lines if line["event"].startswith("worker ended"))
    began = [_at(line) for line in lines if line["event"] == "replaying"]
    replayed = sum(line["replayed"] for line in live)
    last = max(live, key=_at)
    replay_s = _at(last) - min(began) if began else 0.0
    return {
        "restarted_ms": (_at(restarted) - killed / 1e9) * 1000,
        "ready_ms": (_at(last) - killed / 1e9) * 1000,
        "replayed": replayed,
        "suppressed": sum(line["suppressed"] for line in live),
        "replay_per_s": replayed / replay_s if replay_s else None,
        "live_s": last["seconds"],
        "phases_ms": {phase: last.get(f"{phase}_ms", 0) for phase in PHASES},
    }


def log_lines(path: Path, start: int = 0) -> Iterator[dict[str, Any]]:
    """Events of a worker's log, from a position of the file on."""
    for line in path.read_bytes()[start:].splitlines():
        # Python itself and the client's library write plain text.
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def _at(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()


def _seen(view: View, killed: int) -> dict[str, Any]:
    """What one reader saw: before, the first new output, how long the lag took to drain."""
    late = [((mark.due - killed) / 1e6, (mark.read - mark.due) / 1e6) for mark in view.marks]
    before = percentiles([ms for due, ms in late if due < 0 and due + ms < 0])
    after = [(due, due + ms) for due, ms in late if due >= 0]
    usual = max(CAUGHT_UP_MS, before.get("p99_ms", 0.0))
    return {
        "before": before,
        "first_output_ms": min((read for _, read in after), default=None),
        "drained_ms": next((read for due, read in after if read - due <= usual), None),
        "peak_ms": max((ms for due, ms in late if due + ms >= 0), default=None),
    }


def timeline(view: View, zero: int) -> dict[str, Any]:
    """What a picture needs, in ms since `zero` (Unix nanoseconds)."""
    return {
        "records": {
            str(p): sorted((round(n * BIN_MS - zero / 1e6, 1), count) for n, count in bins.items())
            for p, bins in view.counts.items()
        },
        "latency": [
            (round((m.due - zero) / 1e6, 1), round((m.read - m.due) / 1e6, 1), m.partition)
            for m in view.marks
        ],
    }
