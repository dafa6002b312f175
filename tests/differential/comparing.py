"""What a model says to a case, and by which rule Kafka Streams says something else."""

from __future__ import annotations

import itertools
from typing import Any

from tests.differential.cases import Case
from tests.differential.kafka_rules import RULES, kafka_chain
from tests.differential.reference import Chain


def said(chain: Chain, case: Case) -> tuple[list[Any], list[int]]:
    """The outputs and the number of what was dropped for each input of a case."""
    outputs: list[Any] = []
    dropped: list[int] = []
    for record in case["in"]:
        before = chain.dropped
        if record == "restart":
            chain.restart()
            outputs.append([])
        else:
            outputs.append([list(result[:5]) for result in chain.take(*record)])
        dropped.append(chain.dropped - before)
    return ordered(case, outputs), dropped


def ordered(case: Case, outputs: list[Any]) -> list[Any]:
    """Outputs as they are compared: the updates of one record's sliding windows are a set.

    Kafka Streams has them in an order of its own, which also depends on the kind of store.
    """
    last = case["ops"][-1]
    if last["window"] == "sliding" and last["emit"] == "update":
        return [sorted(step, key=lambda result: (result[2], result[1])) for step in outputs]
    return outputs


def shifted(case: Case) -> Case:
    """The case without records of time 0, which producers of Kafka take for none: at 1 instead."""
    rows = [row if row == "restart" else [row[0], row[1], max(row[2], 1)] for row in case["in"]]
    return case | {"in": rows}


def counted(case: Case, dropped: list[int]) -> list[int]:
    """How much was dropped, as it is compared: kstash counts a sliding record, not its windows.

    See "What is not asked" in `differences.md`.
    """
    if any(spec["window"] == "sliding" for spec in case["ops"]):
        return [min(number, 1) for number in dropped]
    return dropped


def modelled(case: Case) -> tuple[list[Any], list[int]]:
    """What kstash must do: what the model says."""
    outputs, dropped = said(Chain(case["ops"]), shifted(case))
    return outputs, counted(case, dropped)


def agree(case: Case, answer: dict[str, Any], chain: Chain) -> bool:
    """Whether a model gives the judge's answer, record by record."""
    return said(chain, case) == (ordered(case, answer["out"]), answer["dropped"])


def rules_of(case: Case, answer: dict[str, Any], most: int = 3) -> list[tuple[str, ...]]:
    """The smallest sets of rules that make the model give the judge's answer; [] if none does."""
    for size in range(1, most + 1):
        found = [
            names
            for names in itertools.combinations(RULES, size)
            if agree(case, answer, kafka_chain(case["ops"], names))
        ]
        if found:
            return found
    return []
