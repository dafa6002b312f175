"""The node of a processor; see `kstash.topology.nodes`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kstash.ports.state import StoreKind
from kstash.serdes import Serde, raw
from kstash.topology.intervals import interval_text
from kstash.topology.keyed_nodes import Stateful
from kstash.topology.keyed_state import KeyedState
from kstash.topology.processor import Processor
from kstash.topology.traits import OUT, ColumnSet, KeyedStore, time_store


@dataclass(frozen=True, slots=True, eq=False)
class Process(Stateful):
    """Gives each record to a processor.

    Attributes:
        value: serde of the results.
        make: makes the processor of a task.
        states: by the attribute of the processor, what it keeps for each key.
        sides: names of its side outputs.
        has_timers: whether it has an `on_timer`.
        has_wall_timers: whether it has an `on_wall_timer`.
        result_key: serde of keys that results have of their own; None: they have that of the
            record.
        measures: by the argument that the user gave, numbers that its results depend on.
    """

    verb = "process"
    reads = ColumnSet.ALL
    keeps = ColumnSet.NONE
    takes_nulls = True
    may_leave_work = True
    asks = True

    make: Callable[[], Processor[Any, Any, Any]]
    states: dict[str, KeyedState]
    sides: tuple[str, ...]
    has_timers: bool
    has_wall_timers: bool
    result_key: Serde[Any] | None
    measures: tuple[tuple[str, int | str], ...] = ()

    def canonical(self) -> list[Any]:
        """What it keeps too."""
        states = [state._canonical() for state in self.states.values()]
        own = self.result_key.name if self.result_key else None
        measures = [list(self.measures)] if self.measures else []
        wall = ["wall"] if self.has_wall_timers else []
        return [*Stateful.canonical(self), states, self.has_timers, own, *measures, *wall]

    def declared(self) -> str:
        """With what may be another after a drain: measures, or how long states live."""
        return " ".join([self.label(), *self._lengths()])

    def _lengths(self) -> list[str]:
        parts = [f"{argument}={measure}" for argument, measure in self.measures]
        return parts or [f"{name}.ttl={interval_text(ms)}" for name, ms in self._lives().items()]

    def _lives(self) -> dict[str, int]:
        """By the name of a state how long its entries live, in milliseconds."""
        states = self.states.values()
        return {state.name: state.ttl_ms for state in states if state.ttl_ms is not None}

    @property
    def timing(self) -> str:  # type: ignore[override] # as the class says
        """Timers of event time, measures, or how long states live."""
        return ", ".join([*(["timers"] if self.has_timers else []), *self._lengths()])

    def details(self) -> dict[str, Any]:
        """Which timers it has, and how long states live; what the user measured it by."""
        kinds = {"event_time": self.has_timers, "clock": self.has_wall_timers}
        timers = [kind for kind, is_there in kinds.items() if is_there]
        said = {"timers": timers, "ttl_ms": self._lives(), "measures": dict(self.measures)}
        return {name: what for name, what in said.items() if what}

    @property
    def wants_ticks(self) -> bool:  # type: ignore[override] # of those that look at the clock
        """Where it has timers of the wall clock."""
        return self.has_wall_timers

    @property
    def side_outputs(self) -> tuple[str, ...]:  # type: ignore[override] # as the class says
        """Those of the processor."""
        return self.sides

    @property
    def by_clock(self) -> str:  # type: ignore[override] # as the class says
        """Its timers."""
        return "wall timers" if self.has_wall_timers else ""

    @property
    def ports(self) -> tuple[str, ...]:
        """The output itself, and its sides."""
        return (OUT, *self.sides)

    @property
    def stores(self) -> tuple[KeyedStore, ...]:
        """Of its own name its timers, unless a state has that; the states; what goes when."""
        states = self.states.values()
        timers = KeyedStore(
            name=self.name,
            verb=self.verb,
            key=self.key,
            value=raw,
            kind=StoreKind.TIMERS,
            holds="timers" if self.has_timers else "",
        )
        kept = [] if self.has_nameless else [timers]
        kept += [state._store(self.name, self.key) for state in states]
        if self.expires:
            kept.append(KeyedStore(self.expiry, "expiry", raw, raw, StoreKind.TIMERS))
        if self.has_wall_timers:
            kept.append(
                KeyedStore(
                    name=self.wall,
                    verb="wall_timers",
                    key=self.key,
                    value=raw,
                    kind=StoreKind.TIMERS,
                    holds="wall_timers",
                )
            )
        return (*kept, time_store(self.name))

    @property
    def has_nameless(self) -> bool:
        """Whether a state has the name of the operator itself, which then has no timers."""
        return any(not state.name for state in self.states.values())

    @property
    def expires(self) -> bool:
        """Whether a state has a time to live."""
        return any(state.ttl_ms is not None for state in self.states.values())

    @property
    def wall(self) -> str:
        """Name of the store of timers of the wall clock."""
        return f"{self.name}.wall"

    @property
    def expiry(self) -> str:
        """Name of the store that knows when entries have outlived their time."""
        return f"{self.name}.expiry"
