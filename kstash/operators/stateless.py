"""Operators that process one record at a time."""

from __future__ import annotations

import operator
from collections.abc import Callable
from itertools import chain
from typing import Any

from kstash.operators.calls import call, decode_keys
from kstash.operators.flow import Flow
from kstash.operators.records import records_of
from kstash.operators.step import Scope
from kstash.topology import nodes as n
from kstash.topology.edge_nodes import KeyBy
from kstash.topology.inner_keys import InnerKey
from kstash.topology.user_code import NO_RESULTS, check_results


class MapStep:
    """A new value of each."""

    def __init__(self, node: n.MapValues) -> None:
        self.label = node.title
        self.function = node.function

    def run(self, _side: int, flow: Flow, scope: Scope) -> None:
        """Call the function on each value."""
        left, values = call(self.function, flow, flow.live_values, self.label, scope)
        if left is not None:
            scope.out(left.with_values(values))


class FlatMapStep:
    """Any number of new values of each."""

    def __init__(self, node: n.FlatMap, *, with_keys: bool) -> None:
        self.label = node.title
        self.function = node.function
        self.with_keys = with_keys

    def run(self, _side: int, flow: Flow, scope: Scope) -> None:
        """Call the function on each value and put the results end to end."""
        left, results = call(self.function, flow, flow.live_values, self.label, scope)
        if left is None:
            return
        laid = _laid_out(results)
        if laid is None:
            # Their code runs now, and what fails is dropped with all that it has given.
            left, results = call(self._items, left, results, self.label, scope)
            laid = _laid_out(results)
            assert laid is not None
        values, counts = laid
        if left is not None and values:
            scope.out(left.expand(values, counts, with_keys=self.with_keys))

    def _items(self, result: Any) -> list[Any]:
        check_results(self.function, result)
        items = list(result)
        if hasattr(result, "__len__") and len(result) != len(items):
            raise RuntimeError("an iterable of another length than its len()")
        return items


def _laid_out(results: list[Any]) -> tuple[list[Any], list[int]] | None:
    """All items of collections, and how many each has; None: it checks each.

    That is so for generators and other iterables without a length, for what is no list of results,
    and where something raises.
    """
    if any(issubclass(kind, NO_RESULTS) for kind in set(map(type, results))):
        return None
    try:
        counts = list(map(len, results))
        values = list(chain.from_iterable(results))
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None
    return (values, counts) if len(values) == sum(counts) else None


class FilterStep:
    """The records of which a predicate is true, or false."""

    def __init__(self, node: n.Filter | n.FilterNot, truth: Callable[[Any], bool]) -> None:
        self.label = node.title
        self.predicate = node.function
        self.truth = truth

    def run(self, _side: int, flow: Flow, scope: Scope) -> None:
        """Ask for each value."""
        left, mask = apply_predicate(self.predicate, self.truth, flow, self.label, scope)
        if left is not None and (chosen := left.select(mask)) is not None:
            scope.out(chosen)


def apply_predicate(
    predicate: Callable[[Any], Any],
    truth: Callable[[Any], bool],
    flow: Flow,
    label: str,
    scope: Scope,
) -> tuple[Flow | None, list[bool]]:
    """What a predicate says of each value; the truth of a user's object is user code as well."""
    left, results = call(predicate, flow, flow.live_values, label, scope)
    return (None, []) if left is None else call(truth, left, results, label, scope)


class PeekStep:
    """A call for its effect."""

    def __init__(self, node: n.Peek) -> None:
        self.label = node.title
        self.function = node.function

    def run(self, _side: int, flow: Flow, scope: Scope) -> None:
        """Call the function on each value."""
        left, _ = call(self.function, flow, flow.live_values, self.label, scope)
        if left is not None:
            scope.out(left)


class RecordsStep:
    """Each value becomes a `Record`."""

    def __init__(self, node: n.Records) -> None:
        self.label = node.title

    def run(self, _side: int, flow: Flow, scope: Scope) -> None:
        """Put the columns together."""
        left = decode_keys(flow, self.label, scope)
        if left is not None:
            scope.out(left.with_values(records_of(left)))


class SplitStep:
    """Each record to the output of the first predicate that takes it."""

    def __init__(self, node: n.Split) -> None:
        self.label = node.title
        self.predicates = node.predicates
        self.ports = node.ports

    def run(self, _side: int, flow: Flow, scope: Scope) -> None:
        """Ask each predicate about what those before it did not take."""
        left = flow
        for port, predicate in zip(self.ports, self.predicates, strict=False):
            asked, mask = apply_predicate(predicate, bool, left, self.label, scope)
            if asked is None:
                return
            if (taken := asked.select(mask)) is not None:
                scope.out(taken, port)
            rest = asked.select(list(map(operator.not_, mask)))
            if rest is None:
                return
            left = rest
        scope.out(left, self.ports[-1])


class InnerKeyStep:
    """The keys within those of windows."""

    def __init__(self, node: InnerKey) -> None:
        self.label = node.title
        self.key = node.key

    def run(self, _side: int, flow: Flow, scope: Scope) -> None:
        """Take them out."""
        left = decode_keys(flow, self.label, scope)
        if left is not None:
            keys = [None if window is None else window.key for window in left.live_keys]
            scope.out(left.with_keys(keys, self.key))


class KeyByStep:
    """A new key for each record, with no wide edge."""

    def __init__(self, node: KeyBy) -> None:
        self.label = node.title
        self.function = node.function
        self.key = node.key

    def run(self, _side: int, flow: Flow, scope: Scope) -> None:
        """Make the keys."""
        left, keys = call(self.function, flow, flow.live_values, self.label, scope)
        if left is not None:
            scope.out(left.with_keys(keys, self.key))
