"""Kafka Streams' answers: `python -m tests.differential.make_answers` (needs Java 17 and Maven).

Without options it writes `answers/` anew. `--tries 5000 --seed 1000000` asks about other random
cases instead, says by which rules the answers differ from the model's, and fails if kstash says
anything else than the model, or if none explains an answer: with those, which it prints.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import structlog

from tests.differential.cases import Case, random_case
from tests.differential.comparing import agree, modelled, rules_of
from tests.differential.driving import made
from tests.differential.reference import Chain
from tests.differential.sentences import by_hand

HERE = Path(__file__).parent
ANSWERS = HERE / "answers"
JUDGE = HERE / "judge"
RANDOM_CASES = 300


def answers_to(cases: list[Case]) -> list[dict[str, Any]]:
    """What Kafka Streams says to each case."""
    jar = JUDGE / "target/judge.jar"
    sources = [JUDGE / "pom.xml", *JUDGE.glob("src/**/*.java")]
    if not jar.exists() or jar.stat().st_mtime < max(path.stat().st_mtime for path in sources):
        subprocess.run(["mvn", "-q", "-B", "package"], cwd=JUDGE, check=True)
    classes = os.pathsep.join([str(jar), str(JUDGE / "target/lib/*")])
    asked = "".join(json.dumps(case) + "\n" for case in cases)
    # A short run on a shared machine: no time for the better compiler.
    cheap = ["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    command = ["java", *cheap, "-cp", classes, "judge.Judge"]
    done = subprocess.run(command, input=asked, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


UNEXPLAINED = "no rule explains it"


def judged(case: Case, answer: dict[str, Any]) -> tuple[Case, tuple[str, ...]]:
    """The case with its answer, marked where the model says something else, and by which rules."""
    if agree(case, answer, Chain(case["ops"])):
        return case | answer, ()
    found = rules_of(case, answer) or [(UNEXPLAINED,)]
    return case | answer | {"differs": found[0][0]}, found[0]


def write(name: str, cases: list[Case]) -> None:
    """One line for each case."""
    lines = (json.dumps(case, separators=(",", ":"), ensure_ascii=False) for case in cases)
    (ANSWERS / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def make() -> None:
    """Writes `answers/`: the first random cases to which at most one rule says something else."""
    hand = by_hand()
    drawn = [random_case(seed) for seed in range(RANDOM_CASES * 5 // 4)]
    answers = answers_to([*hand, *drawn])
    of_hand = [judged(case, answer) for case, answer in zip(hand, answers, strict=False)]
    for case, rules in of_hand:
        if len(rules) > 1:
            sys.exit(f"{case['name']} shows several differences: {rules}")
    drawn_ones = [judged(c, a) for c, a in zip(drawn, answers[len(hand) :], strict=True)]
    for case, rules in [*of_hand, *drawn_ones]:
        if UNEXPLAINED in rules:
            sys.exit(f"{UNEXPLAINED}: {json.dumps(case)}")
    single = [case for case, rules in drawn_ones if len(rules) < 2]
    write("sentences.jsonl", [case for case, _ in of_hand])
    write("random.jsonl", single[:RANDOM_CASES])


def attempt(tries: int, seed: int) -> None:
    """Other random cases, and how often which rules explain an answer; kstash is asked too."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    cases = [random_case(number) for number in range(seed, seed + tries)]
    for case in cases:
        if made(case) != modelled(case):
            sys.exit(f"kstash says {made(case)} to {json.dumps(case)}, the model {modelled(case)}")
    answered = [judged(c, a) for c, a in zip(cases, answers_to(cases), strict=True)]
    counted = Counter(" and ".join(rules) or "the same" for _, rules in answered)
    for explained, times in counted.most_common():
        print(f"{times:7} {explained}")
    if UNEXPLAINED in counted:
        sys.exit("\n".join(json.dumps(case) for case, rules in answered if UNEXPLAINED in rules))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=0, help="ask only, about so many random cases")
    parser.add_argument("--seed", type=int, default=1_000_000, help="the first of them")
    options = parser.parse_args()
    if options.tries:
        attempt(options.tries, options.seed)
    else:
        make()


if __name__ == "__main__":
    main()
