"""User code on the records of a flow, and what is left of it where some of them fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import compress
from typing import Any

from kstash.errors import OperatorError
from kstash.operators.columns import Column, call_each, deserialize_column, serialize_column
from kstash.operators.flow import Flow, merge_flows
from kstash.operators.step import Decision, RecordError, Scope
from kstash.serdes import Serde
from kstash.topology.record import Record
from kstash.topology.traits import ColumnSet

Kept = tuple[Flow | None, list[Any]]
"""The records that did not fail, None where none is left, and one result for each."""


def call(
    function: Callable[[Any], Any], flow: Flow, column: Sequence[Any], operator: str, scope: Scope
) -> Kept:
    """Call a user's function for each record of a flow.

    Args:
        function: called with one item.
        flow: the records.
        column: an item of each record.
        operator: for errors.
        scope: decides about records that fail.

    Raises:
        OperatorError: a record failed, and is not skipped.
    """
    return kept(flow, call_each(function, column, operator, partial(_refuse_call, scope, flow)))


def _refuse_call(scope: Scope, flow: Flow, error: OperatorError) -> None:
    if flow.values is not None:
        error.detail += null_hint(error.cause, flow.values[error.record_index])
    refuse(scope, flow, error)


def null_hint(cause: BaseException, value: object) -> str:
    """What may explain the error of a function: it was given a tombstone.

    Args:
        cause: what it raised.
        value: of the record, which may be a `Record` in itself.
    """
    if isinstance(value, Record):
        value = value.value
    if value is not None or not isinstance(cause, TypeError | AttributeError):
        return ""
    return (
        "; the value is None, a tombstone: in a topic that is a null value, the delete of its key, "
        "and windows of sessions with emit='update' send one of a session that has become part of "
        "another. Let the function expect None, or filter(lambda value: value is not None) leaves "
        "such records out"
    )


def decode_keys(flow: Flow, operator: str, scope: Scope) -> Flow | None:
    """The flow with live keys: itself, unless records fail. They are decoded once.

    Raises:
        SerdeError: a record failed, and is not skipped.
    """
    if flow.keys is not None:
        return flow
    assert flow.encoded is not None
    column = deserialize_column(
        flow.key_serde,
        flow.encoded,
        operator=operator,
        field="key",
        refuse=partial(refuse, scope, flow),
    )
    left, keys = kept(flow, column)
    if left is not None:
        left.keys = keys
    return left


def encode_keys(flow: Flow, serde: Serde[Any], operator: str, scope: Scope) -> Kept:
    """The keys of a flow under a serde; those under its own are encoded once.

    Raises:
        SerdeError: a record failed, and is not skipped.
    """
    if flow.encoded is not None and flow.key_serde == serde:
        return flow, flow.encoded
    live = decode_keys(flow, operator, scope)
    if live is None:
        return None, []
    assert live.keys is not None
    column = serialize_column(
        serde, live.keys, operator=operator, field="key", refuse=partial(refuse, scope, live)
    )
    left, encoded = kept(live, column)
    if left is not None and left.key_serde == serde:
        left.encoded = encoded
    return left, encoded


def encode_values(
    flow: Flow, serde: Serde[Any], keys: list[bytes], operator: str, scope: Scope
) -> Kept:
    """(Key, encoded value) of each record, for what is kept of values by key.

    Args:
        flow: the records.
        serde: of their values.
        keys: encoded, one for each record.
        operator: for errors.
        scope: decides about records that fail.

    Raises:
        SerdeError: a record failed, and is not skipped.
    """
    encoded, refused = serialize_column(
        serde,
        flow.live_values,
        operator=operator,
        field="value",
        refuse=partial(refuse, scope, flow),
    )
    return kept(flow, (list(zip(keys, encoded, strict=True)), refused))


def join(flows: Sequence[Flow], read: ColumnSet, operator: str, scope: Scope) -> Flow | None:
    """Several flows of one batch as one, in the order of what they were made of.

    Args:
        flows: at least one.
        read: columns that are read after this.
        operator: for errors.
        scope: decides about records that fail.

    Raises:
        SerdeError: a key must be decoded for this, and cannot be, and the record is not skipped.
    """
    if len(flows) == 1:
        return flows[0]
    serde = flows[0].key_serde
    if ColumnSet.KEY in read and not all(f.key_serde == serde and f.encoded for f in flows):
        flows = [left for flow in flows if (left := decode_keys(flow, operator, scope)) is not None]
    return merge_flows(flows, read) if flows else None


def refuse(scope: Scope, flow: Flow, error: RecordError) -> None:
    """Raise the error of a record, unless it is skipped."""
    if scope.failed(flow, error) is Decision.FAIL:
        raise error


def kept(flow: Flow, column: Column) -> Kept:
    """The records of a column that were not refused, and their results."""
    results, refused = column
    if not refused:
        return flow, results
    mask = [True] * flow.count
    for index in refused:
        mask[index] = False
    return flow.select(mask), list(compress(results, mask))
