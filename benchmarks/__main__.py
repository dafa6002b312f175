"""`python -m benchmarks`: the guarantees side by side, recovery, checkpoints; on a real Kafka."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import (
    checkpoints,
    hops,
    latency,
    others,
    partitions,
    peers,
    picture,
    recovery,
    throughput,
    workload,
)
from benchmarks.bench import Bench
from benchmarks.case import BARE, GUARANTEES, WINDOWED, Case
from benchmarks.machine import REPOSITORY, machine
from benchmarks.report import Results
from benchmarks.worker import BenchError

WORD_COUNT = [Case("word count", guarantee) for guarantee in (*GUARANTEES, BARE)]
WINDOWS = [Case(program, "exactly_once") for program in WINDOWED]
ROLLING_HASH = [
    *(Case("rolling hash", g, ms) for ms in (0, 5, 50) for g in ("exactly_once", "write_first")),
    *(Case("rolling hash", g) for g in ("at_least_once", "none")),
]
KINDS = ("throughput", "latency", "recovery", "checkpoints", "hops", "partitions")
PEERS = "peers"
"""Kafka Streams beside kstash: on demand only, since its program has to be built."""

SWEEP_WORDS, SWEEP_WORDS_FULL = 5_000_000, 20_000_000
"""Enough for a checkpoint interval of 10 s, and of 30 s."""

WARM_UP_S = 8.0
"""Seconds of load, twice, before the first figure: the broker's JVM compiles what it runs often."""

PRELOADED_PER_S = {
    "word count": 20_000,
    **dict.fromkeys(WINDOWED, 10_000),
    "rolling hash": 50_000,
}
"""Input records preloaded for each second that a run should take, on a machine of this year."""


