"""The nodes of windows: a fold for each key and window; see `kstash.topology.nodes`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from typing import Any, ClassVar, Generic, Literal, TypeVar

from kstash.ports.state import StoreKind
from kstash.serdes import Serde
from kstash.topology.days import Days
from kstash.topology.intervals import interval_text
from kstash.topology.keyed_nodes import NULL_KEY, NULL_VALUE, Stateful
from kstash.topology.nodes import Node
from kstash.topology.traits import (
    PART_RECORDS,
    STAMP_BYTES,
    ColumnSet,
    FlushReason,
    KeyedStore,
    stamp,
    stamped_at_ms,
    time_store,
)
from kstash.topology.window_places import unsent_stores
from kstash.topology.windowed import Windowed, by_start, windowed_by_start, windowed_by_time

Emit = Literal["update", "final"]
"""What windows send; see `KeyedStream.window`."""

DROPS = (NULL_KEY, NULL_VALUE, "late", "no_window")
"""Why a record is dropped, or a record and a window that it missed: each is a label of a metric."""

LATE = "late"
"""The output of the records that came too late."""


class Windows(ABC):
    """A kind of windows with its measures, as `KeyedStream.window` takes it.

    `kstash.tumbling` and the functions beside it make them; there are no others.
    """

    @abstractmethod
    def __str__(self) -> str:
        """With all that the contents of a store depend on: it is compared between programs."""


class WindowKind(Windows):
    """What the engine knows of windows, and completion does not show to users.

    Attributes:
        node: the class of the nodes that fold by such windows.
        emits: what they can send; the first one by default.
        goes_by_time: whether records can be too late for them.
    """

    node: ClassVar[type[WindowFold[Any]]]
    emits: ClassVar[tuple[Emit, ...]] = ("update", "final")
    goes_by_time: ClassVar[bool] = True

    @abstractmethod
    def result_key(self, key: Serde[Any]) -> Serde[Any]:
        """The serde of the keys of results, for one of the keys of records."""

    def problem(self, fold: Stateful) -> str | None:
        """Why a fold cannot be over these windows; None: it can."""
        if fold.merging == "given":
            return "merge= is for sessions, of which two may become one: these windows never do"
        return None

    @property
    def rules(self) -> str:
        """What else decides where they begin, in a word: it is part of the program."""
        return ""


W = TypeVar("W", bound=WindowKind)


@dataclass(frozen=True, slots=True, eq=False)
class WindowFold(Node, Generic[W]):
    """A state for each key and window.

    Attributes:
        fold: what becomes of the values of a window: a node that stands in no graph.
        windows: which there are.
        grace_ms: how much later than its end a window closes.
        is_final: whether each window sends one result, when it is closed, and not one for each of
            its records.
        idle_timeout_ms: how long no record has reached it when all of its windows are closed; None:
            they wait for records.
        every_ms: the interval at which what has changed is sent; None: with each record.
    """

    kind = "window"
    keeps = ColumnSet.HEADERS
    has_effect = True
    spreads = True

    fold: Stateful
    windows: W
    grace_ms: int
    is_final: bool
    idle_timeout_ms: int | None
    every_ms: int | None

    @property
    def flushed(self) -> tuple[tuple[FlushReason, int], ...]:  # type: ignore[override] # as declared
        """When no record comes, and at each interval."""
        reasons: list[tuple[FlushReason, int | None]] = [
            ("idle", self.idle_timeout_ms),
            ("interval", self.every_ms),
        ]
        return tuple((why, after_ms) for why, after_ms in reasons if after_ms is not None)

    @property
    def name(self) -> str:
        """Of the operator and its store."""
        return self.fold.name

    @property
    def drops_nulls(self) -> bool:
        """Whether a null value is none of the records that are folded."""
        return not self.fold.takes_nulls

    @property
    def reads(self) -> ColumnSet:  # type: ignore[override] # what the fold reads, which varies
        """What the fold reads, and the time."""
        return self.fold.reads | ColumnSet.TIME

    may_leave_work = True

    def label(self) -> str:
        """After the windows and the fold."""
        return f"{self.windows}.{self.fold.label()}"

    def declared(self) -> str:
        """Grace too, which may be another after a drain."""
        said = f"{self.label()} grace={interval_text(self.grace_ms)} emit={self.emit}"
        rules = f"rules={self.windows.rules}" if self.windows.rules else ""
        return " ".join(filter(None, [said, rules, self.by_clock]))

    @property
    def by_clock(self) -> str:  # type: ignore[override] # as declared
        """The time-out and the interval."""
        lengths = {"idle_timeout": self.idle_timeout_ms, "every": self.every_ms}
        said = [f"{name}={interval_text(ms)}" for name, ms in lengths.items() if ms is not None]
        return " ".join(said)

    @property
    def unsent_stores(self) -> tuple[KeyedStore, ...]:
        """What waits for its interval."""
        return () if self.every_ms is None else unsent_stores(self.name)

    def canonical(self) -> list[Any]:
        """Fold, windows, grace and what is sent."""
        windows = [str(self.windows), *filter(None, [self.windows.rules, self.by_clock])]
        return [*self.fold.canonical(), self.kind, *windows, self.grace_ms, self.is_final]

    @property
    def record_key(self) -> Serde[Any]:
        """The serde of the keys of records, not that of the store."""
        return self.fold.key

    @property
    def ports(self) -> tuple[str, ...]:
        """The results, and what came too late for them."""
        return (*super(WindowFold, self).ports, LATE)

    @property
    def drops(self) -> tuple[str, ...]:
        """What has no key, or no value, and what is of no window that is open."""
        return DROPS

    @property
    def detail(self) -> str:
        """What the contents of its store depend on, beside the serdes."""
        return " of ".join(filter(None, [f"{self.windows} {self.emit}", self.fold.detail]))

    @property
    def held_ms(self) -> int:  # type: ignore[override] # of those with final results
        """How long after the start of an open window its result may still come."""
        return self.closes_after_ms if self.is_final else 0

    @property
    @abstractmethod
    def closes_after_ms(self) -> int:
        """The time from the start of a window that holds one record to where it closes."""

    @property
    def emit(self) -> Emit:
        """What is sent, as users say it."""
        return "final" if self.is_final else "update"


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
