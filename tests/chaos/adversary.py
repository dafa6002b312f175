"""An adversary: towers of rolling hashes, hurt where it hurts most, for as long as wanted.

    python -m tests.chaos.adversary --minutes 60 [--seed N] [--only moves] [--rounds R]

Each round has a seed of its own, from which everything is drawn: the shape of the application, what
is done to it, and when. A violation prints the command that repeats the round's choices (the
machine's timing it cannot repeat), and leaves all topics and logs. The table comes last, and
the exit code is 1 when there was a violation.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from tests.chaos.acts import SCENARIOS
from tests.chaos.bounded_round import BoundedRound
from tests.chaos.cluster import Cluster, running_cluster
from tests.chaos.harness import Chaos, choose_seed
from tests.chaos.reset_round import ResetRound
from tests.chaos.rounds import Round
from tests.chaos.tower import Shape, draw_shape

ROUNDS_PER_BROKER = 8
KINDS: dict[str, type[Round]] = {"bounded": BoundedRound, "reset": ResetRound}


@dataclass(slots=True)
class Tally:
    """What came of the rounds so far, by scenario."""

    rounds: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    kills: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    violations: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    vacancy_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    acts: Counter[str] = field(default_factory=Counter)

    def add(self, run: Round) -> None:
        """Count one round."""
        name = run.scenario
        self.rounds[name] += 1
        self.kills[name] += run.chaos.kills
        self.violations[name] += len(run.violations)
        self.vacancy_s[name] = max(self.vacancy_s[name], run.longest_vacancy_s)
        self.acts += run.acts

    def text(self) -> str:
        """A table."""
        rows = ["| round | times | kills | violations | longest time without an owner, s |"]
        rows.append("|---|---:|---:|---:|---:|")
        for name in sorted(self.rounds):
            rows.append(
                f"| {name} | {self.rounds[name]} | {self.kills[name]} | {self.violations[name]} "
                f"| {self.vacancy_s[name]:.1f} |"
            )
        return "\n".join([*rows, "", f"acts: {_listed(self.acts)}"])


def play(
    cluster: Cluster,
    folder: Path,
    seed: int,
    scenario: str = "",
    change: Callable[[Shape], Shape] | None = None,
) -> Round:
    """Draw one round from a seed and play it to its end; none of its processes is left.

    Args:
        cluster: one broker, with lanes.
        folder: for logs and state.
        seed: of every choice.
        scenario: a name in `SCENARIOS`; empty: the seed draws one.
        change: may fix a part of the drawn shape.
    """
    chaos = Chaos(cluster.bootstrap, folder, seed)
    drawn = chaos.random.choice(sorted(SCENARIOS))
    shape = draw_shape(chaos.random)
    shape = change(shape) if change is not None else shape
    name = scenario or drawn
    run = KINDS.get(name, Round)(chaos, cluster, name, shape)
    chaos.note(f"{name}: {run.tower.application_id} {shape}")
    try:
        run.run()
    except Exception as error:
        # A check or a client that gave up: the next rounds are to be played in spite of it.
        run.stage.violate(f"the round: {type(error).__name__}: {error}")
    finally:
        for worker in chaos.workers:
            worker.kill()
        run.close()
    if run.violations:
        run.dump()
    else:
        run.delete_topics()
    return run


def main(
    minutes: Annotated[float, typer.Option(min=0, help="How long; 0: as many as rounds.")] = 0,
    rounds: Annotated[int, typer.Option(min=0, help="How many at most; 0: any number.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the first round; 0: any.")] = 0,
    only: Annotated[str, typer.Option(help=f"One of {', '.join(SCENARIOS)}.")] = "",
    folder: Annotated[Path | None, typer.Option(help="For logs, state and dumps.")] = None,
) -> None:
    """Play rounds and print the table."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no process is to outlive this one
    base = folder or Path(tempfile.mkdtemp(prefix="kstash-adversary-"))
    assert not only or only in SCENARIOS, f"no such kind of round: {only}"
    first = seed or choose_seed()
    wanted = rounds or (10**9 if minutes else 1)
    end = time.monotonic() + minutes * 60 if minutes else float("inf")
    tally, number = Tally(), 0
    try:
        while number < wanted and time.monotonic() < end:
            with running_cluster(1) as cluster:
                for _ in range(ROUNDS_PER_BROKER):
                    if number >= wanted or time.monotonic() >= end:
                        break
                    _play_and_tell(cluster, base, first + number, only, tally)
                    number += 1
    finally:
        print(tally.text(), flush=True)
    if any(tally.violations.values()):
        raise typer.Exit(1)


def _listed(acts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(acts.items()))


def _play_and_tell(cluster: Cluster, base: Path, seed: int, only: str, tally: Tally) -> None:
    place = base / str(seed)
    place.mkdir(parents=True)
    repeat = f"python -m tests.chaos.adversary --rounds 1 --seed {seed}"
    repeat += f" --only {only}" if only else ""
    start = time.monotonic()
    run = play(cluster, place, seed, only)
    tally.add(run)
    seconds = time.monotonic() - start
    print(
        f"seed {seed} {run.scenario}: {len(run.violations)} violations, {run.chaos.kills} kills, "
        f"{seconds:.0f} s, {run.longest_vacancy_s:.1f} s without an owner at most; "
        f"{run.tower.shape}; {_listed(run.acts)}",
        flush=True,
    )
    if run.violations:
        print("\n".join(run.violations))
        print(f"repeat: {repeat}\ndump: {place}", flush=True)
    else:
        shutil.rmtree(place)


if __name__ == "__main__":
    typer.run(main)
