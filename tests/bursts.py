"""An operator of these tests that makes many results of one record, and sends them in parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import pytest

import kstash
from kstash import KeyedStream
from kstash.operators.flow import Flow
from kstash.operators.keyed import KeyedStep
from kstash.operators.step import Scope, Stores
from kstash.operators.steps import STEPS
from kstash.topology.keyed_nodes import Stateful
from kstash.topology.nodes import Port
from kstash.topology.traits import OUT, ColumnSet

Text = KeyedStream[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Burst(Stateful):
    """As many results of a value as it says after an `x`, else up to three.

    A result says the value, how many records and how many results the key has had, and the number
    within the record. Values with a `1` go to the output `late`,
    unless they say a number.

    Attributes:
        size: results of one part.
    """

    verb: ClassVar[str] = "burst"
    reads = ColumnSet.KEY | ColumnSet.VALUE
    may_leave_work = True

    size: int

    @property
    def ports(self) -> tuple[str, ...]:
        """What is late goes elsewhere."""
        return (OUT, "late")


class BurstLogic:
    """The logic of `Burst`: a part may be made of several records, and end within one."""

    def __init__(self, node: Burst) -> None:
        self.name = node.name
        self.size = node.size

    def on_batch(
        self,
        side: int,  # noqa: ARG002 - all alike
        keys: list[bytes],
        flow: Flow,
        stores: Stores,  # noqa: ARG002 - of the scope
        scope: Scope,
    ) -> None:
        """Send the first part."""
        self._go_on(keys, flow, 0, -1, scope)

    def _go_on(self, keys: list[bytes], flow: Flow, index: int, sent: int, scope: Scope) -> None:
        """Send a part, from record `index` on, of which `sent` results were sent; -1: not begun."""
        live = scope.stores.store(self.name).load(keys)
        results: list[str] = []
        counts = [0] * flow.count
        late = [False] * flow.count
        while index < flow.count:
            key, value = keys[index], flow.live_values[index]
            records, made = live.get(key) or (0, 0)
            if sent < 0:
                records, sent = records + 1, 0
            late[index] = "1" in value and "x" not in value
            total = 0 if late[index] else _number_of(value)
            count = min(total - sent, self.size - len(results))
            results += [f"{value}/{records}/{made + i}/{sent + i}" for i in range(count)]
            live[key] = [records, made + count]
            counts[index], sent = count, sent + count
            if sent < total:
                break
            index, sent = index + 1, -1
        if results:
            scope.out(flow.expand(results, counts, with_keys=True))
        if (beside := flow.select(late)) is not None:
            scope.out(beside, "late")
        if index < flow.count:
            scope.later(partial(self._go_on, keys, flow, index, sent))


def _number_of(value: str) -> int:
    digits = value.rpartition("x")[2]
    return int(digits) if digits.isdecimal() else len(value) % 4


def burst(stream: Text, name: str, size: int, *others: Text) -> tuple[Text, Text]:
    """`Burst` of a stream, and of others as its further sides: its results, and what is late."""
    graph, parents = stream._graph, (stream._node, *(other._node for other in others))
    node = graph.add(
        lambda index: Burst(index, parents, "here:1", name, kstash.text, kstash.json, size)
    )
    out: Text = replace(stream, _node=node, _value_serde=kstash.text)
    port = graph.add(lambda index: Port(index, (node,), "here:1", "late"))
    return out, replace(stream, _node=port)


@contextmanager
def known() -> Iterator[None]:
    """The operator has a step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STEPS, Burst, step_of)
        yield


def step_of(node: Any, _: Any) -> KeyedStep:
    """Its step."""
    return KeyedStep(node, BurstLogic(node))
