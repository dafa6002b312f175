"""kstash's windows against the answers of Kafka Streams, or the model's where they differ."""

from __future__ import annotations

from typing import Any

import pytest

from tests.differential.comparing import ordered, said
from tests.differential.kstash_program import covers, outputs
from tests.differential.reference import Chain
from tests.differential.test_reference import RANDOM, SENTENCES, name_of

CASES = [case for case in SENTENCES + RANDOM if covers(case)]


def expected(case: dict[str, Any]) -> tuple[list[Any], list[int]]:
    """The answer that is right: Kafka Streams', unless the case is marked.

    A timestamp of 0 means now to a Kafka client, and becomes 1: the model is asked about that one.
    """
    if "differs" not in case and not any(record[2] == 0 for record in case["in"]):
        return ordered(case, case["out"]), case["dropped"]
    records = [
        record if record == "restart" else [*record[:2], max(record[2], 1)] for record in case["in"]
    ]
    return said(Chain(case["ops"]), case | {"in": records})


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_each_case(case: dict[str, Any]) -> None:
    """Record by record: what leaves, in which order, and what is dropped."""
    made, dropped = outputs(case)
    assert (ordered(case, made), dropped) == expected(case)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_each_case_with_a_crash_after_each_input(case: dict[str, Any]) -> None:
    """The same leaves, once."""
    made, _ = outputs(case, crashes=True)
    assert ordered(case, made) == expected(case)[0]
