"""Folds record by record, for windows that are no columns: of several states they make one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import add
from typing import Any, NamedTuple, Protocol

from kstash.errors import OperatorError, SerdeError
from kstash.operators.fold import Fold, Folder
from kstash.operators.fold_functions import Collecting
from kstash.topology import keyed_nodes as k


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

    def error(self, cause: BaseException, index: int) -> OperatorError | SerdeError:
        """What `add` raised, as the error of the record."""

    def check(self, states: list[Any], indexes: list[int]) -> None:
        """Raise the error of the first of the records whose state cannot be kept."""


class SingleCount:
    """How many records there have been."""

    def add(self, states: Sequence[Any], value: Any, index: int, *, apart: bool) -> NewState:  # noqa: ARG002 - whatever it is
        """One more than in all of them."""
        number = sum(states) + 1
        return NewState(number, number)

    def error(self, cause: BaseException, index: int) -> OperatorError | SerdeError:  # noqa: ARG002 - it cannot fail
        """There is none."""
        raise cause

    def check(self, states: list[Any], indexes: list[int]) -> None:
        """All numbers can be kept."""


class SingleState:
    """A state that functions make anew.

    Args:
        fold: its functions, and the serde of the state.
        merge: `(state, state) -> state`; that of the earlier window stands first.
    """

    def __init__(self, fold: Fold, merge: Callable[[Any, Any], Any]) -> None:
        self.fold = fold
        self.merge = merge

    def add(self, states: Sequence[Any], value: Any, index: int, *, apart: bool) -> NewState:
        """Merge the states, and add the value; each of them is what the serde makes of it."""
        fold = self.fold
        if isinstance(fold, Collecting):
            value = fold.encoded(value, index)
        state = None
        for other in states:
            own = fold.settled(other, index) if apart and not fold.is_exact(other) else other
            state = own if state is None else fold.to_keep(self.merge(state, own), index)
        new = fold.first(value) if state is None else fold.function(state, value)
        if fold.is_exact(new) and not apart:
            return NewState(new, new)
        kept = fold.to_keep(new, index)
        return NewState(kept, None if kept is None else new)

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


def single(fold: k.Stateful, folder: Folder) -> SingleFold:
    """A fold record by record.

    Args:
        fold: its node.
        folder: its code for columns.
    """
    if isinstance(folder, Fold):
        return SingleState(folder, _merge_of(fold))
    return SingleCount()


def _merge_of(fold: k.Stateful) -> Callable[[Any, Any], Any]:
    if isinstance(fold, k.Reduce):
        return fold.function
    if isinstance(fold, k.Aggregate):
        return fold.merge or _never
    return _MERGES[type(fold)]


def _never(one: Any, other: Any) -> Any:  # noqa: ARG001 - whatever they are
    raise AssertionError("these windows never become one")


def _merged_means(one: tuple[int, Any], other: tuple[int, Any]) -> tuple[int, Any]:
    return one[0] + other[0], one[1] + other[1]


_MERGES: dict[type[k.Stateful], Callable[[Any, Any], Any]] = {
    k.Sum: add,
    k.Min: min,
    k.Max: max,
    k.Mean: _merged_means,
    k.Collect: add,
}
