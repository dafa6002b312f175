"""Folds record by record, for windows that are no columns: of several states they make one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from kstash.errors import OperatorError, SerdeError
from kstash.operators.fold import ColumnFold, Fold
from kstash.operators.fold_functions import Collecting


class NewState(NamedTuple):
    """The state of a window after a record.

    Attributes:
        state: what is kept; None: it is deleted.
        sent: the same as an object of its own, which may be sent.
    """

    state: Any
    sent: Any


class SingleFold(Protocol):
    """A fold that is given one record after the other."""

    def add(self, states: Sequence[Any], value: Any, index: int, *, apart: bool) -> NewState:
        """The state after a record.

        Args:
            states: of the windows of which it makes one, the earliest first; none for a new one.
            value: of the record.
            index: of the record in its flow, for errors.
            apart: whether the states must stay as they are, whatever the functions do with them.
        """

    def add_to_each(
        self, states: Sequence[Any], value: Any, index: int, *, apart: bool
    ) -> tuple[list[Any], list[Any]]:
        """The states of several windows after a record that is in each of them.

        Args:
            states: of the windows; None: there is none yet.
            value: of the record.
            index: of the record in its flow, for errors.
            apart: as of `add`.

        Returns:
            For each window what is kept, None: it is deleted; and what may be sent of it.
        """

    def of_all(self, values: Sequence[Any], index: int) -> NewState:
        """The state after values, one or more, in order.

        Args:
            values: objects of its own.
            index: of the record in its flow that asks for it, for errors.
        """

    def copied(self, state: Any, index: int) -> Any:
        """A state that may be changed where the given one may not."""

    def error(self, cause: BaseException, index: int) -> OperatorError | SerdeError:
        """What one of these raised, as the error of the record."""

    def check(self, states: list[Any], indexes: list[int]) -> None:
        """Raise the error of the first of the records whose state cannot be kept."""


class SingleCount:
    """How many records there have been."""

    def add(self, states: Sequence[Any], value: Any, index: int, *, apart: bool) -> NewState:  # noqa: ARG002 - whatever it is
        """One more than in all of them."""
        number = sum(states) + 1
        return NewState(number, number)

    def add_to_each(
        self,
        states: Sequence[Any],
        value: Any,  # noqa: ARG002 - whatever it is
        index: int,  # noqa: ARG002 - it cannot fail
        *,
        apart: bool,  # noqa: ARG002 - numbers stay as they are
    ) -> tuple[list[Any], list[Any]]:
        """One more in each."""
        numbers = [number + 1 for number in states]
        return numbers, numbers

    def of_all(self, values: Sequence[Any], index: int) -> NewState:  # noqa: ARG002 - it cannot fail
        """As many as there are."""
        return NewState(len(values), len(values))

    def copied(self, state: Any, index: int) -> Any:  # noqa: ARG002 - it cannot fail
        """Nobody changes a number."""
        return state

    def error(self, cause: BaseException, index: int) -> OperatorError | SerdeError:  # noqa: ARG002 - it cannot fail
        """There is none."""
        raise cause

    def check(self, states: list[Any], indexes: list[int]) -> None:
        """All numbers can be kept."""


class SingleState:
    """A state that functions make anew.

    Args:
        fold: its functions, and the serde of the state.
    """

    def __init__(self, fold: Fold) -> None:
        self.fold = fold
        self.merge = fold.merge or _never

    def add(self, states: Sequence[Any], value: Any, index: int, *, apart: bool) -> NewState:
        """Merge the states, and add the value; each of them is what the serde makes of it."""
        fold = self.fold
        if isinstance(fold, Collecting):
            value = fold.encoded(value, index)
        state = None
        for other in states:
            own = self.copied(other, index) if apart else other
            state = own if state is None else fold.to_keep(self.merge(state, own), index)
        new = fold.first(value) if state is None else fold.function(state, value)
        if fold.is_exact(new) and not apart:
            return NewState(new, new)
        kept = fold.to_keep(new, index)
        return NewState(kept, None if kept is None else new)

    def add_to_each(
        self, states: Sequence[Any], value: Any, index: int, *, apart: bool
    ) -> tuple[list[Any], list[Any]]:
        """Add the value to each."""
        fold = self.fold
        if isinstance(fold, Collecting):
            value = fold.encoded(value, index)
        exact_types, first, function = fold.serde.exact_types, fold.first, fold.function
        kept: list[Any] = []
        sent: list[Any] = []
        for state in states:
            if state is None:
                new = first(value)
            elif apart:
                new = function(self.copied(state, index), value)
            else:
                new = function(state, value)
            if type(new) in exact_types and not apart:
                kept.append(new)
                sent.append(new)
            else:
                kept.append(fold.to_keep(new, index))
                sent.append(None if kept[-1] is None else new)
        return kept, sent

    def of_all(self, values: Sequence[Any], index: int) -> NewState:
        """Add one value after the other, the first one to none."""
        fold = self.fold
        if isinstance(fold, Collecting):
            values = [fold.encoded(value, index) for value in values]
        exact_types = fold.serde.exact_types
        state = sent = None
        for value in values:
            new = fold.first(value) if state is None else fold.function(state, value)
            if type(new) in exact_types:
                state = sent = new
            else:
                state = fold.to_keep(new, index)
                sent = None if state is None else new
        return NewState(state, sent)

    def copied(self, state: Any, index: int) -> Any:
        """What the serde makes of it, unless it is a value like a number, or deleted."""
        fold = self.fold
        return state if state is None or fold.is_exact(state) else fold.settled(state, index)

    def error(self, cause: BaseException, index: int) -> OperatorError | SerdeError:
        """With the place of the record."""
        return self.fold.error(cause, index)

    def check(self, states: list[Any], indexes: list[int]) -> None:
        """Those that were taken as they are, all at once."""
        try:
            self.fold.check_exact(states)
        except SerdeError as error:
            error.record_index = indexes[error.record_index]
            raise


def single(column_fold: ColumnFold) -> SingleFold:
    """A fold record by record.

    Args:
        column_fold: its code for columns.
    """
    return SingleState(column_fold) if isinstance(column_fold, Fold) else SingleCount()


def _never(one: Any, other: Any) -> Any:  # noqa: ARG001 - whatever they are
    raise AssertionError("these windows never become one")
