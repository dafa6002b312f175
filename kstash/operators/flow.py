"""A batch inside a stage: columns that are decoded, encoded and carried only where needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, compress, count, islice, repeat
from typing import Any, Protocol, TypeVar

from kstash.ports.kafka import Headers
from kstash.serdes import Serde, raw
from kstash.topology.traits import ColumnSet

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
class Cut:
    """Those of others from a place on."""

    before: Trail
    start: int

    def origins(self) -> Iterator[int]:
        """The ones of before from there."""
        return islice(self.before.origins(), self.start, None)


@dataclass(slots=True)
class Expanded:
    """Of record i of others `counts[i]` were made."""

    before: Trail
    counts: Sequence[int]

    def origins(self) -> Iterator[int]:
        """Those of before, repeated."""
        return chain.from_iterable(map(repeat, self.before.origins(), self.counts))


@dataclass(slots=True)
class Placed:
    """Their origins are known: they were put in order by them, or are of one input of several."""

    known: Sequence[int]

    def origins(self) -> Iterator[int]:
        """As they are known."""
        return iter(self.known)


ENTERED = Entered()


def repeated(column: list[T], counts: Sequence[int]) -> list[T]:
    """Item i of a column of at least one `counts[i]` times, in their order."""
    assert len(column) == len(counts), (len(column), len(counts))
    each = counts[0]
    if counts.count(each) != len(counts):
        return list(chain.from_iterable(map(repeat, column, counts)))
    # As of most windows, and of functions that make one of each: by slices it is much faster.
    made = column * each
    for at in range(each):
        made[at::each] = column
    return made


@dataclass(slots=True)
class Flow:
    """Records between two steps. Columns are shared between branches and never changed.

    A column that nothing reads any more is None: a step asks for those that its node `reads`.

    Attributes:
        count: number of records, 1 or more.
        keys: live keys, or None: not decoded, or not needed any more.
        encoded: the keys under `key_serde` in canonical form, or None: not encoded.
        key_serde: serde of the keys.
        values: live values, or None.
        timestamps: Unix milliseconds, or None.
        headers: user headers; None also when no record has any.
        trail: how the records came about; a step that keeps all records hands it on.
        event_times: what the records say of stream time, in Unix milliseconds; None: as much as
            their timestamps. They are with the timestamps, for nodes that read `ColumnSet.TIME`,
            and stay within the stage.
    """

    count: int
    keys: list[Any] | None
    encoded: list[bytes | None] | None
    key_serde: Serde[Any]
    values: list[Any] | None
    timestamps: list[int] | None
    headers: list[Headers | None] | None
    trail: Trail = ENTERED
    event_times: list[int] | None = None

    @property
    def live_keys(self) -> list[Any]:
        """The keys, which were decoded (`kstash.operators.calls.decode_keys`)."""
        assert self.keys is not None
        return self.keys

    @property
    def live_values(self) -> list[Any]:
        """The values, for a node that reads them."""
        assert self.values is not None
        return self.values

    @property
    def live_timestamps(self) -> list[int]:
        """The timestamps, for a node that reads them."""
        assert self.timestamps is not None
        return self.timestamps

    @property
    def times(self) -> list[int]:
        """What moves stream time, for a node that reads it."""
        return self.live_timestamps if self.event_times is None else self.event_times

    def origins(self) -> Iterator[int]:
        """Index in the stage's input batch of what each record was made of, rising."""
        return islice(self.trail.origins(), self.count)

    def origin_of(self, index: int) -> int:
        """Index in the stage's input batch of what record `index` was made of."""
        return next(islice(self.trail.origins(), index, None))

    def with_values(self, values: list[Any]) -> Flow:
        """The same records with other values."""
        # By hand: `dataclasses.replace` takes as long as a step of a small batch.
        return Flow(
            count=self.count,
            keys=self.keys,
            encoded=self.encoded,
            key_serde=self.key_serde,
            values=values,
            timestamps=self.timestamps,
            headers=self.headers,
            trail=self.trail,
            event_times=self.event_times,
        )

    def with_keys(self, keys: list[Any], serde: Serde[Any]) -> Flow:
        """The same records under other keys."""
        return Flow(
            count=self.count,
            keys=keys,
            encoded=None,
            key_serde=serde,
            values=self.values,
            timestamps=self.timestamps,
            headers=self.headers,
            trail=self.trail,
            event_times=self.event_times,
        )

    def with_times(self, timestamps: list[int], event_times: list[int] | None = None) -> Flow:
        """The same records at other times; without `event_times` these are the timestamps."""
        return Flow(
            count=self.count,
            keys=self.keys,
            encoded=self.encoded,
            key_serde=self.key_serde,
            values=self.values,
            timestamps=timestamps,
            headers=self.headers,
            trail=self.trail,
            event_times=event_times,
        )

    def select(self, mask: Sequence[object]) -> Flow | None:
        """The records for which the mask is true; None when there are none."""
        count = len(list(compress(mask, mask)))
        if count == self.count:
            return self
        if not count:
            return None

        def part(column: list[T] | None) -> list[T] | None:
            return None if column is None else list(compress(column, mask))

        return Flow(
            count=count,
            keys=part(self.keys),
            encoded=part(self.encoded),
            key_serde=self.key_serde,
            values=part(self.values),
            timestamps=part(self.timestamps),
            headers=part(self.headers),
            trail=Selected(self.trail, mask),
            event_times=part(self.event_times),
        )

    def part(self, start: int, end: int) -> Flow:
        """The records from `start` to before `end`, at least one."""
        if end - start == self.count:
            return self

        def cut(column: list[T] | None) -> list[T] | None:
            return None if column is None else column[start:end]

        return Flow(
            count=end - start,
            keys=cut(self.keys),
            encoded=cut(self.encoded),
            key_serde=self.key_serde,
            values=cut(self.values),
            timestamps=cut(self.timestamps),
            headers=cut(self.headers),
            trail=Cut(self.trail, start),
            event_times=cut(self.event_times),
        )

    def expand(self, values: list[Any], counts: list[int], *, with_keys: bool) -> Flow:
        """New values, at least one, `counts[i]` of them made of record i."""

        def each(column: list[T] | None) -> list[T] | None:
            return None if column is None else repeated(column, counts)

        return Flow(
            count=len(values),
            keys=each(self.keys) if with_keys else None,
            encoded=each(self.encoded) if with_keys else None,
            key_serde=self.key_serde,
            values=values,
            timestamps=each(self.timestamps),
            headers=each(self.headers),
            trail=Expanded(self.trail, counts),
            event_times=each(self.event_times),
        )


