"""Each value of a key once."""

from __future__ import annotations

from kstash.operators.calls import encode_values
from kstash.operators.flow import Flow
from kstash.operators.step import Scope, Stores
from kstash.topology import keyed_nodes as k


class NewValues:
    """Passes the first record of each value of a key on; the bytes of all are the key's state."""

    def __init__(self, node: k.Distinct) -> None:
        self.label = node.title
        self.name = node.name
        self.serde = node.value

    def on_batch(
        self,
        side: int,  # noqa: ARG002 - one parent
        keys: list[bytes],
        flow: Flow,
        stores: Stores,
        scope: Scope,
    ) -> None:
        """Look for each record's value among those that its key has had."""
        left, records = encode_values(flow, self.serde, keys, self.label, scope)
        if left is None:
            return
        live = stores.store(self.name).load([key for key, _ in records])
        mask: list[bool] = []
        for key, data in records:
            seen = live.get(key)
            mask.append(seen is None or data not in seen)
            if seen is None:
                live[key] = {data}
            else:
                seen.add(data)
        if (chosen := left.select(mask)) is not None:
            scope.out(chosen)
