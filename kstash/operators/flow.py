"""A batch inside a stage: columns that are decoded, encoded and carried only where needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, compress, repeat
from typing import Any, TypeVar

from kstash.operators.columns import deserialize_column, serialize_column
from kstash.ports.kafka import Headers
from kstash.serdes import Serde

T = TypeVar("T")


@dataclass(slots=True)
class Flow:
    """Records between two steps. Columns are shared between branches and never changed.

    Attributes:
        count: number of records, 1 or more.
        keys: live keys, or None: not decoded, or not needed any more.
        encoded: the keys under `key_serde` in canonical form, or None: not encoded.
        key_serde: serde of the keys.
        values: live values, or None: nobody looks at them.
        timestamps: Unix milliseconds.
        headers: user headers, or None when no record has any.
        origins: index in the stage's input batch of the record that each was made of, rising; None
            where no merge needs it.
    """

    count: int
    keys: list[Any] | None
    encoded: list[bytes | None] | None
    key_serde: Serde[Any]
    values: list[Any] | None
    timestamps: list[int]
    headers: list[Headers | None] | None
    origins: list[int] | None

    def live_keys(self, operator: str) -> list[Any]:
        """Decoded keys; decodes them at the first call."""
        if self.keys is None:
            assert self.encoded is not None
            self.keys = deserialize_column(
                self.key_serde, self.encoded, operator=operator, field="key"
            )
        return self.keys

    def encoded_keys(self, serde: Serde[Any], operator: str) -> list[bytes | None]:
        """Keys under a serde; encodes them at the first call for that serde."""
        if self.encoded is not None and self.key_serde == serde:
            return self.encoded
        encoded = serialize_column(serde, self.live_keys(operator), operator=operator, field="key")
        if self.key_serde == serde:
            self.encoded = encoded
        return encoded

    def with_values(self, values: list[Any]) -> Flow:
        """The same records with other values."""
        # By hand: `dataclasses.replace` takes as long as a step of a small batch.
        return Flow(
            self.count,
            self.keys,
            self.encoded,
            self.key_serde,
            values,
            self.timestamps,
            self.headers,
            self.origins,
        )

    def select(self, mask: Sequence[object]) -> Flow | None:
        """The records for which the mask is true; None when there are none."""
        timestamps = list(compress(self.timestamps, mask))
        if len(timestamps) == self.count:
            return self
        if not timestamps:
            return None

        def part(column: list[T] | None) -> list[T] | None:
            return None if column is None else list(compress(column, mask))

        return Flow(
            len(timestamps),
            part(self.keys),
            part(self.encoded),
            self.key_serde,
            part(self.values),
            timestamps,
            part(self.headers),
            part(self.origins),
        )

    def expand(self, values: list[Any], counts: list[int], *, with_keys: bool) -> Flow | None:
        """New values, `counts[i]` of them made of record i; None when there are none."""
        if not values:
            return None

        def repeated(column: list[T] | None) -> list[T] | None:
            if column is None:
                return None
            return list(chain.from_iterable(map(repeat, column, counts)))

        timestamps = repeated(self.timestamps)
        assert timestamps is not None
        return Flow(
            len(values),
            repeated(self.keys) if with_keys else None,
            repeated(self.encoded) if with_keys else None,
            self.key_serde,
            values,
            timestamps,
            repeated(self.headers),
            repeated(self.origins),
        )


def merge_flows(
    flows: list[Flow], operator: str, *, with_keys: bool, with_values: bool
) -> tuple[Flow, list[int]]:
    """All records of several flows of one input batch, in the order of their origins.

    What came of one input record stays together, the part of an earlier flow first: this is the
    order of batches of one record, so it does not depend on where a batch ends.

    Returns:
        The merged flow, and for each of its records the index in the flows put end to end.
    """
    origins = [origin for flow in flows for origin in flow.origins or ()]
    count = sum(flow.count for flow in flows)
    assert len(origins) == count, "a merge of branches needs origins"
    order = sorted(range(count), key=origins.__getitem__)

    def ordered(columns: list[list[T]]) -> list[T]:
        joined = list(chain.from_iterable(columns))
        return list(map(joined.__getitem__, order))

    keys: list[Any] | None = None
    encoded: list[bytes | None] | None = None
    if with_keys:
        serde = flows[0].key_serde
        columns = [flow.encoded for flow in flows if flow.key_serde == serde and flow.encoded]
        if len(columns) == len(flows):
            encoded = ordered(columns)
        else:
            keys = ordered([flow.live_keys(operator) for flow in flows])
    headers: list[Headers | None] | None = None
    if any(flow.headers is not None for flow in flows):
        headers = ordered([flow.headers or [None] * flow.count for flow in flows])
    merged = Flow(
        count,
        keys,
        encoded,
        flows[0].key_serde,
        ordered([flow.values or [] for flow in flows]) if with_values else None,
        ordered([flow.timestamps for flow in flows]),
        headers,
        ordered([flow.origins or [] for flow in flows]),
    )
    return merged, order
