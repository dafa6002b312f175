"""The folds that there are: what each does with a state and a value."""

from __future__ import annotations

from functools import partial
from operator import add
from typing import Any

from kstash.operators.calls import Kept, encode_values
from kstash.operators.flow import Flow
from kstash.operators.fold import Fold
from kstash.operators.kept_values import KeptValues
from kstash.operators.step import Scope
from kstash.topology import keyed_nodes as k
from kstash.topology.fold_parts import all_added, all_begun, all_merged, all_shown, mean_of
from kstash.topology.statistics import Statistics


class Collecting(Fold):
    """All values in their order; a state is a tuple of their bytes."""

    def __init__(self, node: k.Collect) -> None:
        super().__init__(node, _alone, _appended, merge=add, of_state=self._decoded)
        self.value_serde = node.value
        self.kept_values = KeptValues(node.title, node.value)

    def fold(self, live: dict[bytes, Any], keys: list[bytes], flow: Flow, scope: Scope) -> Kept:
        """Encode the values first: those that the serde refuses are in no list."""
        left, records = encode_values(flow, self.value_serde, keys, self.label, scope)
        if left is None:
            return None, []
        values = [value for _, value in records]
        return super().fold(live, [key for key, _ in records], left.with_values(values), scope)

    def encoded(self, value: Any, index: int) -> bytes:
        """The bytes of the value of one record, for `function`."""
        return self.kept_values.encode(value, index)

    def _decoded(self, state: tuple[bytes | None, ...]) -> list[Any]:
        read = self.value_serde.deserialize
        return [None if data is None else read(data) for data in state]


def summing(node: k.Sum) -> Fold:
    """From 0."""
    return Fold(node, lambda value: 0 + value, add, merge=add)


def reducing(node: k.Reduce) -> Fold:
    """From the first value."""
    return Fold(node, _itself, node.function, merge=node.function)


def aggregating(node: k.Aggregate) -> Fold:
    """From a state of its own."""
    initial, function = node.initial, node.function
    return Fold(
        node,
        lambda value: function(initial(), value),
        function,
        merge=node.merge,
        initial=initial,
    )


def finding_least(node: k.Min) -> Fold:
    """From the first value."""
    return Fold(node, _itself, min, merge=min)


def finding_greatest(node: k.Max) -> Fold:
    """From the first value."""
    return Fold(node, _itself, max, merge=max)


def averaging(node: k.Mean) -> Fold:
    """From how many there were, and their sum."""
    return Fold(
        node,
        lambda value: (1, 0 + value),
        lambda state, value: (state[0] + 1, state[1] + value),
        merge=lambda one, other: (one[0] + other[0], one[1] + other[1]),
        of_state=lambda state: mean_of(*state),
    )


def running(node: k.RunningStatistics) -> Fold:
    """From those of no number."""
    return Fold(node, Statistics().add, Statistics.add, merge=Statistics.merge)


def folding_all(node: k.AggregateAll) -> Fold:
    """Several folds, each with a state of its own in one."""
    parts = node.parts
    return Fold(
        node,
        lambda value: all_begun(parts, value),
        lambda state, value: all_added(parts, state, value),
        merge=partial(all_merged, parts),
        of_state=lambda state: all_shown(parts, state),
    )


def _itself(value: Any) -> Any:
    return value


def _alone(value: Any) -> tuple[Any, ...]:
    return (value,)


def _appended(state: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    return (*state, value)
