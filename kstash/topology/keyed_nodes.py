"""The nodes that keep state for each key; see `kstash.topology.nodes`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from kstash.serdes import Serde, msgpack
from kstash.topology.nodes import Node
from kstash.topology.traits import ColumnSet, KeyedStore


@dataclass(frozen=True, slots=True, eq=False)
class Stateful(Node):
    """State per key: each record updates it and sends the new state on.

    Attributes:
        verb: the method that the user called.
        name: of the operator, its store, its stage and its repartition topic.
        key: serde of the key.
        value: serde of the state.
    """

    kind = "stateful"
    reads = ColumnSet.KEY | ColumnSet.VALUE
    keeps = ~ColumnSet.VALUE
    has_effect = True
    verb: ClassVar[str]

    name: str
    key: Serde[Any]
    value: Serde[Any]

    def label(self) -> str:
        """After the method and the name."""
        return f"{self.verb}({self.name})"

    def canonical(self) -> list[Any]:
        """Method, name and serdes."""
        return [self.kind, self.verb, self.name, self.key.name, self.value.name]

    @property
    def stores(self) -> tuple[KeyedStore, ...]:
        """One, of the name of the operator."""
        return (KeyedStore(self.name, self.verb, self.key, self.value),)


@dataclass(frozen=True, slots=True, eq=False)
class Count(Stateful):
    """How many records each key has had, whatever their values."""

    verb = "count"
    reads = ColumnSet.KEY


@dataclass(frozen=True, slots=True, eq=False)
class Sum(Stateful):
    """The sum of each key's values, from 0."""

    verb = "sum"


@dataclass(frozen=True, slots=True, eq=False)
class Reduce(Stateful):
    """A fold that starts with the first value.

    Attributes:
        function: `(state, value) -> state`.
    """

    verb = "reduce"

    function: Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True, eq=False)
class Aggregate(Stateful):
    """A fold that starts with a state of its own.

    Attributes:
        initial: makes the state of a new key.
        function: `(state, value) -> state`.
    """

    verb = "aggregate"

    initial: Callable[[], Any]
    function: Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True, eq=False)
class Distinct(Stateful):
    """The first record of each value of a key.

    Attributes:
        value: serde of the values; the state of a key is the set of their bytes.
    """

    verb = "distinct"
    keeps = ColumnSet.ALL

    @property
    def stores(self) -> tuple[KeyedStore, ...]:
        """One, of what each key has had."""
        return (KeyedStore(self.name, self.verb, self.key, set_of(self.value)),)


def set_of(value: Serde[Any]) -> Serde[set[bytes | None]]:
    """The serde of a set of encoded values; None is one of them."""

    def serialize(seen: set[bytes | None]) -> bytes:
        return msgpack.serialize(sorted(seen, key=lambda data: (data is not None, data)))

    return Serde(f"set of {value.name}", serialize, lambda data: set(msgpack.deserialize(data)))
