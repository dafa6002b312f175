"""Operators that keep a state for each key.

A state is what its serde makes of it, at once and not only after a restore: a function is given
the same state whether the task was restarted or not, and what a serde cannot keep is an error at
its record. So no output shares a mutable object with the live state either.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import msgspec

from kstash.errors import OperatorError, SerdeError
from kstash.escape import short_repr
from kstash.operators.flow import Flow
from kstash.ports.state import KeyValueStore
from kstash.serdes import Serde, float_text, int_text, json, msgpack, number_text, raw, text
from kstash.topology import keyed_nodes as k
from kstash.topology.record import DELETE
from kstash.topology.user_code import function_place

EXACT_TYPES: dict[Serde[Any], frozenset[type]] = {
    text: frozenset({str}),
    raw: frozenset({bytes}),
    int_text: frozenset({int}),
    float_text: frozenset({float}),
    number_text: frozenset({int, float}),
}
"""Immutable types that a serde gives back as they were: they need no round trip. All of a batch are
encoded at once to find the few that it cannot take (`_encode_all`)."""

STEADY = frozenset(
    (serde.serialize, serde.deserialize)
    for serde in (text, raw, int_text, float_text, number_text, json, msgpack)
)
"""Pairs of functions that make the same bytes again of what they gave back."""

_encode_numbers = msgspec.json.Encoder().encode


def _encode_all(states: list[Any]) -> None:
    """Encode numbers or texts together, which takes a tenth of the time of one by one.

    Raises:
        Exception: one of them may be none, or not be encodable: too many digits, a lone surrogate.
    """
    if type(states[0]) is str:
        "".join(states).encode()
    else:
        _encode_numbers(states)


class _StatefulStep(ABC):
    """The columns in and out, and errors; `_update` does the work."""

    def __init__(self, node: k.Stateful, store: KeyValueStore) -> None:
        self.label = node.title
        self.key_serde = node.key
        self.store = store
        self.serde = node.value
        self.exact_types = EXACT_TYPES.get(node.value, frozenset())
        self.is_steady = (node.value.serialize, node.value.deserialize) in STEADY

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
        except (SerdeError, KeyboardInterrupt):
            raise
        except BaseException as cause:
            raise OperatorError(self.label, len(results), cause) from cause
        self._check_exact(results)
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
        """What the serde makes of a state: what a restart would find.

        Raises:
            SerdeError: it cannot keep the state.
        """
        action = "serialize"
        try:
            data = self.serde.serialize(state)
            action = "deserialize"
            settled = self.serde.deserialize(data)
            if settled is None:
                raise ValueError(
                    f"it gives None back for {short_repr(state)}, which stands for no state"
                )
            if not self.is_steady and (again := self.serde.serialize(settled)) != data:
                raise ValueError(
                    f"what it gives back for {short_repr(data)} becomes {short_repr(again)}: "
                    "the state would change with each restart"
                )
        except KeyboardInterrupt:
            raise
        except BaseException as cause:
            raise self._serde_error(action, index, cause) from cause
        return settled

    def _check_exact(self, results: list[Any]) -> None:
        """Find what would fail at the next checkpoint only, if it is still there then."""
        if self.serde is raw or not self.exact_types:
            return
        try:
            _encode_all(results)
        except Exception:
            for index, state in enumerate(results):
                if type(state) in self.exact_types:
                    try:
                        self.serde.serialize(state)
                    except Exception as cause:
                        raise self._serde_error("serialize", index, cause) from cause

    def _serde_error(self, action: str, index: int, cause: BaseException) -> SerdeError:
        return SerdeError(self.label, self.serde.name, action, "value", index, cause)


class CountStep(_StatefulStep):
    """How many records each key has had."""

    def _check_exact(self, results: list[Any]) -> None:
        """Nobody counts so far."""

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


class _FoldStep(_StatefulStep):
    """A user's function on state and value."""

    def __init__(self, node: k.Reduce | k.Aggregate, store: KeyValueStore) -> None:
        super().__init__(node, store)
        self.function = node.function

    def _keep(self, live: dict[bytes, Any], key: bytes, new: Any, results: list[Any]) -> None:
        """Store what the function returned, where its type alone does not say that it is exact."""
        if new is DELETE:
            # Until it is written back, None stands for what is to be deleted.
            live[key] = None
            results.append(None)
            return
        if new is None:
            raise ValueError(
                f"{function_place(self.function)} returned None, which is no state: return the "
                "new state, or kstash.DELETE to delete the state of the key"
            )
        live[key] = self._settle(new, len(results))
        results.append(new)


class ReduceStep(_FoldStep):
    """A fold that starts with the first value."""

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
            if state is not None:
                new = function(state, value)
            elif value is not None:
                new = value
            else:
                raise ValueError(
                    "the first value of a key is None, which is no state: filter such records "
                    "out, or use aggregate"
                )
            if type(new) in exact_types:
                live[key] = new
                append(new)
            else:
                self._keep(live, key, new, results)


class AggregateStep(_FoldStep):
    """A fold that starts with a state of its own."""

    def __init__(self, node: k.Aggregate, store: KeyValueStore) -> None:
        super().__init__(node, store)
        self.initial = node.initial

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
            if type(new) in exact_types:
                live[key] = new
                append(new)
            else:
                self._keep(live, key, new, results)
