"""The table of steps: which code runs a node. The only place that asks for the class of one."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from kstash.operators.aggregate import AggregateStep, CountStep, ReduceStep, SumStep
from kstash.operators.stateless import (
    BranchStep,
    FilterStep,
    FlatMapStep,
    KeyByStep,
    MapStep,
    PeekStep,
    RecordsStep,
    SplitStep,
)
from kstash.operators.step import Step, Surroundings
from kstash.topology import keyed_nodes as k
from kstash.topology import nodes as n

NO_STEP = (n.Source, n.Sink, n.Merge, n.Repartition)
"""Nodes that do nothing to a record: the stage decodes, encodes, merges and ships for them."""


def _branch(node: n.Branch, around: Surroundings) -> Step:
    split = around.before[node.parents[0].index]
    assert isinstance(split, SplitStep)
    return BranchStep(node, split)


# A node is Any: that the class of the key is what its function takes, mypy cannot say.
STEPS: dict[type[n.Node], Callable[[Any, Surroundings], Step]] = {
    n.Map: lambda node, _: MapStep(node),
    n.FlatMap: lambda node, around: FlatMapStep(node, with_keys=around.with_keys),
    n.Filter: lambda node, _: FilterStep(node, bool),
    n.FilterNot: lambda node, _: FilterStep(node, operator.not_),
    n.Peek: lambda node, _: PeekStep(node),
    n.Records: lambda node, _: RecordsStep(node),
    n.Split: lambda node, _: SplitStep(node),
    n.Branch: _branch,
    n.KeyBy: lambda node, _: KeyByStep(node),
    k.Count: lambda node, around: CountStep(node, around.stores[node.name]),
    k.Sum: lambda node, around: SumStep(node, around.stores[node.name]),
    k.Reduce: lambda node, around: ReduceStep(node, around.stores[node.name]),
    k.Aggregate: lambda node, around: AggregateStep(node, around.stores[node.name]),
}