def main() -> None:
    """Measure, print tables, write JSON."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no worker is to outlive this one
    # Wide enough for the tables, also when the output goes to a file.
    console = Console(width=None if sys.stdout.isatty() else 130)
    results = Results()
    failed = False
    with Bench() as bench:
        about = machine(is_pinned=bench.is_pinned)
        if not bench.is_pinned:
            console.print("the worker has no core of its own here: compare with care")
        console.print("  ".join(f"{name} {value}" for name, value in about.items()))
        cases = [c for c in [*WORD_COUNT, *WINDOWS, *ROLLING_HASH] if _is_wanted(c, options.case)]

        def save() -> None:
            settings = {"seconds": options.seconds, "rounds": options.rounds}
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(results.as_json(about, settings)) + "\n")

        try:
            _measure(bench, cases, options, results, console, save)
        except (KeyboardInterrupt, BenchError) as error:
            # The results until then are shown all the same.
            console.print(f"stopped: {error!s}", markup=False)
            failed = True
    if not results.runs:
        console.print(f"no case begins with any of {options.case}", markup=False)
        failed = True
    results.show(console)
    save()
    console.print(f"written to {options.json}")
    if "recovery" in results.runs:
        _draw(results, options.picture, console)
    sys.exit(failed or results.has_failures)


def _draw(results: Results, path: Path, console: Console) -> None:
    wanted = {recovery.Crash(100_000), recovery.Crash(100_000, "lost")}
    runs = [
        (str(case), rounds[0]["timeline"]["read_uncommitted"])
        for case, rounds in results.runs["recovery"].items()
        if (case in wanted or len(results.runs["recovery"]) == 1) and "error" not in rounds[0]
    ]
    apart = next(iter(results.runs.get("others", {}).values()), None)
    try:
        picture.draw(runs, apart[0] if apart else None, path)
    except ImportError:
        console.print("no picture: it needs matplotlib, which kstash\\[bench] brings")
    else:
        console.print(f"drawn to {path}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="3 rounds of 20 s: about an hour")
    parser.add_argument("--seconds", type=float, help="measured in each run, about (5)")
    parser.add_argument("--rounds", type=int, help="of all cases in turn (1)")
    parser.add_argument(
        "--only",
        action="append",
        choices=(*KINDS, PEERS),
        help="kind of measurement; may be repeated (all)",
    )
    parser.add_argument(
        "--case",
        action="append",
        metavar="TEXT",
        help="cases whose name starts so, as in `word count, none`; may be repeated (all)",
    )
    parser.add_argument(
        "--picture",
        type=Path,
        default=REPOSITORY / "benchmarks/results/recovery.svg",
        help="of throughput and latency around a kill",
    )
    parser.add_argument("--json", type=Path, default=REPOSITORY / "benchmarks/results/latest.json")
    options = parser.parse_args()
    options.seconds = options.seconds or (20.0 if options.full else 5.0)
    options.rounds = options.rounds or (3 if options.full else 1)
    options.only = options.only or list(KINDS)
    return options


def _is_wanted(case: object, wanted: list[str] | None) -> bool:
    return wanted is None or any(str(case).startswith(text) for text in wanted)


def _measure(
    bench: Bench,
    cases: list[Case],
    options: argparse.Namespace,
    results: Results,
    console: Console,
    save: Callable[[], None],
) -> None:
    inputs: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    beside = [case for case in peers.CASES if _is_wanted(case, options.case)]
    beside = beside if PEERS in options.only else []
    for program in dict.fromkeys(case.program for case in [*cases, *beside]):
        case = next(c for c in [*cases, *beside] if c.program == program)
        inputs[program] = [f"preloaded-{program.replace(' ', '-')}-{name}" for name in case.inputs]
        counts[program] = int(PRELOADED_PER_S[program] * options.seconds)
        if "throughput" in options.only or beside:
            bench.create_topics(inputs[program])
            workload.preload(bench.bootstrap, case, inputs[program], counts[program])
    console.print("warming the broker up", highlight=False)
    for case in (Case("word count", "exactly_once"), Case("word count", "none")):
        latency.measure(bench, case, WARM_UP_S)
    for number in range(options.rounds):

        def keep(kind: str, case: object, run: dict[str, Any], n: int = number) -> None:
            results.add(kind, case, n, run)
            save()  # a run that ends early has lost nothing
            console.print(f"round {n + 1}  {kind}  {case}  {_short(run)}", highlight=False)

        for case in cases:
            # The order turns around, so that a slow drift of the machine favours nobody.
            case = cases[-1 - cases.index(case)] if number % 2 else case
            if "throughput" in options.only:
                program = case.program
                run = throughput.measure(bench, case, inputs[program], counts[program])
                keep("throughput", case, run)
            if "latency" in options.only and case.program not in WINDOWED:
                keep("latency", case, latency.measure(bench, case, options.seconds))
        for case in reversed(beside) if number % 2 else beside:
            run = throughput.measure(bench, case, inputs[case.program], counts[case.program])
            keep(PEERS, case, run)
        if "recovery" in options.only:
            for crash in recovery.FULL if options.full else recovery.SHORT:
                if _is_wanted(crash, options.case):
                    keep("recovery", crash, _crash(bench, crash))
            if _is_wanted("others", options.case):
                keep("others", "rolling hash, two workers", others.measure(bench))
        if "hops" in options.only:
            for pipeline in hops.PIPELINES:
                if _is_wanted(pipeline, options.case):
                    keep("hops", pipeline, hops.measure(bench, pipeline, options.seconds))
        if "partitions" in options.only:
            for spread in partitions.SPREADS:
                if _is_wanted(spread, options.case):
                    keep("partitions", spread, partitions.measure(bench, spread, options.seconds))
        if "checkpoints" in options.only:
            _measure_checkpoints(bench, options, keep)


def _crash(bench: Bench, crash: recovery.Crash) -> dict[str, Any]:
    """One case; a failure is its result, and the others are measured all the same."""
    try:
        return recovery.measure(bench, crash)
    except BenchError as error:
        return {"error": str(error)}


def _measure_checkpoints(bench: Bench, options: argparse.Namespace, keep: Any) -> None:
    words = SWEEP_WORDS_FULL if options.full else SWEEP_WORDS
    topic = f"preloaded-words-{time.time_ns()}"
    checkpoints.preload(bench, topic, words)
    for interval_ms in (checkpoints.NEVER_MS, *checkpoints.INTERVALS_MS):
        name = f"every {interval_ms / 1000:g} s" if interval_ms < checkpoints.NEVER_MS else "never"
        keep("checkpoints", name, checkpoints.measure(bench, topic, words, interval_ms))
    bench.delete_topics(topic)


def _short(run: dict[str, Any]) -> str:
    run = {name: value for name, value in run.items() if name != "timeline"}
    return json.dumps(json.loads(json.dumps(run), parse_float=lambda text: round(float(text), 2)))


if __name__ == "__main__":
    main()
