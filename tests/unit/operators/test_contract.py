"""The contract of operators, by nodes of these tests: outputs, sides, several stores, columns.

What is shown here is what windows, joins and processors are made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

import kstash
from kstash import App, Stream
from kstash.errors import TopologyError
from kstash.operators.batch import Batch
from kstash.operators.flow import Flow
from kstash.operators.keyed import KeyedStep
from kstash.operators.program import StageProgram
from kstash.operators.step import Scope, Stores, Surroundings
from kstash.operators.steps import STEPS
from kstash.ports.state import StoreKind
from kstash.testing.state import MemoryBackend
from kstash.topology.keyed_nodes import Stateful
from kstash.topology.nodes import Node, Port
from kstash.topology.traits import OUT, ColumnSet, KeyedStore

Add = Callable[[Callable[[int], Node]], Node]


@dataclass(frozen=True, slots=True, eq=False)
class Latest(Stateful):
    """The latest value of each key by its timestamp; what comes too late goes out beside."""

    verb: ClassVar[str] = "latest"
    reads = ColumnSet.KEY | ColumnSet.VALUE | ColumnSet.TIME

    @property
    def ports(self) -> tuple[str, ...]:
        """What is late goes elsewhere."""
        return (OUT, "late")

    @property
    def stores(self) -> tuple[KeyedStore, ...]:
        """The time of each key's value, how many were late, and when it is due."""
        time = KeyedStore(f"{self.name}-time", "latest", self.key, kstash.int_text)
        due = KeyedStore(f"{self.name}-due", "latest", self.key, kstash.raw, StoreKind.TIMERS)
        return (time, replace(time, name=f"{self.name}-late"), due)


class LatestLogic:
    """The logic of `Latest`."""

    def __init__(self, node: Latest) -> None:
        self.name = node.name

    def on_batch(
        self, side: int, keys: list[bytes], flow: Flow, stores: Stores, scope: Scope
    ) -> None:
        """Compare each record's time with that of the value before."""
        assert side == 0
        times = stores.store(f"{self.name}-time").load(keys)
        late = stores.store(f"{self.name}-late").load(keys)
        timers = stores.timers(f"{self.name}-due")
        mask: list[bool] = []
        for key, time in zip(keys, flow.live_timestamps, strict=True):
            mask.append(time >= times.get(key, 0))
            if mask[-1]:
                times[key] = time
                timers.set(key, "due", time + 10)
            else:
                late[key] = late.get(key, 0) + 1
        for port, chosen in ((OUT, mask), ("late", [not kept for kept in mask])):
            if (part := flow.select(chosen)) is not None:
                scope.out(part, port)


@dataclass(frozen=True, slots=True, eq=False)
class Sides(Node):
    """Marks values with the parent that they are from, and sends each record on by itself."""

    kind = "sides"
    reads = ColumnSet.VALUE
    keeps = ~ColumnSet.VALUE


