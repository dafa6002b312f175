"""Folds: a state for each key, which a function makes anew of the state and each value.

A state is what its serde makes of it, at once and not only after a restore: a function is given
the same state whether the task was restarted or not, and what a serde cannot keep is an error at
its record. So no output shares a mutable object with the live state either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import add
from typing import Any

from kstash.errors import OperatorError, SerdeError
from kstash.escape import short_repr
from kstash.operators.calls import kept, refuse
from kstash.operators.flow import Flow
from kstash.operators.step import Scope, Stores
from kstash.topology import keyed_nodes as k
from kstash.topology.record import DELETE
from kstash.topology.user_code import function_place


class Fold:
    """The state of each key, sent on after each of its records.

    Args:
        node: with the name of the store and the serde of the state.
        first: makes the state of a new key of its first value.
        function: `(state, value) -> state`.
        initial: makes what `first` begins with; None: that is the value itself.
    """

    def __init__(
        self,
        node: k.Stateful,
        first: Callable[[Any], Any],
        function: Callable[[Any, Any], Any],
        initial: Callable[[], Any] | None = None,
    ) -> None:
        self.label = node.title
        self.name = node.name
        self.serde = node.value
        self.first = first
        self.function = function
        self.initial = initial

    def on_batch(
        self,
        side: int,  # noqa: ARG002 - one parent
        keys: list[bytes],
        flow: Flow,
        stores: Stores,
        scope: Scope,
    ) -> None:
        """Update the state of each record's key; the new states are the new values."""
        live = stores.store(self.name).load(keys)
        fold = self._fold_apart if scope.may_skip else self._fold
        results: list[Any] = []
        refused: list[int] = []
        records = zip(keys, flow.live_values, strict=True)
        while True:
            error: OperatorError | SerdeError
            try:
                fold(live, records, results)
            except KeyboardInterrupt:
                raise
            except SerdeError as raised:
                error = raised
            except BaseException as cause:
                error = OperatorError(self.label, len(results), cause)
                error.detail += self._other_state(cause)
            else:
                break
            refuse(scope, flow, error)
            refused.append(len(results))
            results.append(None)
        if not scope.may_skip:
            self._check_exact(results)
        left, states = kept(flow, (results, refused))
        if left is not None:
            scope.out(left.with_values(states))

    def _fold(
        self, live: dict[bytes, Any], records: Iterator[tuple[bytes, Any]], results: list[Any]
    ) -> None:
        """Add one result for each record, in order: after an exception their number says where."""
        get, append, exact_types = live.get, results.append, self.serde.exact_types
        first, function = self.first, self.function
        for key, value in records:
            state = get(key)
            new = first(value) if state is None else function(state, value)
            if type(new) in exact_types:
                live[key] = new
                append(new)
            else:
                live[key] = self._kept(new, len(results))
                append(None if new is DELETE else new)

    def _fold_apart(
        self, live: dict[bytes, Any], records: Iterator[tuple[bytes, Any]], results: list[Any]
    ) -> None:
        """The same where a record may be skipped: nothing of it is left in the state then."""
        for key, value in records:
            state = live.get(key)
            if state is None:
                new = self.first(value)
            else:
                if type(state) not in self.serde.exact_types:
                    state = self._settled(state, len(results))
                new = self.function(state, value)
            live[key] = self._kept(new, len(results))
            results.append(None if new is DELETE else new)

    def _kept(self, new: Any, index: int) -> Any:
        """What stands for a new state until it is written back; None: it is to be deleted."""
        if new is DELETE:
            return None
        if new is None:
            raise ValueError(
                f"{function_place(self.function)} returned None, which is no state: return the "
                "new state, or kstash.DELETE to delete the state of the key"
            )
        return self._settled(new, index)

    def _settled(self, state: Any, index: int) -> Any:
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
            if not self.serde.is_steady and (again := self.serde.serialize(settled)) != data:
                raise ValueError(
                    f"what it gives back for {short_repr(data)} becomes {short_repr(again)}: "
                    "the state would change with each restart"
                )
        except KeyboardInterrupt:
            raise
        except BaseException as cause:
            raise self._serde_error(action, index, cause) from cause
        return settled

    def _other_state(self, cause: BaseException) -> str:
        """What may explain the error of a function: it was given another state than it made."""
        if self.initial is None or not isinstance(cause, AttributeError | TypeError):
            return ""
        try:
            made = self.initial()
            settled = self.serde.deserialize(self.serde.serialize(made))
            if settled == made or repr(settled) == repr(made):
                return ""
        except Exception:
            return ""  # the error of the function is what counts
        return (
            f"; serde {self.serde.name!r} makes {short_repr(settled)} of {short_repr(made)}, which "
            "initial() returned: the function is given the former from the second record on"
        )

    def _check_exact(self, results: list[Any]) -> None:
        """Find what would fail at the next checkpoint only, if it is still there then."""
        serde = self.serde
        if serde.passes_bytes or not serde.exact_types:
            return
        check = serde.check_column or serde.encode_column
        try:
            if check is not None:
                check(results)
                return
        except KeyboardInterrupt:
            raise
        except BaseException:
            pass  # some may be of other types, and were tried by themselves
        for index, state in enumerate(results):
            if type(state) in serde.exact_types:
                try:
                    serde.serialize(state)
                except Exception as cause:
                    raise self._serde_error("serialize", index, cause) from cause

    def _serde_error(self, action: str, index: int, cause: BaseException) -> SerdeError:
        return SerdeError(
            operator=self.label,
            serde=self.serde.name,
            action=action,
            field="value",
            record_index=index,
            cause=cause,
        )


def summing(node: k.Sum) -> Fold:
    """From 0."""
    return Fold(node, lambda value: 0 + value, add)


def reducing(node: k.Reduce) -> Fold:
    """From the first value."""
    return Fold(node, _first_value, node.function)


def aggregating(node: k.Aggregate) -> Fold:
    """From a state of its own."""
    initial, function = node.initial, node.function
    return Fold(node, lambda value: function(initial(), value), function, initial)


def _first_value(value: Any) -> Any:
    if value is None:
        raise ValueError(
            "the first value of a key is None, which is no state: filter such records out, or use "
            "aggregate"
        )
    return value
