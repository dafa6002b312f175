"""An operator with all that has to do with time, before there is one of the library's own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

import kstash
from kstash import App
from kstash.operators.flow import Flow
from kstash.operators.keyed import KeyedStep
from kstash.operators.step import Scope, Stores
from kstash.operators.steps import STEPS
from kstash.operators.stream_time import StreamTime
from kstash.ports.state import StoreKind
from kstash.topology.keyed_nodes import Stateful
from kstash.topology.traits import ColumnSet, KeyedStore, time_store


@dataclass(frozen=True, slots=True, eq=False)
class Hourly(Stateful):
    """Keeps each key's hours, and a timer at the end of each; what is of an hour before is late."""

    verb: ClassVar[str] = "hourly"
    reads = ColumnSet.KEY | ColumnSet.VALUE | ColumnSet.TIME

    @property
    def drops(self) -> tuple[str, ...]:
        """One reason."""
        return ("late",)

    @property
    def stores(self) -> tuple[KeyedStore, ...]:
        """Hours, timers, and the time."""
        hours = KeyedStore(self.name, self.verb, self.key, kstash.int_text, holds="windows")
        timers = KeyedStore(
            f"{self.name}.due",
            self.verb,
            self.key,
            kstash.raw,
            kind=StoreKind.TIMERS,
            holds="timers",
        )
        return (hours, timers, time_store(self.name))


class HourlyLogic:
    """The logic of `Hourly`."""

    def __init__(self, node: Hourly) -> None:
        self.name = node.name

    def on_batch(
        self,
        side: int,  # noqa: ARG002 - one parent
        keys: list[bytes],
        flow: Flow,
        stores: Stores,
        scope: Scope,
    ) -> None:
        """Drop what is of an hour before that of stream time."""
        time = StreamTime(stores, self.name)
        hours, timers = stores.store(self.name).load(keys), stores.timers(f"{self.name}.due")
        mask: list[bool] = []
        for key, at_ms in zip(keys, flow.times, strict=True):
            mask.append(at_ms // 3_600_000 >= time.now_ms // 3_600_000)
            if mask[-1]:
                hours[key] = at_ms // 3_600_000
                timers.set(key, "end", (hours[key] + 1) * 3_600_000)
                time.take(at_ms)
        scope.dropped("late", mask.count(False))
        if (left := flow.select(mask)) is not None:
            scope.out(left)


def hourly(patch: pytest.MonkeyPatch, **times: Any) -> App:
    """A program with the operator; `times` are arguments of its source."""
    patch.setitem(STEPS, Hourly, lambda node, _: KeyedStep(node, HourlyLogic(node)))
    app = App("hours")
    stream = app.stream("in", key=kstash.text, value=kstash.text, **times)
    node = stream._graph.add(
        lambda index: Hourly(
            index, (stream._node,), stream._node.location, "h", kstash.text, kstash.text
        )
    )
    replace(stream, _node=node).to("out")
    return app
