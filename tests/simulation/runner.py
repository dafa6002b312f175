"""Many seeds over both cores, and the table of mutants."""

from __future__ import annotations

import gc
import os
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from tests.simulation.mutant import Mutant
from tests.simulation.mutants import MUTANTS
from tests.simulation.schedule import Result, run_seed

CHUNK = 250
"""Seeds that a process takes at once."""

REFUSED = "refused"

CRASHED = "crashed"
"""An error that is no refusal of the system: a bug, of the core or of the simulator."""


@dataclass(frozen=True)
class Failure:
    """A seed whose run went wrong."""

    seed: int
    invariant: str
    text: str

    def __str__(self) -> str:
        command = f"python -m tests.simulation --start {self.seed} --seeds 1"
        return f"seed {self.seed}: {self.text}\nto repeat: {command}"


def run_guarded(seed: int, mutant: Mutant | None = None) -> tuple[str, str]:
    """Run one seed; returns (invariant or "", what happened)."""
    try:
        if mutant is None:
            result: Result = run_seed(seed)
        else:
            with mutant.applied() as mutations:
                result = run_seed(seed, mutations, shape=mutant.shape)
    except Exception:  # any error is a finding, named with its seed
        return CRASHED, traceback.format_exc()
    if mutant is not None and mutant.is_refused and result.invariant == REFUSED:
        return "", result.text
    return result.invariant, result.text


def run_range(start: int, end: int) -> list[Failure]:
    """Run the seeds `[start, end)` in this process."""
    failures = []
    for seed in range(start, end):
        invariant, text = run_guarded(seed)
        if invariant:
            failures.append(Failure(seed, invariant, text))
    return failures


def pool_of(processes: int | None) -> ProcessPoolExecutor:
    """Processes that run worlds: as many as there are cores, unless said otherwise."""
    return ProcessPoolExecutor(processes or os.cpu_count(), initializer=_collect_rarely)


def _collect_rarely() -> None:
    """A world is small and short-lived: what is there before it is not looked through for each."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


def run_many(start: int, count: int, processes: int | None = None) -> Iterator[list[Failure]]:
    """Run `count` seeds spread over processes; yields the failures of each chunk as it ends."""
    with pool_of(processes) as pool:
        starts = range(start, start + count, CHUNK)
        ends = [min(first + CHUNK, start + count) for first in starts]
        yield from pool.map(run_range, starts, ends)


@dataclass(frozen=True)
class Kill:
    """How often one mutant was found out.

    A run that `crashed` counts as not found: the patch itself may be at fault.
    """

    hole: str
    rule: str
    runs: int
    found: int
    crashed: int
    invariants: str
    first_seed: int | None


def kill(index: int, *, runs_max: int, enough: int) -> Kill:
    """Run a mutant until it was found out `enough` times, or `runs_max` runs are over."""
    mutant = MUTANTS[index]
    found: Counter[str] = Counter()
    first: int | None = None
    runs = crashed = 0
    for seed in (*mutant.seeds, *range(runs_max)):
        runs += 1
        invariant, _ = run_guarded(seed, mutant)
        crashed += invariant == CRASHED
        if invariant and invariant != CRASHED:
            found[invariant] += 1
            first = seed if first is None else first
            if found.total() >= enough:
                break
    names = ", ".join(f"{name} {count}" for name, count in sorted(found.items()))
    return Kill(mutant.hole, mutant.rule, runs, found.total(), crashed, names, first)


def kill_all(*, runs_max: int, enough: int, processes: int | None = None) -> list[Kill]:
    """Run all mutants, spread over processes."""
    with pool_of(processes) as pool:
        jobs = [
            pool.submit(kill, index, runs_max=runs_max, enough=enough)
            for index in range(len(MUTANTS))
        ]
        return [job.result() for job in jobs]


def table(kills: list[Kill]) -> str:
    """Format the table: rule removed, violations found, crashes, in how many runs."""
    lines = [
        "| hole | rule removed | found | crashed | runs | by | first seed |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {k.hole} | {k.rule} | {k.found} | {k.crashed} | {k.runs} | {k.invariants} "
        f"| {k.first_seed} |"
        for k in kills
    ]
    return "\n".join(lines)
