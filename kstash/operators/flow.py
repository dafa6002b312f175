"""A batch inside a stage: columns that are decoded, encoded and carried only where needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, compress, count, islice, repeat
from typing import Any, Protocol, TypeVar

from kstash.errors import SerdeError
from kstash.operators.columns import deserialize_column, serialize_column
from kstash.ports.kafka import Headers
from kstash.serdes import Serde

T = TypeVar("T")


class Trail(Protocol):
    """How the records of a flow came about: walked back on an error and at a merge only."""

    def origins(self) -> Iterator[int]:
        """For each record, the index of what it was made of in the stage's input batch, rising.

        It may go on after the last record.
        """


class Entered:
    """They are the stage's input batch."""

    def origins(self) -> Iterator[int]:
        """Each is its own."""
        return count()


@dataclass(slots=True)
class Selected:
    """Those of others for which a mask is true."""

    before: Trail
    mask: Sequence[object]

    def origins(self) -> Iterator[int]:
        """The selected ones of before."""
        return compress(self.before.origins(), self.mask)


@dataclass(slots=True)
class Expanded:
    """Of record i of others `counts[i]` were made."""

    before: Trail
    counts: Sequence[int]

    def origins(self) -> Iterator[int]:
        """Those of before, repeated."""
        return chain.from_iterable(map(repeat, self.before.origins(), self.counts))


@dataclass(slots=True)
class Merged:
    """They were put in order by their origins, which are known for that reason."""

    known: Sequence[int]

    def origins(self) -> Iterator[int]:
        """As they were sorted."""
        return iter(self.known)


ENTERED = Entered()


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
        trail: how the records came about; one step that keeps all records hands it on.
    """

    count: int
    keys: list[Any] | None
    encoded: list[bytes | None] | None
    key_serde: Serde[Any]
    values: list[Any] | None
    timestamps: list[int]
    headers: list[Headers | None] | None
    trail: Trail = ENTERED

    def origins(self) -> Iterator[int]:
        """Index in the stage's input batch of what each record was made of, rising."""
        return islice(self.trail.origins(), self.count)

    def origin_of(self, index: int) -> int:
        """Index in the stage's input batch of what record `index` was made of."""
        return next(islice(self.trail.origins(), index, None))

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
            self.trail,
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
            Selected(self.trail, mask),
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
            Expanded(self.trail, counts),
        )


def merge_flows(flows: list[Flow], operator: str, *, with_keys: bool, with_values: bool) -> Flow:
    """All records of several flows of one input batch, in the order of their origins.

    What came of one input record stays together, the part of an earlier flow first: this is the
    order of batches of one record, so it does not depend on where a batch ends.

    Raises:
        SerdeError: a key was not decoded yet and cannot be; the index is that of its origin.
    """
    origins = [origin for flow in flows for origin in flow.origins()]
    order = sorted(range(len(origins)), key=origins.__getitem__)

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
            keys = ordered([_live_keys(flow, operator) for flow in flows])
    headers: list[Headers | None] | None = None
    if any(flow.headers is not None for flow in flows):
        headers = ordered([flow.headers or [None] * flow.count for flow in flows])
    return Flow(
        len(origins),
        keys,
        encoded,
        flows[0].key_serde,
        ordered([flow.values or [] for flow in flows]) if with_values else None,
        ordered([flow.timestamps for flow in flows]),
        headers,
        Merged(ordered([origins])),
    )


def _live_keys(flow: Flow, operator: str) -> list[Any]:
    try:
        return flow.live_keys(operator)
    except SerdeError as error:
        error.record_index = flow.origin_of(error.record_index)
        raise
