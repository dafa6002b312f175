"""Folds that make one part of a state which several of them share; see `kstash.folds`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any


@dataclass(frozen=True, slots=True)
class FoldPart:
    """One of the folds of `aggregate_all`.

    Attributes:
        verb: names it in hashes and descriptions.
        first: makes its state of the first value of a record.
        add: `(state, value) -> state`; it may change the state in place.
        merge: `(state, state) -> state`, that of the earlier window first.
        show: makes what is sent of a state; None: it is the state.
    """

    verb: str
    first: Callable[[Any], Any]
    add: Callable[[Any, Any], Any]
    merge: Callable[[Any, Any], Any]
    show: Callable[[Any], Any] | None = None


Parts = tuple[tuple[str, FoldPart], ...]
"""Folds by the name of what each makes, in order."""


def all_begun(parts: Parts, value: Any) -> dict[str, Any]:
    """The state of a new key, with a value."""
    return {name: part.first(value) for name, part in parts}


def all_added(parts: Parts, state: dict[str, Any], value: Any) -> dict[str, Any]:
    """The state with one more value."""
    for name, part in parts:
        state[name] = part.add(state[name], value)
    return state


def all_merged(parts: Parts, one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """One state of two."""
    return {name: part.merge(one[name], other[name]) for name, part in parts}


def all_shown(parts: Parts, state: dict[str, Any]) -> dict[str, Any]:
    """What is sent of a state."""
    return {
        name: state[name] if part.show is None else part.show(state[name]) for name, part in parts
    }


def mean_of(number: int, total: Any) -> float:
    """The mean of so many numbers with this sum."""
    try:
        return float(total / number)
    except OverflowError:  # of integers that no float is as large as
        return inf if total > 0 else -inf
