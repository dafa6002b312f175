"""The nodes of windows that are the same for all keys, and how they are kept."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from typing import Any

from kstash.ports.state import StoreKind
from kstash.serdes import Serde
from kstash.topology.days import Days
from kstash.topology.intervals import interval_text
from kstash.topology.traits import (
    PART_RECORDS,
    STAMP_BYTES,
    KeyedStore,
    stamp,
    stamped_at_ms,
    time_store,
)
from kstash.topology.window_nodes import WindowFold, WindowKind
from kstash.topology.windowed import Windowed, by_start, windowed_by_start, windowed_by_time


class ByStart(WindowKind):
    """Windows of which the start says all: they are the same for all keys, and close in its order.

    None begins before 1970.
    """

    @property
    @abstractmethod
    def longest_ms(self) -> int:
        """No window is longer."""

    @property
    def most_around(self) -> int:
        """How many windows are around one time, at most."""
        return 1

    @abstractmethod
    def end_of(self, start_ms: int) -> int:
        """The end of the window that begins there, which does not hold it."""


@dataclass(frozen=True, slots=True)
class Aligned(ByStart):
    """Windows of one size that begin at multiples of a step: tumbling and hopping ones.

    Attributes:
        size_ms: from the start to the end of each, which it does not hold; 1 or more.
        advance_ms: from one start to the next, 1 to `size_ms`.
        offset_ms: where the first one begins; 0 or more, and less than `advance_ms`.
    """

    size_ms: int
    advance_ms: int
    offset_ms: int

    def __str__(self) -> str:
        """As they are declared, without an offset of 0."""
        kind, measures = "tumbling", [interval_text(self.size_ms)]
        if self.advance_ms != self.size_ms:
            kind, measures = "hopping", [*measures, interval_text(self.advance_ms)]
        if self.offset_ms:
            measures.append(f"offset={interval_text(self.offset_ms)}")
        return f"{kind}({', '.join(measures)})"

    @property
    def measures(self) -> dict[str, int | str]:
        """Size, step and offset."""
        return {
            "size_ms": self.size_ms,
            "advance_ms": self.advance_ms,
            "offset_ms": self.offset_ms,
        }

    @property
    def longest_ms(self) -> int:
        """All have one size."""
        return self.size_ms

    @property
    def most_around(self) -> int:
        """As many as begin within one size."""
        return -(-self.size_ms // self.advance_ms)

    def end_of(self, start_ms: int) -> int:
        """All have one size."""
        return start_ms + self.size_ms

    def result_key(self, key: Serde[Any]) -> Serde[Windowed[Any]]:
        """That of Kafka Streams' time windows."""
        return windowed_by_time(key, self.size_ms)


@dataclass(frozen=True, slots=True)
class Daily(ByStart):
    """Windows side by side, each of which is a day of a place: of 23, 24 or 25 hours.

    Attributes:
        zone: name of the time zone.
        days: of it.
        digest: of when they begin: by other rules a replay could give other windows.
    """

    zone: str
    days: Days = field(compare=False, repr=False)
    digest: str

    @property
    def rules(self) -> str:
        """When days begin there."""
        return self.digest

    def __str__(self) -> str:
        """After the zone."""
        return f"daily({self.zone})"

    @property
    def measures(self) -> dict[str, int | str]:
        """The time zone."""
        return {"zone": self.zone}

    @property
    def longest_ms(self) -> int:
        """Where a place changes sides of the date line, a day is missing: one is two days long."""
        return 2 * 24 * 60 * 60 * 1000

    def end_of(self, start_ms: int) -> int:
        """Where the next day begins."""
        return self.days.next_start(start_ms)

    def result_key(self, key: Serde[Any]) -> Serde[Windowed[Any]]:
        """The bytes of Kafka Streams' time windows; the end is that of the day."""
        return _windowed_by_day(key, self)


@cache
def _windowed_by_day(key: Serde[Any], windows: Daily) -> Serde[Windowed[Any]]:
    return windowed_by_start(key, f"one day of {windows.zone}", windows.end_of)


@dataclass(frozen=True, slots=True, eq=False)
class AlignedFold(WindowFold[ByStart]):
    """A state for each key and aligned window, which lie by start, and then by key."""

    @property
    def closes_after_ms(self) -> int:
        """Size and grace."""
        return self.windows.longest_ms + self.grace_ms

    @property
    def sends_in_parts(self) -> bool:
        """Where one record may send any number of results: closes windows, or is in many."""
        return self.is_final or self.is_wide

    @property
    def is_wide(self) -> bool:
        """Whether one record may be in more windows than a part has results."""
        return self.windows.most_around > PART_RECORDS

    @property
    def stores(self) -> tuple[KeyedStore, ...]:
        """The windows, and how far time has come."""
        fold = self.fold
        key, value = by_start(fold.key, self.windows.end_of), timed(fold.state)
        windows = KeyedStore(
            name=self.name,
            verb=fold.verb,
            key=key,
            value=value,
            kind=StoreKind.ORDERED,
            show=itemgetter(0),
            detail=self.detail,
            holds="windows",
        )
        return (windows, time_store(self.name), *self.unsent_stores)


Aligned.node = Daily.node = AlignedFold


def timed(state: Serde[Any]) -> Serde[tuple[Any, int]]:
    """The serde of states that stand with the largest timestamp of what they were made of."""
    return Serde(
        f"timestamp, {state.name}",
        lambda timed: stamp(timed[1]) + state.serialize(timed[0]),
        lambda data: (state.deserialize(data[STAMP_BYTES:]), stamped_at_ms(data)),
    )
