"""Whole columns through user functions and serdes, at C speed.

A column is one `map()`; only when something raises does it matter which record it was, and then
the results so far tell: `list.extend` keeps what was made before the exception.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from types import NoneType
from typing import Any

import msgspec

from kstash.errors import OperatorError, SerdeError
from kstash.serdes import Serde, encode_json, int_text, json, raw

_encode_int = msgspec.json.Encoder().encode


def call_each(function: Callable[[Any], Any], column: Sequence[Any], operator: str) -> list[Any]:
    """Results of a user's function, in order.

    Raises:
        OperatorError: with the index in the column of the value that failed.
    """
    results: list[Any] = []
    try:
        results.extend(map(function, column))
    except KeyboardInterrupt:
        raise
    except BaseException as cause:  # SystemExit too: a worker must not end as if all was done
        raise OperatorError(operator, len(results), cause) from cause
    if len(results) != len(column):
        # `map` takes a StopIteration out of the function for its own end.
        failure = RuntimeError("the function raised StopIteration")
        raise OperatorError(operator, len(results), failure)
    return results


def serialize_column(
    serde: Serde[Any], column: list[Any], *, operator: str, field: str
) -> list[bytes | None]:
    """Encoded column; None stays None.

    Args:
        serde: its serializer is not given None.
        column: live keys or values; not changed, and returned as it is where nothing is to do.
        operator: for errors.
        field: `key` or `value`, for errors.

    Raises:
        SerdeError: with the index in the column of what failed.
    """
    types = set(map(type, column))
    if serde is int_text and types == {int}:
        # A third of the time of the serde's own function, which must check the type.
        with suppress(ValueError):  # more digits than Python writes: the serde tells which one
            return list(map(_encode_int, column))
    if serde is raw and types <= {bytes, NoneType}:
        return column
    has_none = NoneType in types
    convert = encode_json if serde is json else serde.serialize
    encoded = _convert(serde, convert, "serialize", column, has_none, operator, field)
    if serde is json and b"null" in b"".join(filter(None, encoded)):
        # Only then may it be that something was lost.
        encoded = _convert(serde, serde.serialize, "serialize", column, has_none, operator, field)
    for index, data in enumerate(encoded):
        # One look is enough to find a serializer that makes text.
        if data is not None:
            if not isinstance(data, bytes):
                failure = TypeError(f"the serializer returned {type(data).__name__}, not bytes")
                raise SerdeError(operator, serde.name, "serialize", field, index, failure)
            break
    return encoded


def deserialize_column(
    serde: Serde[Any], column: list[Any], *, operator: str, field: str
) -> list[Any]:
    """Live column of an encoded one; None stays None. Arguments as for `serialize_column`.

    Raises:
        SerdeError: with the index in the column of what failed.
    """
    if serde is raw:
        return column
    has_none = None in column
    return _convert(serde, serde.deserialize, "deserialize", column, has_none, operator, field)


def _convert(
    serde: Serde[Any],
    convert: Callable[[Any], Any],
    action: str,
    column: list[Any],
    has_none: bool,
    operator: str,
    field: str,
) -> list[Any]:
    results: list[Any] = []
    try:
        if has_none:
            results.extend(None if item is None else convert(item) for item in column)
        else:
            results.extend(map(convert, column))
    except KeyboardInterrupt:
        raise
    except BaseException as cause:
        raise SerdeError(operator, serde.name, action, field, len(results), cause) from cause
    if len(results) != len(column):
        failure = RuntimeError("the serde raised StopIteration")
        raise SerdeError(operator, serde.name, action, field, len(results), failure)
    return results
