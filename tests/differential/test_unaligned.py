"""Sessions and sliding windows of kstash against the model, case by case, with and without crashes.

What the model says is judged by Kafka Streams: see `test_reference.py`.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.differential.driving import said, shifted
from tests.differential.reference import Chain
from tests.differential.test_reference import RANDOM, SENTENCES, name_of

KINDS = {"session", "sliding"}


def of_these(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cases with such windows, and none that kstash cannot be asked."""
    return [
        shifted(case)
        for case in cases
        if KINDS & {spec["window"] for spec in case["ops"]}
        and not any(spec.get("between") == "stage" for spec in case["ops"])
    ]


@pytest.mark.parametrize("case", of_these(SENTENCES + RANDOM), ids=name_of)
def test_each_case(case: dict[str, Any]) -> None:
    """Record by record, what leaves is what the model says, in its order."""
    assert said(case, crashes=False) == modelled(case)


@pytest.mark.parametrize("case", of_these(SENTENCES + RANDOM[:50]), ids=name_of)
def test_each_case_with_a_crash_after_each_record(case: dict[str, Any]) -> None:
    """State, time, and the order of closing are what they were before."""
    assert said(case, crashes=True) == modelled(case)


def modelled(case: dict[str, Any]) -> list[Any]:
    """What the model says."""
    chain = Chain(case["ops"])
    return [
        [] if record == "restart" else [list(result[:5]) for result in chain.take(*record)]
        for record in case["in"]
    ]
