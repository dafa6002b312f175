"""The model of windows against Kafka Streams' own answers, case by case."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.differential.cases import Case, random_case
from tests.differential.comparing import agree, ordered, said
from tests.differential.kafka_rules import RULES, kafka_chain
from tests.differential.reference import Chain
from tests.differential.sentences import by_hand

HERE = Path(__file__).parent


def answered(name: str) -> list[dict[str, Any]]:
    """Cases with their answers, from `answers/`."""
    text = (HERE / "answers" / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


SENTENCES = answered("sentences.jsonl")
RANDOM = answered("random.jsonl")
MARKED = [case for case in SENTENCES + RANDOM if "differs" in case]


def name_of(case: Case) -> str:
    """A case's name, for test ids."""
    return str(case["name"])


def same_or_marked(case: dict[str, Any]) -> None:
    """The model says what Kafka Streams said, unless the case is marked."""
    if "differs" in case:
        assert not agree(case, case, Chain(case["ops"])), "there is no difference any more"
    else:
        expected = ordered(case, case["out"]), case["dropped"]
        assert said(Chain(case["ops"]), case) == expected


@pytest.mark.parametrize("case", SENTENCES, ids=name_of)
def test_each_sentence(case: dict[str, Any]) -> None:
    """What the sentence in the case's name says is what Kafka Streams does, or it is marked."""
    same_or_marked(case)


@pytest.mark.parametrize("case", RANDOM, ids=name_of)
def test_random_cases(case: dict[str, Any]) -> None:
    """Outputs and dropped records are Kafka Streams', record by record, or the case is marked."""
    same_or_marked(case)


@pytest.mark.parametrize("case", MARKED, ids=name_of)
def test_each_difference_is_one_rule(case: dict[str, Any]) -> None:
    """With the one rule of Kafka Streams that the mark names the model gives its answer."""
    expected = ordered(case, case["out"]), case["dropped"]
    assert said(kafka_chain(case["ops"], [case["differs"]]), case) == expected


def test_each_difference_is_shown_and_explained() -> None:
    """Each rule has a case made by hand that shows it, and a section in `differences.md`."""
    assert {case["differs"] for case in SENTENCES if "differs" in case} == set(RULES)
    lines = (HERE / "differences.md").read_text(encoding="utf-8").splitlines()
    titles = [line.removeprefix("### ") for line in lines if line.startswith("### ")]
    assert sorted(titles) == sorted(RULES)


def test_the_answers_are_to_these_cases() -> None:
    """Who changes a case makes the answers anew: `python -m tests.differential.make_answers`."""
    asked = [{key: case[key] for key in ("name", "ops", "in")} for case in SENTENCES + RANDOM]
    seeds = [int(case["name"].removeprefix("random-")) for case in RANDOM]
    assert asked == by_hand() + [random_case(seed) for seed in seeds]


def test_the_cases_reach_everything() -> None:
    """Each kind with each fold and emission, chains, nulls, and records that are dropped."""
    single = Counter(
        (operator["window"], operator["fold"], operator["emit"])
        for case in RANDOM
        for operator in case["ops"]
    )
    assert len(single) == 4 * 6 * 2
    assert sum(len(case["ops"]) == 2 for case in RANDOM) > 50
    assert sum(any(row[1] is None for row in case["in"]) for case in RANDOM) > 20
    assert sum(any(case["dropped"]) for case in RANDOM) > 100
    assert sum("differs" not in case for case in RANDOM) > len(RANDOM) / 2