WITHOUT_RECORDS = Flow(
    count=0, keys=[], encoded=[], key_serde=raw, values=[], timestamps=[], headers=None
)
"""Stands for the records where time has come without any."""


def merge_flows(flows: Sequence[Flow], read: ColumnSet) -> Flow:
    """All records of several flows of one input batch, in the order of their origins.

    What came of one input record stays together, the part of an earlier flow first: this is the
    order of batches of one record, so it does not depend on where a batch ends.

    Args:
        flows: at least one; of the keys they have the same column.
        read: columns that are read after this.
    """
    origins = [origin for flow in flows for origin in flow.origins()]
    order = sorted(range(len(origins)), key=origins.__getitem__)

    def ordered(columns: list[list[T]]) -> list[T]:
        joined = list(chain.from_iterable(columns))
        return list(map(joined.__getitem__, order))

    def common(columns: list[list[T] | None], which: ColumnSet) -> list[T] | None:
        given = [column for column in columns if column is not None]
        return ordered(given) if which in read and len(given) == len(flows) else None

    serde = flows[0].key_serde
    encoded = [flow.encoded if flow.key_serde == serde else None for flow in flows]
    headers: list[Headers | None] | None = None
    if any(flow.headers is not None for flow in flows):
        headers = ordered([flow.headers or [None] * flow.count for flow in flows])
    times: list[int] | None = None
    if any(flow.event_times is not None for flow in flows):
        times = common([flow.event_times or flow.timestamps for flow in flows], ColumnSet.TIME)
    return Flow(
        count=len(origins),
        keys=common([flow.keys for flow in flows], ColumnSet.KEY),
        encoded=common(encoded, ColumnSet.KEY),
        key_serde=serde,
        values=common([flow.values for flow in flows], ColumnSet.VALUE),
        timestamps=common([flow.timestamps for flow in flows], ColumnSet.TIME),
        headers=headers,
        trail=Placed(ordered([origins])),
        event_times=times,
    )
