"""Folds as they are declared: of each key, and of each key and window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kstash.errors import TopologyError
from kstash.escape import short_repr
from kstash.serdes import Serde, float_text, int_text, number_text
from kstash.surface.checks import check_function, check_name, check_serde
from kstash.topology import keyed_nodes as k
from kstash.topology.fold_parts import FoldPart
from kstash.topology.nodes import Node
from kstash.topology.statistics import statistics_json
from kstash.topology.user_code import user_location


@dataclass(frozen=True, slots=True)
class Declared:
    """One fold, checked.

    Attributes:
        kind: of its node.
        name: of the operator and its store.
        state: serde of the states.
        sent: serde of what is sent on; None: it is not known.
        location: `file:line` of the user's code.
        more: what else its node is made of, by its names: the user's functions above all.
    """

    kind: type[k.Stateful]
    name: str
    state: Serde[Any]
    sent: Serde[Any] | None
    location: str
    more: Mapping[str, Any] = field(default_factory=dict)

    def node(self, index: int, parent: Node, key: Serde[Any]) -> k.Stateful:
        """The node of the fold without windows."""
        return self.kind(
            index,
            (parent,),
            self.location,
            name=self.name,
            key=key,
            value=self.state,
            **self.more,
        )


def count_fold(name: str) -> Declared:
    """How many records there were."""
    return _declared(k.Count, name, int_text)


def sum_fold(name: str, value: Serde[Any] | None) -> Declared:
    """The sum of values."""
    return _declared(k.Sum, name, number_text if value is None else value)


def reduce_fold(
    name: str, function: Callable[..., Any], value: Serde[Any] | None, known: Serde[Any] | None
) -> Declared:
    """From the first value on; `known` is the serde of the stream."""
    serde = of_values("reduce", name, value, known)
    check_function("reduce", function, user_location(), "state", "value")
    return _declared(k.Reduce, name, serde, function=function)


def aggregate_fold(
    name: str,
    initial: Callable[[], Any],
    function: Callable[..., Any],
    value: Serde[Any],
    *,
    merge: Callable[..., Any] | None = None,
    values: Serde[Any] | None = None,
) -> Declared:
    """From a state of its own; with `merge` where windows become one, `values` where they keep."""
    check_function("aggregate", initial, user_location())
    check_function("aggregate", function, user_location(), "state", "value")
    if merge is not None:
        check_function("aggregate: merge", merge, user_location(), "state", "state")
    if values is not None:
        check_serde("values", values, user_location())
    more: dict[str, Any] = {
        "initial": initial,
        "function": function,
        "merge": merge,
        "values": values,
    }
    return _declared(k.Aggregate, name, value, **more)


def extreme_fold(
    kind: type[k.Min | k.Max], name: str, value: Serde[Any] | None, known: Serde[Any] | None
) -> Declared:
    """The least or the greatest value; `known` is the serde of the stream."""
    return _declared(kind, name, of_values(kind.verb, name, value, known))


def mean_fold(name: str) -> Declared:
    """The mean of numbers."""
    return _declared(k.Mean, name, k.MEAN_STATE, sent=float_text)


def statistics_fold(name: str) -> Declared:
    """Count, mean, variance, the least and the greatest of numbers."""
    return _declared(k.RunningStatistics, name, statistics_json)


def aggregate_all_fold(
    name: str,
    value: Serde[Any],
    parts: Mapping[str, Any],
    *,
    values: Serde[Any] | None = None,
) -> Declared:
    """Several folds in one state; with `values` where windows keep them."""
    location = user_location()
    if not parts:
        raise TopologyError(
            f"aggregate_all({name!r}) needs folds, such as total=folds.sum()", location
        )
    for key, part in parts.items():
        if not isinstance(part, FoldPart):
            raise TopologyError(
                f"aggregate_all({key}=) takes a fold such as folds.sum() of `from kstash import "
                f"folds`, not {short_repr(part)}",
                location,
            )
    check_serde("values", values, location)
    return _declared(k.AggregateAll, name, value, parts=tuple(parts.items()), values=values)


def collect_fold(name: str, value: Serde[Any] | None, known: Serde[Any] | None) -> Declared:
    """All values in a list; `known` is the serde of the stream."""
    return _declared(k.Collect, name, of_values("collect", name, value, known), sent=None)


def distinct_fold(name: str, value: Serde[Any] | None, known: Serde[Any] | None) -> Declared:
    """Each value once; `known` is the serde of the stream."""
    return _declared(k.Distinct, name, of_values("distinct", name, value, known))


def of_values(
    verb: str, name: str, value: Serde[Any] | None, known: Serde[Any] | None
) -> Serde[Any]:
    """The serde of values that are kept.

    Raises:
        TopologyError: neither is one.
    """
    serde = known if value is None else value
    if serde is None:
        raise TopologyError(
            f"{verb}({name!r}) keeps values, but their serde is not known here: give it as value=",
            user_location(),
        )
    return serde


_SAME: Any = object()


def _declared(
    kind: type[k.Stateful],
    name: str,
    state: Serde[Any],
    sent: Serde[Any] | None = _SAME,
    **more: Any,
) -> Declared:
    location = user_location()
    check_name(name, location)
    check_serde("value", state, location, is_needed=True)
    return Declared(
        kind=kind,
        name=name,
        state=state,
        sent=state if sent is _SAME else sent,
        location=location,
        more=more,
    )
