"""Folds: a state for each key, which a function makes anew of the state and each value.

A state is what its serde makes of it, at once and not only after a restore: a function is given
the same state whether the task was restarted or not, and what a serde cannot keep is an error at
its record. So no output shares a mutable object with the live state either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from kstash.errors import OperatorError, SerdeError
from kstash.escape import short_repr
from kstash.operators.calls import Kept, kept, null_hint, refuse
from kstash.operators.flow import Flow
from kstash.operators.step import Scope, Stores
from kstash.topology import keyed_nodes as k
from kstash.topology.record import DELETE
from kstash.topology.user_code import function_place


class ColumnFold(Protocol):
    """The code of a fold over columns, with or without windows."""

    def fold(self, live: dict[bytes, Any], keys: list[bytes], flow: Flow, scope: Scope) -> Kept:
        """Update the states of records in order.

        Args:
            live: states by key; what is not there, or None, is none yet. A state of None that is
                left there is deleted.
            keys: of the records: encoded, or whatever else states are kept by.
            flow: the records.
            scope: decides about those that fail.

        Returns:
            The records that did not fail, and the state after each of them; None: it is deleted.
        """

    def shown(self, states: list[Any]) -> list[Any]:
        """What is sent of states; None is a tombstone."""


class Folding:
    """A fold of each key: the states that records make are sent on."""

    def __init__(self, node: k.Stateful, column_fold: ColumnFold) -> None:
        self.name = node.name
        self.column_fold = column_fold

    def on_batch(
        self,
        side: int,  # noqa: ARG002 - one parent
        keys: list[bytes],
        flow: Flow,
        stores: Stores,
        scope: Scope,
    ) -> None:
        """Update the state of each record's key; what is shown of the states are the new values."""
        live = stores.store(self.name).load(keys)
        left, states = self.column_fold.fold(live, keys, flow, scope)
        if left is not None:
            scope.out(left.with_values(self.column_fold.shown(states)))


class Counting:
    """How many records there have been."""

    def fold(self, live: dict[bytes, Any], keys: list[bytes], flow: Flow, scope: Scope) -> Kept:  # noqa: ARG002 - it cannot fail
        """Count each record."""
        counts: list[int] = []
        get, append = live.get, counts.append
        for key in keys:
            live[key] = number = get(key, 0) + 1
            append(number)
        return flow, counts

    def shown(self, states: list[Any]) -> list[Any]:
        """The numbers."""
        return states


class Fold:
    """A state that a function makes anew of itself and of each value.

    Args:
        node: with the serde of the state.
        first: makes the first state of the first value.
        function: `(state, value) -> state`.
        merge: `(state, state) -> state` of two windows that become one, the earlier one first;
            None: none ever do.
        initial: makes what `first` begins with; None: that is the value itself.
        of_state: makes what is sent of a state; None: it is the state.
    """

    def __init__(
        self,
        node: k.Stateful,
        first: Callable[[Any], Any],
        function: Callable[[Any, Any], Any],
        *,
        merge: Callable[[Any, Any], Any] | None,
        initial: Callable[[], Any] | None = None,
        of_state: Callable[[Any], Any] | None = None,
    ) -> None:
        self.label = node.title
        self.serde = node.state
        self.first = first
        self.function = function
        self.merge = merge
        self.initial = initial
        self.of_state = of_state

    def shown(self, states: list[Any]) -> list[Any]:
        """What is made of each."""
        of_state = self.of_state
        if of_state is None:
            return states
        return [None if state is None else of_state(state) for state in states]

    def fold(self, live: dict[bytes, Any], keys: list[bytes], flow: Flow, scope: Scope) -> Kept:
        """Call the function for each record, and keep what the serde makes of what it returns."""
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
            except BaseException as cause:
                error = self.error(cause, len(results))
                if isinstance(error, OperatorError):
                    error.detail += null_hint(cause, flow.live_values[len(results)])
            else:
                break
            refuse(scope, flow, error)
            refused.append(len(results))
            results.append(None)
        if not scope.may_skip:
            self.check_exact(results)
        return kept(flow, (results, refused))

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
                live[key] = self.to_keep(new, len(results))
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
                    state = self.settled(state, len(results))
                new = self.function(state, value)
            live[key] = self.to_keep(new, len(results))
            results.append(None if new is DELETE else new)

    def is_exact(self, state: Any) -> bool:
        """Whether a state comes back from the serde as it is."""
        return type(state) in self.serde.exact_types

    def error(self, cause: BaseException, index: int) -> OperatorError | SerdeError:
        """What was raised for a record, as its error."""
        if isinstance(cause, SerdeError):
            return cause
        error = OperatorError(self.label, index, cause=cause)
        error.detail += self._other_state(cause)
        return error

    def to_keep(self, new: Any, index: int) -> Any:
        """What stands for a new state until it is written back; None: it is to be deleted."""
        if new is DELETE:
            return None
        if new is None:
            raise ValueError(
                f"{function_place(self.function)} returned None, which is no state: return the "
                "new state, or kstash.DELETE to delete the state of the key"
            )
        return self.settled(new, index)

    def settled(self, state: Any, index: int) -> Any:
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

    def check_exact(self, results: list[Any]) -> None:
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
