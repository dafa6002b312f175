"""Operators that look at one record at a time."""

from __future__ import annotations

import operator
from collections.abc import Callable
from itertools import chain, compress
from typing import Any

from kstash.errors import OperatorError
from kstash.operators.columns import call_each
from kstash.operators.flow import Flow
from kstash.topology import nodes as n
from kstash.topology.record import Record


class MapStep:
    """A new value of each."""

    def __init__(self, node: n.Map) -> None:
        self.label = node.title
        self.function = node.function

    def run(self, flow: Flow) -> Flow:
        """Call the function on each value."""
        assert flow.values is not None
        return flow.with_values(call_each(self.function, flow.values, self.label))


class FlatMapStep:
    """Any number of new values of each."""

    def __init__(self, node: n.FlatMap, *, with_keys: bool) -> None:
        self.label = node.title
        self.function = node.function
        self.with_keys = with_keys

    def run(self, flow: Flow) -> Flow | None:
        """Call the function on each value and put the results end to end."""
        assert flow.values is not None
        results = call_each(self.function, flow.values, self.label)
        try:
            counts = list(map(len, results))
        except KeyboardInterrupt:
            raise
        except BaseException:
            # Generators and other iterables without a length: their code runs now. What a `len()`
            # of the user's own raises comes again there, with its place.
            results = call_each(list, results, self.label)
            counts = list(map(len, results))
        try:
            values = list(chain.from_iterable(results))
        except KeyboardInterrupt:
            raise
        except BaseException as cause:
            index = self._failing(results)
            raise OperatorError(self.label, index, cause) from cause
        if len(values) != sum(counts):
            failure = RuntimeError("an iterable of another length than its len()")
            raise OperatorError(self.label, self._failing(results), failure)
        return flow.expand(values, counts, with_keys=self.with_keys)

    def _failing(self, results: list[Any]) -> int:
        for index, result in enumerate(results):
            try:
                if len(list(result)) != len(result):
                    return index
            except BaseException:
                return index
        return 0


class FilterStep:
    """The records of which a predicate is true, or false."""

    def __init__(self, node: n.Filter | n.FilterNot, truth: Callable[[Any], bool]) -> None:
        self.label = node.title
        self.predicate = node.function
        self.truth = truth

    def run(self, flow: Flow) -> Flow | None:
        """Ask for each value."""
        assert flow.values is not None
        mask = call_each(self.predicate, flow.values, self.label)
        # The truth of a user's object is user code as well.
        return flow.select(call_each(self.truth, mask, self.label))


class PeekStep:
    """A call for its effect."""

    def __init__(self, node: n.Peek) -> None:
        self.label = node.title
        self.function = node.function

    def run(self, flow: Flow) -> Flow:
        """Call the function on each value."""
        assert flow.values is not None
        call_each(self.function, flow.values, self.label)
        return flow


class RecordsStep:
    """Each value becomes a `Record`."""

    def __init__(self, node: n.Records) -> None:
        self.label = node.title

    def run(self, flow: Flow) -> Flow:
        """Put the columns together."""
        assert flow.values is not None
        headers = flow.headers or [None] * flow.count
        keys = flow.live_keys(self.label)
        return flow.with_values(list(map(Record, keys, flow.values, flow.timestamps, headers)))


class SplitStep:
    """Chooses the branch of each record; the `BranchStep`s behind it take their part."""

    def __init__(self, node: n.Split) -> None:
        self.label = node.title
        self.predicates = node.predicates
        self.choice: list[int] = []

    def run(self, flow: Flow) -> Flow:
        """Ask each predicate about what those before it did not take."""
        assert flow.values is not None
        choice = [len(self.predicates)] * flow.count
        pending = list(range(flow.count))
        for number, predicate in enumerate(self.predicates):
            values = list(map(flow.values.__getitem__, pending))
            try:
                mask = call_each(bool, call_each(predicate, values, self.label), self.label)
            except OperatorError as error:
                error.record_index = pending[error.record_index]
                raise
            for index in compress(pending, mask):
                choice[index] = number
            pending = list(compress(pending, map(operator.not_, mask)))
        self.choice = choice
        return flow


class BranchStep:
    """The part of a split that belongs to one predicate."""

    def __init__(self, node: n.Branch, split: SplitStep) -> None:
        self.label = node.title
        self.number = node.number
        self.split = split

    def run(self, flow: Flow) -> Flow | None:
        """Take the records that the split chose for this branch."""
        return flow.select(list(map(self.number.__eq__, self.split.choice)))


class KeyByStep:
    """A new key for each record, with no wide edge."""

    def __init__(self, node: n.KeyBy) -> None:
        self.label = node.title
        self.function = node.function
        self.key = node.key

    def run(self, flow: Flow) -> Flow:
        """Make the keys."""
        assert flow.values is not None
        keys = call_each(self.function, flow.values, self.label)
        return Flow(
            flow.count,
            keys,
            None,
            self.key,
            flow.values,
            flow.timestamps,
            flow.headers,
            flow.trail,
        )
