"""The node of a source that says what time its records have; see `kstash.topology.nodes`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kstash.topology.intervals import interval_text
from kstash.topology.nodes import Node
from kstash.topology.traits import ColumnSet, SourceTimes

AHEAD: Final = "ahead"
"""Why a record is dropped whose timestamp is too far after that of its Kafka record."""


@dataclass(frozen=True, slots=True, eq=False)
class EventTime(Node):
    """When what the records of a source tell of has happened. It is the one child of its source.

    Attributes:
        topic: that the source reads.
        function: makes the timestamp of the value; None: it stays that of the Kafka record.
        out_of_order_ms: how much less the records say of stream time, 0 or more.
        max_ahead_ms: how much larger a timestamp may be than that of the Kafka record; None: any.
        is_idle_held: whether the source holds time back while nothing comes of it (watermark mode).
    """

    kind = "event_time"
    keeps = ~ColumnSet.TIME

    topic: str
    function: Callable[[Any], int | datetime] | None
    out_of_order_ms: int
    max_ahead_ms: int | None
    is_idle_held: bool = False

    @property
    def reads(self) -> ColumnSet:  # type: ignore[override] # the value only for a function
        """The timestamp of the Kafka record, and what the function is given."""
        return ColumnSet.TIME if self.function is None else ColumnSet.TIME | ColumnSet.VALUE

    @property
    def source_times(self) -> SourceTimes:  # type: ignore[override] # of this one
        """What the user said."""
        return SourceTimes(self.function, self.max_ahead_ms)

    @property
    def holds_while_idle(self) -> bool:  # type: ignore[override] # as the user said
        """Where its source is declared so."""
        return self.is_idle_held

    @property
    def drops(self) -> tuple[str, ...]:
        """What is too far ahead, where there is a bound."""
        return () if self.max_ahead_ms is None else (AHEAD,)

    def label(self) -> str:
        """After the topic: one name whatever the function is called."""
        return f"event_time({self.topic})"

    def canonical(self) -> list[Any]:
        """All but the function itself."""
        return [self.kind, self.function is not None, self.out_of_order_ms, self.max_ahead_ms]

    def declared(self) -> str:
        """With its bounds."""
        return " ".join([self.label(), *(f"{name}={ms} ms" for name, ms in self._bounds().items())])

    def _bounds(self) -> dict[str, int]:
        """Those that are set, in milliseconds, by what users call them."""
        bounds = {"out_of_order": self.out_of_order_ms} if self.out_of_order_ms else {}
        return bounds if self.max_ahead_ms is None else bounds | {"max_ahead": self.max_ahead_ms}

    @property
    def timing(self) -> str:  # type: ignore[override] # as the user said
        """Its bounds, and whether it holds time back while nothing comes."""
        said = [f"{name}={interval_text(ms)}" for name, ms in self._bounds().items()]
        return ", ".join([*said, "idle=hold"] if self.is_idle_held else said)

    def details(self) -> dict[str, Any]:
        """The same."""
        said: dict[str, Any] = {f"{name}_ms": ms for name, ms in self._bounds().items()}
        return said | ({"idle": "hold"} if self.is_idle_held else {})
