"""Cases for the judge, as JSON: a topology and the records that it is given.

    {"name": "...", "ops": [OP] or [OP, OP], "in": [[key, value, timestamp], ...]}

OP: "window" tumbling | hopping | sliding | session; "size" or "gap", "advance" (hopping), "grace",
all in ms; "fold" count | sum | reduce (old + new) | list | min | max; "emit" update | final (Kafka
Streams: suppress until the window closes) | close (its own emit strategy; final for the model).
Of a second OP: "key" same (the first one's) or a key for all; "between" stage | repartition (the
default, and what Kafka Streams always has). For Kafka Streams alone: "store" memory (default) |
rocksdb (its own choice), "retention" in ms. A null key or value is null. "restart" in place of a
record starts anew with what the stores hold.

The answer adds, for each input, "out": [[key, start, end, value, timestamp], ...] and "dropped",
how many records, or windows of a record, were dropped; and "differs", the name of the difference
in `differences.md`, where the model says something else.
"""

from __future__ import annotations

import random
from typing import Any

Case = dict[str, Any]

FOLDS = ("count", "sum", "reduce", "list", "min", "max")
KINDS = ("tumbling", "hopping", "sliding", "session")
KEYS = ("a", "ab", "b", "\u00e4")


def random_case(seed: int) -> Case:
    """The case of a seed: small numbers, times around the boundaries of its windows."""
    draw = random.Random(seed)
    operators = [random_operator(draw)]
    if draw.random() < 0.25:
        operators[0]["fold"] = draw.choice([fold for fold in FOLDS if fold != "list"])
        if operators[0]["window"] == "sliding":  # the order of its updates is nobody's promise
            operators[0]["emit"] = "final"
        operators.append(random_operator(draw) | {"key": draw.choice(["same", "all"])})
    keys = draw.sample(KEYS, draw.randint(1, 3))
    nulls = 0.3 if draw.random() < 0.15 else 0.0
    steps = sorted({step for operator in operators for step in boundaries(operator)})
    records: list[list[Any]] = []
    now = draw.choice([0, draw.randint(0, 30), draw.randint(0, 1_000)])
    for _ in range(draw.randint(3, 14)):
        base = max([now, *(record[2] for record in records)]) if draw.random() < 0.6 else now
        now = max(0, base + draw.choice([1, 1, 1, -1]) * draw.choice(steps))
        key = None if draw.random() < 0.03 else draw.choice(keys)
        value = None if draw.random() < nulls else draw.randint(-9, 99)
        records.append([key, value, now])
    return {"name": f"random-{seed}", "ops": operators, "in": records}


def random_operator(draw: random.Random) -> dict[str, Any]:
    """A window of some kind with a fold."""
    kind = draw.choice(KINDS)
    length = draw.choice([1, 2, 5, 10, draw.randint(1, 12)])
    operator: dict[str, Any] = {"window": kind, "gap" if kind == "session" else "size": length}
    if kind == "hopping":
        operator["advance"] = draw.randint(1, length)
    operator["grace"] = draw.choice([0, 0, 1, 3, length, 2 * length])
    return operator | {"fold": draw.choice(FOLDS), "emit": draw.choice(["update", "final"])}


def boundaries(operator: dict[str, Any]) -> set[int]:
    """Distances at which something changes, with those 1 ms beside them."""
    length = operator.get("size") or operator["gap"]
    grace = operator["grace"]
    exact = {0, operator.get("advance", length), length, grace, length + grace, 2 * length + grace}
    return {max(0, distance + one) for distance in exact for one in (-1, 0, 1)}
