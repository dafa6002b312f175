"""The nodes of windows: a fold for each key and window; see `kstash.topology.nodes`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

from kstash.serdes import Serde
from kstash.topology.intervals import interval_text
from kstash.topology.keyed_nodes import NULL_KEY, NULL_VALUE, Stateful
from kstash.topology.nodes import Node
from kstash.topology.traits import (
    ColumnSet,
    FlushReason,
    KeyedStore,
)
from kstash.topology.window_places import unsent_stores

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

    @property
    @abstractmethod
    def measures(self) -> dict[str, int | str]:
        """What they are made by; the names say the units, and numbers without one are counts."""

    @property
    def word(self) -> str:
        """What users call the kind."""
        return str(self).partition("(")[0]

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
    closes_at_end = True

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
        return " ".join(f"{name}={interval_text(ms)}" for name, ms in lengths.items() if ms)

    @property
    def timing(self) -> str:  # type: ignore[override] # as declared
        """What is sent, and the grace where records can be too late."""
        grace = f", grace={interval_text(self.grace_ms)}" if self.windows.goes_by_time else ""
        return f"emit={self.emit}{grace}"

    def details(self) -> dict[str, Any]:
        """The windows with their measures, when they send, and when they close."""
        said: dict[str, Any] = {"kind": self.windows.word, **self.windows.measures}
        said["emit"] = self.emit
        if self.windows.goes_by_time:
            said["grace_ms"] = self.grace_ms
        lengths = {"idle_timeout_ms": self.idle_timeout_ms, "every_ms": self.every_ms}
        return {"windows": said | {name: ms for name, ms in lengths.items() if ms is not None}}

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
