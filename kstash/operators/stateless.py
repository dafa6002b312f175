"""Operators that look at one record at a time."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from itertools import accumulate, chain, compress, count
from typing import Any

from kstash.errors import OperatorError
from kstash.operators.columns import call_each
from kstash.operators.flow import Flow
from kstash.operators.step import OneToOne, Step
from kstash.topology import nodes as n
from kstash.topology.record import Record


def apply_step(node: n.Apply, *, with_keys: bool) -> Step:
    """The step of a user's function.

    Args:
        node: names the function and what becomes of its results.
        with_keys: whether anyone behind it looks at the key.
    """
    label = f"{n.label(node)} at {node.location}"
    match node.action:
        case "map":
            return MapStep(label, node.function)
        case "flat_map":
            return FlatMapStep(label, node.function, with_keys=with_keys)
        case "filter" | "filter_not":
            return FilterStep(label, node.function, keep=node.action == "filter")
    assert node.action == "peek", node.action
    return PeekStep(label, node.function)


class MapStep(OneToOne):
    """A new value of each."""

    def __init__(self, label: str, function: Callable[[Any], Any]) -> None:
        self.label = label
        self.function = function

    def run(self, flow: Flow) -> Flow:
        """Call the function on each value."""
        assert flow.values is not None
        return flow.with_values(call_each(self.function, flow.values, self.label))


class FlatMapStep:
    """Any number of new values of each."""

    def __init__(
        self, label: str, function: Callable[[Any], Iterable[Any]], *, with_keys: bool
    ) -> None:
        self.label = label
        self.function = function
        self.with_keys = with_keys
        self._counts: list[int] = []

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
        self._counts = counts
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

    def trace(self, index: int) -> int:
        """Index of the value that made value `index`."""
        ends = accumulate(self._counts)
        return next(record for record, end in enumerate(ends) if index < end)


class FilterStep:
    """The records of which a predicate is true, or false."""

    def __init__(self, label: str, predicate: Callable[[Any], object], *, keep: bool) -> None:
        self.label = label
        self.predicate = predicate
        self.keep = keep
        self._mask: list[Any] = []

    def run(self, flow: Flow) -> Flow | None:
        """Ask for each value."""
        assert flow.values is not None
        mask = call_each(self.predicate, flow.values, self.label)
        # The truth of a user's object is user code as well.
        self._mask = call_each(bool if self.keep else operator.not_, mask, self.label)
        return flow.select(self._mask)

    def trace(self, index: int) -> int:
        """Index of kept record `index` before the filter."""
        return _nth_true(self._mask, index)


class PeekStep(OneToOne):
    """A call for its effect."""

    def __init__(self, label: str, function: Callable[[Any], object]) -> None:
        self.label = label
        self.function = function

    def run(self, flow: Flow) -> Flow:
        """Call the function on each value."""
        assert flow.values is not None
        call_each(self.function, flow.values, self.label)
        return flow


class RecordsStep(OneToOne):
    """Each value becomes a `Record`."""

    def __init__(self, node: n.Records) -> None:
        self.label = f"records at {node.location}"

    def run(self, flow: Flow) -> Flow:
        """Put the columns together."""
        assert flow.values is not None
        headers = flow.headers or [None] * flow.count
        keys = flow.live_keys(self.label)
        return flow.with_values(list(map(Record, keys, flow.values, flow.timestamps, headers)))


class SplitStep(OneToOne):
    """Chooses the branch of each record; the `BranchStep`s behind it take their part."""

    def __init__(self, node: n.Split) -> None:
        self.label = f"{n.label(node)} at {node.location}"
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
        self.label = f"{n.label(node)} at {node.location}"
        self.number = node.number
        self.split = split
        self._mask: list[bool] = []

    def run(self, flow: Flow) -> Flow | None:
        """Take the records that the split chose for this branch."""
        self._mask = list(map(self.number.__eq__, self.split.choice))
        return flow.select(self._mask)

    def trace(self, index: int) -> int:
        """Index of record `index` of the branch before the split."""
        return _nth_true(self._mask, index)


class KeyByStep(OneToOne):
    """A new key for each record, with no wide edge."""

    def __init__(self, node: n.KeyBy) -> None:
        self.label = f"{n.label(node)} at {node.location}"
        self.function = node.function
        self.key = node.key

    def run(self, flow: Flow) -> Flow:
        """Make the keys."""
        if self.function is None:
            return flow
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
            flow.origins,
        )


def _nth_true(mask: list[Any], index: int) -> int:
    kept = compress(count(), mask)
    return next(record for number, record in enumerate(kept) if number == index)