class SidesStep:
    """The logic of `Sides`.

    Attributes:
        seen: what it was given, in order: what it would do to its state.
    """

    seen: ClassVar[list[str]] = []

    def __init__(self, node: Sides) -> None:
        self.label = node.title

    def run(self, side: int, flow: Flow, scope: Scope) -> None:
        """One part for each record."""
        for index in range(flow.count):
            part = flow.part(index, index + 1)
            marked = f"{side}{part.live_values[0]}"
            self.seen.append(marked)
            scope.out(part.with_values([marked]))


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two more operators are known."""
    monkeypatch.setitem(STEPS, Latest, lambda node, _: KeyedStep(node, LatestLogic(node)))
    monkeypatch.setattr(SidesStep, "seen", [])
    monkeypatch.setitem(STEPS, Sides, lambda node, _: SidesStep(node))


class Task:
    """A stage on one partition."""

    def __init__(self, app: App) -> None:
        (self.stage,) = app.topology().stages
        self.state = MemoryBackend().task(self.stage.name, 0).open(self.stage.stores, base=None)
        self.program = StageProgram(self.stage, self.state)

    def feed(self, batch: Batch, source: int = 0) -> dict[str, list[Any]]:
        """(Key, value, timestamp) of what each topic got."""
        self.program.process(source, batch)
        return {
            self.stage.outputs[number].topic: list(
                zip(made.keys, made.values, made.timestamps, strict=True)
            )
            for number, made, _ in self.program.take_outputs()
        }


def added(stream: Stream[Any, Any], make: Callable[[int], Node]) -> Stream[Any, Any]:
    """The stream of what a node makes."""
    made: Stream[Any, Any] = replace(stream, _node=stream._graph.add(make))
    return made


def texts(app: App, topic: str = "in") -> Stream[Any, Any]:
    """A source of text with a text key."""
    return app.stream(topic, key=kstash.text, value=kstash.text)


def latest(stream: Stream[Any, Any]) -> tuple[Stream[Any, Any], Stream[Any, Any]]:
    """Both outputs of `Latest`."""
    parent = stream._node
    node = stream._graph.add(
        lambda index: Latest(index, (parent,), "here:1", "l", kstash.text, kstash.text)
    )
    out: Stream[Any, Any] = replace(stream, _node=node)
    return out, added(out, lambda index: Port(index, (node,), "here:1", "late"))


def test_an_operator_has_outputs_and_stores_of_several_kinds() -> None:
    """Each record goes where its operator sends it; both stores and the timers are its own."""
    app = App("app")
    out, late = latest(texts(app))
    out.to("out")
    late.map_values(str.upper).to("late", value=kstash.text)
    task = Task(app)
    made = task.feed(Batch([b"k", b"k", b"l", b"k"], [b"a", b"b", b"c", b"d"], [5, 3, 4, 6]))
    assert made == {
        "out": [(b"k", b"a", 5), (b"l", b"c", 4), (b"k", b"d", 6)],
        "late": [(b"k", b"B", 3)],
    }
    assert task.state.store("l-time").items() == [(b"k", 6), (b"l", 4)]
    assert task.state.store("l-late").items() == [(b"k", 1)]
    assert task.state.timers("l-due").next_due() == 14


def test_an_output_that_nobody_reads_gets_nothing() -> None:
    """The operator need not know."""
    app = App("app")
    latest(texts(app))[0].to("out")
    assert task_topics(app) == {"out": [(b"k", b"a", 5)]}
    app = App("app")
    latest(texts(app))[1].to("late")
    assert task_topics(app) == {"late": [(b"k", b"b", 3)]}


def task_topics(app: App) -> dict[str, list[Any]]:
    """What comes of an early and a late record."""
    return Task(app).feed(Batch([b"k", b"k"], [b"a", b"b"], [5, 3]))


def test_outputs_are_merged_in_the_order_of_the_input() -> None:
    """As all branches are: what came of one record stands where the record stood."""
    app = App("app")
    out, late = latest(texts(app))
    late.merge(out).to("out")
    made = Task(app).feed(Batch([b"k", b"k", b"k"], [b"a", b"b", b"c"], [5, 3, 6]))
    assert [value for _, value, _ in made["out"]] == [b"a", b"b", b"c"]


def test_ports_are_part_of_the_program() -> None:
    """Another output is another topology, and its label is its name."""

    def program(port: str) -> App:
        app = App("app")
        stream = texts(app)
        out, _ = latest(stream)
        node = out._node
        added(out, lambda index: Port(index, (node,), "here:1", port)).to("out")
        return app

    late, other = program("late").topology(), program("other").topology()
    assert late.hash != other.hash
    assert [node.label() for node in late.stages[0].inner_nodes] == ["latest(l)", "late"]


def sides(first: Stream[Any, Any], second: Stream[Any, Any]) -> Stream[Any, Any]:
    """`Sides` of two streams."""
    parents = (first._node, second._node)
    return added(first, lambda index: Sides(index, parents, "here:1"))


def test_an_operator_knows_which_side_a_record_is_from() -> None:
    """Two inputs, one parent each."""
    app = App("app")
    sides(texts(app, "left"), texts(app, "right")).to("out", value=kstash.text)
    task = Task(app)
    assert task.feed(Batch([b"k"], [b"a"], [1]))["out"] == [(b"k", b"0a", 1)]
    assert task.feed(Batch([b"k"], [b"b"], [2]), source=1)["out"] == [(b"k", b"1b", 2)]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_sides_of_one_input_take_turns_record_by_record(size: int) -> None:
    """What came of one record reaches all sides before the next, wherever a batch ends."""
    app = App("app")
    stream = texts(app)
    twice = stream.filter(lambda value: value != "b").flat_map_values(lambda v: [v, v])
    sides(twice, stream).to("out", value=kstash.text)
    task = Task(app)
    values = [b"a", b"b", b"c", b"d", b"e"]
    made: list[Any] = []
    for start in range(0, 5, size):
        part = values[start : start + size]
        made += task.feed(Batch([b"k"] * len(part), part, list(range(len(part)))))["out"]
    expected = "0a 0a 1a 1b 0c 0c 1c 0d 0d 1d 0e 0e 1e"
    assert b" ".join(value for _, value, _ in made).decode() == expected
    assert " ".join(SidesStep.seen) == expected


def test_columns_that_nobody_reads_are_not_carried() -> None:
    """A program that only counts carries neither values, times nor headers; a sink reads all."""
    app = App("app")
    app.stream("in", key=kstash.text, value=kstash.text).count("n")
    stage = app.topology().stages[0]
    assert stage.read_after[stage.entries[0].index] == ColumnSet.KEY
    seen: list[Flow] = []

    class Spy:
        label = "spy"

        def run(self, _side: int, flow: Flow, _scope: Scope) -> None:
            seen.append(flow)

    def spied(_: Any, around: Surroundings) -> Spy:
        assert around.read_after == ColumnSet.NONE
        return Spy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STEPS, type(stage.nodes[0]), spied)
        Task(app).feed(Batch([b"k"], [b"v"], [1], [[("h", b"1")]]))
    (flow,) = seen
    assert (flow.values, flow.timestamps, flow.headers) == (None, None, None)
    app = App("app")
    texts(app).to("out")
    stage = app.topology().stages[0]
    assert stage.read_after[stage.entries[0].index] == ColumnSet.ALL


def test_what_an_operator_leaves_out_is_counted_once() -> None:
    """By operator and reason; what a replay leaves out again is not counted again."""
    app = App("app")
    out, _ = latest(texts(app))
    out.to("out")
    stage = app.topology().stages[0]

    class Dropping:
        label = "drops"

        def run(self, _side: int, flow: Flow, scope: Scope) -> None:
            scope.dropped("late", flow.count)
            scope.dropped("null key", 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STEPS, Latest, lambda _node, _: Dropping())
        task = Task(app)
        assert task.feed(Batch([b"k"] * 2, [b"a"] * 2, [1, 2])) == {}
        task.program.process(0, Batch([b"k"], [b"a"], [3]), is_new=False)
        task.feed(Batch([b"k"], [b"a"], [4]))
    assert stage.nodes[0].label() == "latest(l)"
    assert task.program.dropped == {("latest(l)", "late"): 3}


def test_two_stores_have_two_names() -> None:
    """Also those that an operator keeps beside the one of its name."""
    app = App("app")
    latest(texts(app))[0].to("out")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    with pytest.raises(TopologyError, match="both keep a store 'l-time': rename one of them"):
        stream.count("l-time")
