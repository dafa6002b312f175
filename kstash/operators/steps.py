"""The table of steps: which code runs a node. The only place that asks for the class of one."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from kstash.operators.distinct import NewValues
from kstash.operators.event_time import EventTimeStep
from kstash.operators.fold import ColumnFold, Counting, Folding
from kstash.operators.fold_functions import (
    Collecting,
    aggregating,
    averaging,
    finding_greatest,
    finding_least,
    folding_all,
    reducing,
    running,
    summing,
)
from kstash.operators.keyed import KeyedStep
from kstash.operators.process.logic import ProcessStep
from kstash.operators.records import FlatMapRecordsStep, MapRecordsStep
from kstash.operators.stateless import (
    FilterStep,
    FlatMapStep,
    InnerKeyStep,
    KeyByStep,
    MapStep,
    PeekStep,
    RecordsStep,
    SplitStep,
)
from kstash.operators.step import Step, Surroundings
from kstash.operators.windows.aligned import AlignedWindows
from kstash.operators.windows.counted import CountedWindows
from kstash.operators.windows.sessions import SessionWindows
from kstash.operators.windows.sliding import SlidingWindows
from kstash.operators.windows.step import WindowStep
from kstash.topology import aligned_nodes as aligned
from kstash.topology import count_nodes as counts
from kstash.topology import edge_nodes as e
from kstash.topology import keyed_nodes as k
from kstash.topology import nodes as n
from kstash.topology import ready_processors as r
from kstash.topology import record_nodes as records
from kstash.topology import session_nodes as sessions
from kstash.topology import sliding_nodes as sliding
from kstash.topology import time_nodes as t
from kstash.topology.inner_keys import InnerKey
from kstash.topology.process_node import Process
from kstash.topology.traits import ColumnSet

NO_STEP = (n.Source, n.Sink, n.Merge, e.Repartition, n.Port)
"""Nodes that do nothing to a record: the stage decodes, encodes, merges and ships for them."""


# A node is Any: that the class of the key is what its function takes, mypy cannot say.
COLUMN_FOLDS: dict[type[k.Stateful], Callable[[Any], ColumnFold]] = {
    k.Count: lambda _: Counting(),
    k.Sum: summing,
    k.Reduce: reducing,
    k.Aggregate: aggregating,
    k.Min: finding_least,
    k.Max: finding_greatest,
    k.Mean: averaging,
    k.Collect: Collecting,
    k.AggregateAll: folding_all,
    k.RunningStatistics: running,
}
"""What folds values; with windows and without."""


def column_fold_of(node: k.Stateful) -> ColumnFold:
    """The code of a fold."""
    return COLUMN_FOLDS[type(node)](node)


def _folding(node: k.Stateful, _: Surroundings) -> Step:
    return KeyedStep(node, Folding(node, column_fold_of(node)))


STEPS: dict[type[n.Node], Callable[[Any, Surroundings], Step]] = {
    t.EventTime: lambda node, _: EventTimeStep(node),
    n.MapValues: lambda node, _: MapStep(node),
    n.FlatMap: lambda node, around: FlatMapStep(node, with_keys=ColumnSet.KEY in around.read_after),
    n.Filter: lambda node, _: FilterStep(node, bool),
    n.FilterNot: lambda node, _: FilterStep(node, operator.not_),
    n.Peek: lambda node, _: PeekStep(node),
    n.Records: lambda node, _: RecordsStep(node),
    records.MapRecords: lambda node, _: MapRecordsStep(node),
    records.FlatMapRecords: lambda node, _: FlatMapRecordsStep(node),
    n.Split: lambda node, _: SplitStep(node),
    e.KeyBy: lambda node, _: KeyByStep(node),
    InnerKey: lambda node, _: InnerKeyStep(node),
    **dict.fromkeys(COLUMN_FOLDS, _folding),
    k.Distinct: lambda node, _: KeyedStep(node, NewValues(node)),
    **dict.fromkeys(
        (Process, r.WithState, r.Dedup, r.Throttle, r.Top), lambda node, _: ProcessStep(node)
    ),
    aligned.AlignedFold: lambda node, _: WindowStep(
        node, AlignedWindows(node, column_fold_of(node.fold))
    ),
    counts.CountedFold: lambda node, _: WindowStep(
        node, CountedWindows(node, column_fold_of(node.fold))
    ),
    sessions.SessionFold: lambda node, _: WindowStep(
        node, SessionWindows(node, column_fold_of(node.fold))
    ),
    sliding.SlidingFold: lambda node, _: WindowStep(
        node, SlidingWindows(node, column_fold_of(node.fold))
    ),
}


def step_of(node: n.Node, around: Surroundings) -> Step | None:
    """What runs a node; None: nothing does."""
    return None if isinstance(node, NO_STEP) else STEPS[type(node)](node, around)
