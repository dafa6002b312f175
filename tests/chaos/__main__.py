"""Storms for as many rounds as wanted: every kind of fault, in any order, for each application.

    python -m tests.chaos --rounds 10 [--only both_deliveries] [--kinds kill,wipe] [--folder DIR]

Each round has a seed of its own, which it prints; `KSTASH_CHAOS_SEED` gives that of the first one.
A round with a violation prints its story, and its logs and state folders are kept. The table comes
last, and the exit code is 1 when there was a violation.
"""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tests.chaos.cluster import running_cluster
from tests.chaos.faults import KINDS
from tests.chaos.harness import SEED_VARIABLE, choose_seed
from tests.chaos.storm import storm
from tests.chaos.subjects import SUBJECTS
from tests.chaos.table import Table


def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each application.")] = 1,
    only: Annotated[str, typer.Option(help="Name of one application.")] = "",
    kinds: Annotated[str, typer.Option(help=f"Of {', '.join(KINDS)}; default: all.")] = "",
    folder: Annotated[Path | None, typer.Option(help="For logs and state.")] = None,
) -> None:
    """Run storms and print the table."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no process is to outlive this one
    base = folder or Path(tempfile.mkdtemp(prefix="kstash-chaos-"))
    wanted = kinds.split(",") if kinds else sorted(KINDS)
    subjects = [subject for subject in SUBJECTS if only in ("", subject.name)]
    assert subjects, f"no such application: {only}"
    first, failures, table = choose_seed(), 0, Table()
    with running_cluster() as cluster:
        for seed in range(first, first + rounds):
            for subject in subjects:
                deck = list(wanted)
                random.Random(seed).shuffle(deck)
                place = base / f"{seed}-{subject.name}"
                place.mkdir(parents=True)
                command = f"{SEED_VARIABLE}={seed} python -m tests.chaos --only {subject.name}"
                print(f"--- {command} --kinds {','.join(wanted)}", flush=True)
                try:
                    storm(cluster, place, subject, deck, table, seed=seed)
                    shutil.rmtree(place)
                except AssertionError as error:
                    failures += 1
                    print(f"VIOLATION; logs are in {place}\n{error}", flush=True)
    print(table.text())
    if failures:
        print(f"{failures} of {rounds * len(subjects)} runs with violations")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
