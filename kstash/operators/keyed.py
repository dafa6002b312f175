"""What operators that keep something for each key are made of."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import compress
from typing import Any, Protocol

from kstash.operators.calls import Kept, encode_keys
from kstash.operators.flow import Flow
from kstash.operators.step import Scope, Stores
from kstash.serdes import Serde
from kstash.topology import keyed_nodes as k


class KeyedLogic(Protocol):
    """What one operator does with the records of keys. It keeps all between batches in stores."""

    def on_batch(
        self,
        side: int,
        keys: list[bytes],
        flow: Flow,
        stores: Stores,
        scope: Scope,
    ) -> None:
        """Process records in order; none may depend on where the batch ends.

        What a record writes counts once all user code has returned for it, and nothing of it does
        where it fails (`scope.failed`). Live values that user code may change are given to it as
        copies where `scope.may_skip`.

        Args:
            side: which of the node's parents the records are from.
            keys: encoded, one for each record; never None.
            flow: the records: values, timestamps and headers, as far as the node reads them.
            stores: of the task, by name; those of the node are its own, one or several.
            scope: takes the results, by `flow.with_values` or `flow.expand`.
        """


class KeyedStep:
    """Finds the keys of records, and gives those that have one to the logic."""

    def __init__(self, node: k.Stateful, logic: KeyedLogic) -> None:
        self.label = node.title
        self.key_serde = node.key
        self.drops_nulls = not node.takes_nulls
        self.logic = logic

    def run(self, side: int, flow: Flow, scope: Scope) -> None:
        """Encode the keys; a record without a key has no state."""
        left, keys = keep_keyed(
            flow, self.key_serde, self.label, scope, drops_nulls=self.drops_nulls
        )
        if left is not None:
            self.logic.on_batch(side, keys, left, scope.stores, scope)


def keep_keyed(
    flow: Flow, serde: Serde[Any], operator: str, scope: Scope, *, drops_nulls: bool
) -> Kept:
    """The records that have a state, and the encoded key of each; others are dropped and counted.

    Args:
        flow: the records.
        serde: of the keys.
        operator: for errors.
        scope: decides about keys that cannot be encoded, and counts what is dropped.
        drops_nulls: whether null values are dropped as null keys are.

    Raises:
        SerdeError: a record failed, and is not skipped.
    """
    left, keys = encode_keys(flow, serde, operator, scope)
    if left is not None and _has_null(keys):
        left, keys = _without(left, keys, [key is not None for key in keys], k.NULL_KEY, scope)
    if left is not None and drops_nulls and _has_null(left.live_values):
        mask = [value is not None for value in left.live_values]
        left, keys = _without(left, keys, mask, k.NULL_VALUE, scope)
    return left, keys


def _has_null(column: Iterable[Any]) -> bool:
    # Not by `in`, which would ask values of users' types whether they are equal to None; and this
    # takes half of its time.
    return bool([1 for item in column if item is None])


def _without(flow: Flow, keys: list[Any], mask: list[bool], reason: str, scope: Scope) -> Kept:
    left = flow.select(mask)
    scope.dropped(reason, flow.count - (0 if left is None else left.count))
    return left, list(compress(keys, mask))
