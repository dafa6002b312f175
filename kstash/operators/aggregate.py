"""Operators that keep a state for each key.

A state is what its serde makes of it, at once and not only after a restore: a function is given
the same state whether the task was restarted or not. So no output shares a mutable object with the
live state either.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from kstash import nodes as n
from kstash.errors import OperatorError, SerdeError
from kstash.operators.flow import Flow
from kstash.operators.step import OneToOne, Step
from kstash.ports import KeyValueStore
from kstash.serdes import Serde, float_text, int_text, number_text, raw, text

EXACT_TYPES: dict[Serde[Any], frozenset[type]] = {
    text: frozenset({str}),
    raw: frozenset({bytes}),
    int_text: frozenset({int}),
    float_text: frozenset({float}),
    number_text: frozenset({int, float}),
}
"""Immutable types that a serde gives back as they were: they need no round trip."""


def stateful_step(node: n.Stateful, store: KeyValueStore) -> Step:
    """The step of a stateful operator on one task's store."""
    match node.verb:
        case "count":
            return CountStep(node, store)
        case "sum":
            return SumStep(node, store)
        case "reduce":
            return ReduceStep(node, store)
    assert node.verb == "aggregate", node.verb
    return AggregateStep(node, store)


class _StatefulStep(OneToOne, ABC):
    """The columns in and out, and errors; `_update` does the work."""

    def __init__(self, node: n.Stateful, store: KeyValueStore) -> None:
        self.label = f"{n.label(node)} at {node.location}"
        self.key_serde = node.key
        self.store = store
        self.serde = node.value
        self.exact_types = EXACT_TYPES.get(node.value, frozenset())

    def run(self, flow: Flow) -> Flow:
        """Update the state of each record's key; the new states are the new values."""
        keys: list[Any] = flow.encoded_keys(self.key_serde, self.label)
        if None in keys:
            cause = ValueError("the key is None, which has no state: filter such records out")
            raise OperatorError(self.label, keys.index(None), cause)
        live = self.store.load(keys)
        results: list[Any] = []
        try:
            self._update(live, keys, flow.values, results)
        except SerdeError:
            raise
        except Exception as cause:
            raise OperatorError(self.label, len(results), cause) from cause
        return flow.with_values(results)

    @abstractmethod
    def _update(
        self,
        live: dict[bytes, Any],
        keys: list[bytes],
        values: list[Any] | None,
        results: list[Any],
    ) -> None:
        """Add one result for each key, in order: after an exception their number tells where."""

    def _settle(self, state: Any, index: int) -> Any:
        """What the serde makes of a state: what a restart would find."""
        if state is None:
            return None
        action = "serialize"
        try:
            data = self.serde.serialize(state)
            action = "deserialize"
            return self.serde.deserialize(data)
        except Exception as cause:
            name = self.serde.name
            raise SerdeError(self.label, name, action, "value", index, cause) from cause


class CountStep(_StatefulStep):
    """How many records each key has had."""

    def _update(
        self,
        live: dict[bytes, Any],
        keys: list[bytes],
        values: list[Any] | None,  # noqa: ARG002 - counts whatever they are
        results: list[Any],
    ) -> None:
        get, append = live.get, results.append
        for key in keys:
            live[key] = number = get(key, 0) + 1
            append(number)


class SumStep(_StatefulStep):
    """The sum of each key's values."""

    def _update(
        self,
        live: dict[bytes, Any],
        keys: list[bytes],
        values: list[Any] | None,
        results: list[Any],
    ) -> None:
        assert values is not None
        get, append, exact_types = live.get, results.append, self.exact_types
        for key, value in zip(keys, values, strict=True):
            total = get(key, 0) + value
            live[key] = total if type(total) in exact_types else self._settle(total, len(results))
            append(total)


class ReduceStep(_StatefulStep):
    """A fold that starts with the first value."""

    def __init__(self, node: n.Stateful, store: KeyValueStore) -> None:
        super().__init__(node, store)
        assert node.function is not None
        self.function: Callable[[Any, Any], Any] = node.function

    def _update(
        self,
        live: dict[bytes, Any],
        keys: list[bytes],
        values: list[Any] | None,
        results: list[Any],
    ) -> None:
        assert values is not None
        get, append, exact_types = live.get, results.append, self.exact_types
        function = self.function
        for key, value in zip(keys, values, strict=True):
            state = get(key)
            new = value if state is None else function(state, value)
            live[key] = new if type(new) in exact_types else self._settle(new, len(results))
            append(new)


class AggregateStep(_StatefulStep):
    """A fold that starts with a state of its own."""

    def __init__(self, node: n.Stateful, store: KeyValueStore) -> None:
        super().__init__(node, store)
        assert node.function is not None
        assert node.initial is not None
        self.function: Callable[[Any, Any], Any] = node.function
        self.initial: Callable[[], Any] = node.initial

    def _update(
        self,
        live: dict[bytes, Any],
        keys: list[bytes],
        values: list[Any] | None,
        results: list[Any],
    ) -> None:
        assert values is not None
        get, append, exact_types = live.get, results.append, self.exact_types
        function, initial = self.function, self.initial
        for key, value in zip(keys, values, strict=True):
            state = get(key)
            new = function(initial() if state is None else state, value)
            live[key] = new if type(new) in exact_types else self._settle(new, len(results))
            append(new)
