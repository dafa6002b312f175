"""`python -m tests.simulation --seeds N --start S`: a range of seeds, or the mutants."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.runner import kill_all, run_many, table


def main() -> int:
    """Run what the command line asks for; exit code 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20_000, help="how many seeds")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=None, help="all cores when left out")
    parser.add_argument("--mutants", action="store_true", help="remove each rule in turn instead")
    parser.add_argument("--runs", type=int, default=3_000, help="runs of a mutant at most")
    arguments = parser.parse_args()
    if arguments.mutants:
        kills = kill_all(runs_max=arguments.runs, enough=3, processes=arguments.processes)
        print(table(kills))
        return int(any(not k.found for k in kills))
    started, failed = time.monotonic(), 0
    for failures in run_many(arguments.start, arguments.seeds, arguments.processes):
        for failure in failures:
            failed += 1
            print(failure, flush=True)
    seconds = time.monotonic() - started
    print(f"{arguments.seeds} seeds, {failed} violations, {seconds:.1f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
