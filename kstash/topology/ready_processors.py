"""Processors that come with kstash: what `with_state`, `dedup`, `throttle` and `top` run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kstash.topology.keyed_state import Map, Value
from kstash.topology.process_node import Process
from kstash.topology.processor import Context, Processor
from kstash.topology.record import DELETE, Record
from kstash.topology.traits import STAMP_BYTES, stamp, stamped_at_ms
from kstash.topology.user_code import check_results, function_place

AnyContext = Context[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class WithState(Process):
    """A function of state and value gives the new state and results."""

    verb = "with_state"
    asks = False


@dataclass(frozen=True, slots=True, eq=False)
class Dedup(Process):
    """Records whose id has passed lately are left out."""

    verb = "dedup"
    asks = False
    are_sides_alike = True


@dataclass(frozen=True, slots=True, eq=False)
class Throttle(Process):
    """Some records of each key pass in an interval."""

    verb = "throttle"
    asks = False
    are_sides_alike = True


@dataclass(frozen=True, slots=True, eq=False)
class Top(Process):
    """The values of each key that are the largest by a function."""

    verb = "top"
    asks = False


class StateFunction(Processor[Any, Any, Any]):
    """Of `with_state`."""

    state: Value[Any]

    def __init__(self, initial: Callable[[], Any], function: Callable[[Any, Any], Any]) -> None:
        self.initial = initial
        self.function = function

    def on_record(self, record: Record, context: AnyContext) -> None:
        """Keep the new state, and send the results."""
        state = self.state.get()
        made = self.function(self.initial() if state is None else state, record.value)
        if not isinstance(made, tuple) or len(made) != 2:
            raise TypeError(
                f"{function_place(self.function)} returned {type(made).__name__}: return a pair, "
                "the new state (or kstash.DELETE) and the results"
            )
        new, results = made
        check_results(self.function, results)
        if new is DELETE:
            self.state.delete()
        else:
            self.state.set(new)
        for result in results:
            context.send(result)


class Repeats(Processor[Any, Any, Any]):
    """Of `dedup`: an id is there as long as a record with it is a repeat."""

    sides = ("repeated",)
    seen: Map[Any, bytes]

    def __init__(self, id_of: Callable[[Any], Any]) -> None:
        self.id_of = id_of

    def on_record(self, record: Record, context: AnyContext) -> None:
        """Pass the first one."""
        name = self.id_of(record.value)
        if name is None:
            raise ValueError(f"{function_place(self.id_of)} returned None, which is no id of dedup")
        if name in self.seen:
            context.send(record.value, to="repeated")
        else:
            self.seen.set(name, b"")
            context.send(record.value)


class Rate(Processor[Any, Any, Any]):
    """Of `throttle`: the times of the records that have passed, the oldest first."""

    sides = ("over",)
    passed: Value[bytes]

    def __init__(self, at_most: int, within_ms: int) -> None:
        self.at_most = at_most
        self.within_ms = within_ms

    def on_record(self, record: Record, context: AnyContext) -> None:
        """Pass it while fewer have passed in the interval that ends now."""
        times, now_ms = self.passed.get(b""), context.time_ms
        while times and stamped_at_ms(times) <= now_ms - self.within_ms:
            times = times[STAMP_BYTES:]
        if len(times) < self.at_most * STAMP_BYTES:
            self.passed.set(times + stamp(now_ms))
            context.send(record.value)
        else:
            context.send(record.value, to="over")


class Largest(Processor[Any, Any, Any]):
    """Of `top`: the list of them, the largest first."""

    best: Value[list[Any]]

    def __init__(
        self, count: int, by: Callable[[Any], Any], id_of: Callable[[Any], Any] | None
    ) -> None:
        self.count = count
        self.by = by
        self.id_of = id_of

    def on_record(self, record: Record, context: AnyContext) -> None:
        """Send the list where it has changed."""
        if self.by(record.value) is None:
            # Alone it would compare to nothing, and the error would come with the next record.
            raise ValueError(
                f"{function_place(self.by)} returned None as by=, which compares to nothing"
            )
        before = self.best.get()
        kept = before or []
        if self.id_of is not None:
            name = self.id_of(record.value)
            kept = [value for value in kept if self.id_of(value) != name]
        self.best.set(sorted([*kept, record.value], key=self.by, reverse=True)[: self.count])
        after = self.best.get()
        if after != before:
            context.send(after)
