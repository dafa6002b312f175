"""An operator of these tests that goes by the wall clock alone: as small as can be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

import kstash
from kstash import KeyedStream
from kstash.operators.flow import ENTERED, Expanded, Flow
from kstash.operators.keyed import KeyedStep
from kstash.operators.step import Scope, Stores
from kstash.operators.steps import STEPS
from kstash.ports.state import StoreKind
from kstash.topology.keyed_nodes import Stateful
from kstash.topology.traits import ColumnSet, KeyedStore, time_store

Text = KeyedStream[str, str]

DUE_MAX = 2
"""Alarms of one tick, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Alarms(Stateful):
    """A value of digits sets an alarm at that time of the wall clock; it says when it went off."""

    verb: ClassVar[str] = "alarms"
    reads = ColumnSet.ALL
    keeps = ColumnSet.NONE
    wants_ticks = True

    @property
    def stores(self) -> tuple[KeyedStore, ...]:
        """Alarms, and the time of the last tick."""
        due = KeyedStore(self.name, self.verb, self.key, kstash.raw, kind=StoreKind.TIMERS)
        return due, time_store(self.name)


class AlarmLogic:
    """The logic of `Alarms`."""

    def __init__(self, node: Alarms) -> None:
        self.node = node

    def on_batch(
        self,
        side: int,  # noqa: ARG002 - one parent
        keys: list[bytes],
        flow: Flow,
        stores: Stores,
        scope: Scope,  # noqa: ARG002 - nothing is sent
    ) -> None:
        """Set alarms."""
        timers = stores.timers(self.node.name)
        for key, value in zip(keys, flow.live_values, strict=True):
            timers.set(key, value, int(value))


class AlarmStep(KeyedStep):
    """The step of `Alarms`."""

    def __init__(self, node: Alarms) -> None:
        super().__init__(node, AlarmLogic(node))
        self.node = node

    def next_tick_ms(self, stores: Stores) -> int | None:
        """When the first one is due."""
        return stores.timers(self.node.name).next_due()

    def tick(self, until_ms: int, now_ms: int, scope: Scope) -> None:
        """Some go off."""
        timers = scope.stores.timers(self.node.name)
        due = timers.due(until_ms, limit=DUE_MAX)
        for timer in due:
            timers.cancel(timer.key, timer.name)
        scope.out(
            Flow(
                count=len(due),
                keys=None,
                encoded=[timer.key for timer in due],
                key_serde=self.node.key,
                values=[f"{self.node.name} {timer.at_ms} at {now_ms}" for timer in due],
                timestamps=[timer.at_ms for timer in due],
                headers=None,
                trail=Expanded(ENTERED, [len(due)]),
            )
        )


def alarms(stream: Text, name: str) -> Text:
    """`Alarms` of a stream."""
    node = stream._graph.add(
        lambda index: Alarms(index, (stream._node,), "here:1", name, kstash.text, kstash.text)
    )
    return replace(stream, _node=node, _value_serde=kstash.text)


@contextmanager
def known() -> Iterator[None]:
    """The operator has a step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STEPS, Alarms, step_of)
        yield


def step_of(node: Any, _: Any) -> KeyedStep:
    """Its step."""
    return AlarmStep(node)
