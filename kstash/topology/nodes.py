"""The declared graph: frozen nodes that know their parents. Building them runs nothing.

A node depends on its parents *narrowly* (record by record, inside one task) or, after a wide
`EdgeNode`, through an internal topic. Nodes are numbered in the order of their declaration, and a
parent is always declared before its child: the numbers are a topological order.

A node says of itself what others need to know: what people call it, what of it goes into the
topology hash, which columns it reads and keeps, its stores and its outputs. Only two places ask for
its class, as a test checks: the table of steps (`kstash.operators.steps`), and the compiler, which
sorts out what a stage begins and ends with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from kstash.serdes import Serde
from kstash.topology.traits import OUT, ColumnSet, FlushReason, KeyedStore, SourceTimes
from kstash.topology.user_code import function_name

Delivery = Literal["immediate", "transactional"]
"""How a sink's records become visible; see `Stream.to`."""


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One declared step.

    Attributes:
        kind: names the kind of node in the topology hash: never to be changed.
        reads: columns that the node itself reads; later nodes may read them too.
        keeps: columns that leave the node as they entered.
        keeps_aside: the same of its outputs beside `OUT`.
        has_effect: whether it is there for itself, and not only for what stands after it.
        is_port: whether it only names an output of its parent, and nothing is to run.
        may_leave_work: whether a record may ask for more than is done at once
            (`kstash.operators.step.Scope.later`).
        sends_in_parts: whether work that it leaves may send results.
        wants_ticks: whether the wall clock moves it, too (`kstash.operators.step.ClockStep`). It
            has a `name`, and among its stores the `time_store` of that name.
        asks: whether it may ask for the time or for chance while it processes records.
        spreads: whether kstash itself puts its records where the keys within theirs belong.
        held_ms: how much of event time it holds back, 0 or more (watermark mode).
        holds_while_idle: whether it holds all of it back while nothing comes (watermark mode).
        source_times: of the one child of a source, what that says of its records' times.
        side_outputs: names of outputs that `side()` gives; None: it is of no processor.
        are_sides_alike: whether the values of all its outputs are of one serde.
        flushed: why it is flushed (`kstash.operators.step.FlushStep`), after so many milliseconds.
        closes_at_end: whether it is flushed at the end of a bounded run that closes windows.
        by_clock: what the clock sets off here, as it is declared; empty: nothing.
        timing: what else it says of time beside its label, as it is declared; empty: nothing.
        index: number in the order of declaration, 0 or more, unique in the application.
        parents: the nodes it reads from; a node may stand there twice. Records of several are
            merged.
        location: `file:line` of the user's code.
    """

    kind: ClassVar[str]
    reads: ClassVar[ColumnSet] = ColumnSet.NONE
    keeps: ClassVar[ColumnSet] = ColumnSet.ALL
    keeps_aside: ClassVar[ColumnSet] = ColumnSet.ALL
    has_effect: ClassVar[bool] = False
    is_port: ClassVar[bool] = False
    may_leave_work: ClassVar[bool] = False
    wants_ticks: ClassVar[bool] = False
    asks: ClassVar[bool] = False
    flushed: ClassVar[tuple[tuple[FlushReason, int], ...]] = ()
    closes_at_end: ClassVar[bool] = False
    by_clock: ClassVar[str] = ""
    timing: ClassVar[str] = ""
    spreads: ClassVar[bool] = False
    held_ms: ClassVar[int] = 0
    holds_while_idle: ClassVar[bool] = False
    source_times: ClassVar[SourceTimes | None] = None
    side_outputs: ClassVar[tuple[str, ...] | None] = None
    are_sides_alike: ClassVar[bool] = False

    @property
    def sends_in_parts(self) -> bool:
        """Of most nodes where they leave work."""
        return self.may_leave_work

    index: int
    parents: tuple[Node, ...]
    location: str

    def label(self) -> str:
        """What people call the node; stable between runs."""
        return self.kind

    def canonical(self) -> list[Any]:
        """What of the node goes into the topology hash, beside its parents.

        Functions do not: there is no stable name for a lambda.
        """
        return [self.kind]

    def declared(self) -> str:
        """What START says of the node: its label, and what may be another after a drain."""
        return self.label()

    def details(self) -> dict[str, Any]:
        """What of it is in a drawing for tools beside its label; every name has its unit."""
        return {}

    @property
    def stores(self) -> tuple[KeyedStore, ...]:
        """What the node keeps between records."""
        return ()

    @property
    def record_key(self) -> Serde[Any]:
        """Of a node with stores: the serde of the keys of its records."""
        return self.stores[0].key

    @property
    def drops(self) -> tuple[str, ...]:
        """Why it may leave records out (`kstash.operators.step.Scope.dropped`)."""
        return ()

    @property
    def ports(self) -> tuple[str, ...]:
        """Names of its outputs: a child reads `OUT` directly, and any other after a `Port`."""
        return (OUT,)

    def canonical_port(self, port: str) -> list[Any]:
        """What of one of its other outputs goes into the topology hash."""
        return ["port", port]

    @property
    def title(self) -> str:
        """What errors call the node: its label and the line of the user's code."""
        return f"{self.label()} at {self.location}"


