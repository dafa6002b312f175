"""What operators that keep something for each key are made of."""

from __future__ import annotations

from itertools import compress
from typing import Any, Protocol

from kstash.errors import OperatorError
from kstash.operators.calls import encode_keys, refuse
from kstash.operators.flow import Flow
from kstash.operators.step import Scope, Stores
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
        self.logic = logic

    def run(self, side: int, flow: Flow, scope: Scope) -> None:
        """Encode the keys; a record without a key has no state."""
        left, keys = encode_keys(flow, self.key_serde, self.label, scope)
        if left is not None and None in keys:
            left, keys = self._with_keys(left, keys, scope)
        if left is not None:
            self.logic.on_batch(side, keys, left, scope.stores, scope)

    def _with_keys(
        self, flow: Flow, keys: list[Any], scope: Scope
    ) -> tuple[Flow | None, list[Any]]:
        for index, key in enumerate(keys):
            if key is None:
                cause = ValueError("the key is None, which has no state: filter such records out")
                refuse(scope, flow, OperatorError(self.label, index, cause=cause))
        mask = [key is not None for key in keys]
        return flow.select(mask), list(compress(keys, mask))
