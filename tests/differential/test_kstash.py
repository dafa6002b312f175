"""kstash's windows against the answers of Kafka Streams, or the model's where they differ."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.differential.cases import random_case
from tests.differential.comparing import counted, modelled, ordered
from tests.differential.driving import made
from tests.differential.test_reference import RANDOM, SENTENCES, name_of

CASES = SENTENCES + RANDOM


def expected(case: dict[str, Any]) -> tuple[list[Any], list[int]]:
    """The answer that is right: Kafka Streams', unless the case is marked.

    A timestamp of 0 means now to a Kafka client, and becomes 1: the model is asked about that one.
    """
    if "differs" not in case and not any(record[2] == 0 for record in case["in"]):
        return ordered(case, case["out"]), counted(case, case["dropped"])
    return modelled(case)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_each_case(case: dict[str, Any]) -> None:
    """Record by record: what leaves, in which order, and what is dropped."""
    assert made(case) == expected(case)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_each_case_with_a_crash_after_each_input(case: dict[str, Any]) -> None:
    """The same leaves, once: state, time, and the order of closing are what they were before."""
    assert made(case, crashes=True)[0] == expected(case)[0]


@given(seed=st.integers(10**6, 10**9), crashes=st.booleans(), in_stage=st.booleans())
def test_cases_that_nobody_has_seen(seed: int, crashes: bool, in_stage: bool) -> None:
    """Of any other case, too, kstash says what the model says; of chains in a stage as well."""
    case = random_case(seed)
    if in_stage and case["ops"][-1].get("key") == "same":
        case["ops"][-1]["between"] = "stage"
    outputs, dropped = made(case, crashes=crashes)
    assert outputs == modelled(case)[0]
    assert crashes or dropped == modelled(case)[1]