@dataclass(frozen=True, slots=True, eq=False)
class Source(Node):
    """Records of one user topic."""

    kind = "source"
    keeps = ColumnSet.NONE

    topic: str
    key: Serde[Any]
    value: Serde[Any]
    immediate_of: str | None

    def label(self) -> str:
        """After the topic."""
        return f"source({self.topic})"

    def canonical(self) -> list[Any]:
        """Topic, serdes, and whose sink it is."""
        return [self.kind, self.topic, self.key.name, self.value.name, self.immediate_of]


@dataclass(frozen=True, slots=True, eq=False)
class Apply(Node):
    """A user's function on each value; its subclasses say what becomes of the results.

    Attributes:
        verb: the method that the user called.
        function: called with one value.
    """

    kind = "apply"
    reads = ColumnSet.VALUE

    verb: str
    function: Callable[[Any], Any]

    def label(self) -> str:
        """After the method and the function."""
        return f"{self.verb}({function_name(self.function)})"

    def canonical(self) -> list[Any]:
        """The method alone."""
        return [self.kind, self.verb]


@dataclass(frozen=True, slots=True, eq=False)
class MapValues(Apply):
    """The results are the new values."""

    keeps = ~ColumnSet.VALUE


@dataclass(frozen=True, slots=True, eq=False)
class FlatMap(Apply):
    """The items of the results are the new values."""

    keeps = ~ColumnSet.VALUE


@dataclass(frozen=True, slots=True, eq=False)
class Filter(Apply):
    """The records of which the result is true go on."""


@dataclass(frozen=True, slots=True, eq=False)
class FilterNot(Apply):
    """The records of which the result is false go on."""


@dataclass(frozen=True, slots=True, eq=False)
class Peek(Apply):
    """All records go on, whatever the results are."""

    has_effect = True


@dataclass(frozen=True, slots=True, eq=False)
class Records(Node):
    """Each value becomes a `Record` of its key, value, timestamp and headers."""

    kind = "records"
    reads = ColumnSet.ALL
    keeps = ~ColumnSet.VALUE


@dataclass(frozen=True, slots=True, eq=False)
class Merge(Node):
    """All records of all parents."""

    kind = "merge"


@dataclass(frozen=True, slots=True, eq=False)
class Port(Node):
    """One output of its parent, beside `OUT`: what stands after it reads the records sent there.

    Attributes:
        name: one of the parent's `ports`.
    """

    kind = "port"
    is_port = True

    name: str

    def label(self) -> str:
        """The name of the output."""
        return self.name

    def canonical(self) -> list[Any]:
        """As the parent says."""
        return self.parents[0].canonical_port(self.name)


@dataclass(frozen=True, slots=True, eq=False)
class Split(Node):
    """Sends each record to the output of the first predicate that holds; the last is of the rest.

    It sends nothing to `OUT`.
    """

    kind = "split"
    reads = ColumnSet.VALUE

    predicates: tuple[Callable[[Any], Any], ...]

    def label(self) -> str:
        """After all predicates."""
        return f"split({', '.join(map(function_name, self.predicates))})"

    def canonical(self) -> list[Any]:
        """How many predicates there are."""
        return [self.kind, len(self.predicates)]

    @property
    def ports(self) -> tuple[str, ...]:
        """One for each predicate, and one more."""
        return tuple(f"branch({number})" for number in range(len(self.predicates) + 1))

    def canonical_port(self, port: str) -> list[Any]:
        """Its number."""
        return ["branch", self.ports.index(port)]


@dataclass(frozen=True, slots=True, eq=False)
class Sink(Node):
    """Records leave for a user topic."""

    kind = "sink"
    reads = ColumnSet.ALL
    has_effect = True

    topic: str
    key: Serde[Any]
    value: Serde[Any]
    delivery: Delivery

    def label(self) -> str:
        """After the topic."""
        return f"to({self.topic})"

    def canonical(self) -> list[Any]:
        """Topic, serdes and delivery."""
        return [self.kind, self.topic, self.key.name, self.value.name, self.delivery]
