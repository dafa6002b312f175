"""Whole columns through user functions and serdes, at C speed.

A column is one `map()`; only when something raises does it matter which record it was, and then
the results so far say it: `list.extend` keeps what was made before the exception, and the iterator
stands at the record after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import NoneType
from typing import Any

from kstash.errors import OperatorError, SerdeError
from kstash.serdes import Serde
from kstash.topology.record import DELETE, NOT_SENT, Deletion

Refuse = Callable[[Any], None]
"""Given the error of one record, raises it, or returns where the column goes on without it."""

Column = tuple[list[Any], list[int]]
"""One result for each record, and the indexes of refused records, which have None."""


def call_each(
    function: Callable[[Any], Any], column: Sequence[Any], operator: str, refuse: Refuse
) -> Column:
    """Results of a user's function, in order.

    Args:
        function: called with each value.
        column: the values.
        operator: for errors.
        refuse: given an `OperatorError` with the index in the column of a value that failed.
    """

    def error(index: int, cause: BaseException) -> OperatorError:
        return OperatorError(operator, index, cause=cause)

    return _through(function, column, error, refuse)


def serialize_column(
    serde: Serde[Any], column: list[Any], *, operator: str, field: str, refuse: Refuse
) -> Column:
    """Encoded column; None stays None.

    Args:
        serde: its serializer is not given None.
        column: live keys or values; not changed, and returned as it is where nothing is to do.
        operator: for errors.
        field: `key` or `value`, for errors.
        refuse: given a `SerdeError` with the index in the column of what failed.
    """
    types = set(map(type, column))
    has_none = NoneType in types
    types.discard(NoneType)
    if serde.passes_bytes and types <= {bytes}:
        return column, []
    error = _errors(operator, serde.name, "serialize", field)
    made: Column | None = None
    serialize = serde.serialize
    if Deletion in types:
        serialize = partial(_serialize_others, serde)
    elif serde.encode_column is not None and (not serde.exact_types or types <= serde.exact_types):
        made = _at_once(serde.encode_column, column, has_none=has_none)
    if made is None:
        made = _through(serialize, column, error, refuse, has_none=has_none)
    for data in made[0]:
        # One value is enough to find a serializer that makes text.
        if data is not None:
            return made if isinstance(data, bytes) else _without_others(made, error, refuse)
    return made


def _serialize_others(serde: Serde[Any], value: Any) -> bytes:
    """Also of a serde that would make a text of anything."""
    if value is DELETE:
        raise TypeError(NOT_SENT)
    return serde.serialize(value)


def deserialize_column(
    serde: Serde[Any], column: list[Any], *, operator: str, field: str, refuse: Refuse
) -> Column:
    """Live column of an encoded one; None stays None. Arguments as for `serialize_column`."""
    if serde.passes_bytes:
        return column, []
    has_none = None in column
    if serde.decode_column is not None:
        made = _at_once(serde.decode_column, column, has_none=has_none)
        if made is not None:
            return made
    error = _errors(operator, serde.name, "deserialize", field)
    return _through(serde.deserialize, column, error, refuse, has_none=has_none)


_Error = Callable[[int, BaseException], Exception]
"""Makes the error of a record of its index and of what was raised."""


def _errors(operator: str, serde: str, action: str, field: str) -> _Error:
    return lambda index, cause: SerdeError(
        operator, serde, action=action, field=field, record_index=index, cause=cause
    )


def _through(
    function: Callable[[Any], Any],
    column: Sequence[Any],
    error: _Error,
    refuse: Refuse,
    *,
    has_none: bool = False,
) -> Column:
    """Results of a function; where it raises, the column goes on after that record if it may."""
    results: list[Any] = []
    refused: list[int] = []
    rest = iter(column)
    while True:
        cause: BaseException | None = None
        try:
            if has_none:
                results.extend(None if item is None else function(item) for item in rest)
            else:
                results.extend(map(function, rest))
        except KeyboardInterrupt:
            raise
        except BaseException as raised:  # SystemExit too: a worker must not end as if all was done
            cause = raised
        else:
            if len(results) == len(column):
                return results, refused
            # `map` takes a StopIteration out of the function for its own end.
            cause = RuntimeError("the function raised StopIteration")
        refuse(error(len(results), cause))
        refused.append(len(results))
        results.append(None)


def _at_once(
    codec: Callable[[list[Any]], list[Any]], column: list[Any], *, has_none: bool
) -> Column | None:
    """What a serde makes of a whole column; None: each record is to be converted alone."""
    try:
        if not has_none:
            made = codec(column)
        else:
            present = iter(codec([item for item in column if item is not None]))
            made = [None if item is None else next(present) for item in column]
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None
    return (made, []) if len(made) == len(column) else None


def _without_others(made: Column, error: _Error, refuse: Refuse) -> Column:
    """Refuse what a serializer made that is not bytes."""
    encoded, refused = list(made[0]), list(made[1])
    for index, data in enumerate(encoded):
        if data is not None and not isinstance(data, bytes):
            cause = TypeError(f"the serializer returned {type(data).__name__}, not bytes")
            refuse(error(index, cause))
            refused.append(index)
            encoded[index] = None
    return encoded, refused
