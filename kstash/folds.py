"""Folds for `aggregate_all`, which keeps several of them in one state.

```python
orders.aggregate_all(
    "sales", total=folds.sum(lambda order: order["cents"]), number=folds.count()
)
```

Each takes `of=`, a function of the value that gives what is folded; without it that is the value.
It gives no None, but to `collect`, `first` and `last`.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from operator import add
from typing import Any

from kstash.surface.checks import check_function
from kstash.topology.fold_parts import FoldPart, mean_of
from kstash.topology.statistics import Statistics, statistics_of
from kstash.topology.user_code import user_location

__all__ = [
    "collect",
    "count",
    "first",
    "last",
    "max",
    "mean",
    "min",
    "reduce",
    "statistics",
    "sum",
]

Of = Callable[[Any], Any] | None
"""Gives what is folded of a value; None: the value itself."""


def count() -> FoldPart:
    """How many values there were."""
    return FoldPart("count", lambda _: 1, lambda state, _: state + 1, add)


def sum(of: Of = None) -> FoldPart:  # noqa: A001 - the word
    """The sum, from 0."""
    return _part("sum", of, lambda value: 0 + value, add)


def min(of: Of = None) -> FoldPart:  # noqa: A001 - the word
    """The least."""
    return _part("min", of, _not_none, builtins.min)


def max(of: Of = None) -> FoldPart:  # noqa: A001 - the word
    """The greatest."""
    return _part("max", of, _not_none, builtins.max)


def first(of: Of = None) -> FoldPart:
    """The first."""
    return _part("first", of, lambda value: value, lambda one, _: one)


def last(of: Of = None) -> FoldPart:
    """The last."""
    return _part("last", of, lambda value: value, lambda _, other: other)


def reduce(function: Callable[[Any, Any], Any], of: Of = None) -> FoldPart:
    """The first one, then `function(state, one)`, of two states too; never None.

    Raises:
        TopologyError: no such function.
    """
    check_function("folds.reduce", function, user_location(), "state", "value")
    return _part("reduce", of, _not_none, lambda one, other: _not_none(function(one, other)))


def mean(of: Of = None) -> FoldPart:
    """The mean of numbers; that of integers is exact until it is divided."""
    return _part(
        "mean",
        of,
        lambda value: [1, 0 + value],
        lambda one, other: [one[0] + other[0], one[1] + other[1]],
        lambda state: mean_of(*state),
    )


def collect(of: Of = None) -> FoldPart:
    """All of them in a list, in their order."""
    return _part("collect", of, lambda value: [value], lambda one, other: [*one, *other])


def statistics(of: Of = None) -> FoldPart:
    """Count, mean, variance, least and greatest of numbers; see `kstash.Statistics.as_dict`."""
    return _part(
        "statistics",
        of,
        lambda value: Statistics().add(value).as_dict(),
        lambda one, other: statistics_of(one).merge(statistics_of(other)).as_dict(),
    )


def _part(
    verb: str,
    of: Of,
    start: Callable[[Any], Any],
    merge: Callable[[Any, Any], Any],
    show: Callable[[Any], Any] | None = None,
) -> FoldPart:
    """A fold of states that are made of single values, and merged."""
    if of is not None:
        check_function(f"folds.{verb}(of=)", of, user_location(), "value")

    def begin(value: Any) -> Any:
        return start(value if of is None else of(value))

    return FoldPart(verb, begin, lambda state, value: merge(state, begin(value)), merge, show)


def _not_none(value: Any) -> Any:
    if value is None:
        raise ValueError("None is no state: filter such records out, or give another of=")
    return value
