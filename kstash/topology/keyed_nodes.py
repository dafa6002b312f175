"""The nodes that keep state for each key; see `kstash.topology.nodes`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from kstash.serdes import Serde, msgpack, number_text
from kstash.topology.fold_parts import Parts
from kstash.topology.nodes import Node
from kstash.topology.traits import ColumnSet, KeyedStore

StateMerging = Literal["own", "given", "missing"]
"""How a fold makes one state of two, see `Stateful`."""

NULL_KEY, NULL_VALUE = "null_key", "null_value"
"""Why a record is dropped that has no state: each is a label of a metric."""


@dataclass(frozen=True, slots=True, eq=False)
class Stateful(Node):
    """State per key: each record updates it and sends the new state on.

    Attributes:
        verb: the method that the user called.
        name: of the operator, its store, its stage and its repartition topic.
        key: serde of the key.
        value: serde of the state, or of what it is made of.
        takes_nulls: whether a record with a null value is processed; others are dropped.
        merging: how the states of two windows become one: by what it does itself, by a function
            that the user gave, or not at all, as that function is missing.
    """

    kind = "stateful"
    reads = ColumnSet.KEY | ColumnSet.VALUE
    keeps = ~ColumnSet.VALUE
    has_effect = True
    verb: ClassVar[str]
    takes_nulls: ClassVar[bool] = False
    merging: ClassVar[StateMerging] = "own"

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
    def state(self) -> Serde[Any]:
        """Serde of what is kept for each key."""
        return self.value

    @property
    def drops(self) -> tuple[str, ...]:
        """What has no key, and what has no value where it folds values."""
        return (NULL_KEY,) if self.takes_nulls else (NULL_KEY, NULL_VALUE)

    @property
    def stores(self) -> tuple[KeyedStore, ...]:
        """One, of the name of the operator."""
        return (KeyedStore(self.name, self.verb, self.key, self.state, detail=self.detail),)

    @property
    def detail(self) -> str:
        """What else a state depends on."""
        return ""

    @property
    def window_values(self) -> Serde[Any] | None:
        """Serde of the values, for windows that keep them; None: it reads none, or not known."""
        return self.value


@dataclass(frozen=True, slots=True, eq=False)
class Count(Stateful):
    """How many records each key has had, whatever their values."""

    verb = "count"
    reads = ColumnSet.KEY
    takes_nulls = True

    @property
    def window_values(self) -> None:
        """It reads none."""
        return None


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
        merge: `(state, state) -> state`, for windows that become one; None: it is not known.
        values: serde of the values, for windows that keep them; None: it is not known.
    """

    verb = "aggregate"

    initial: Callable[[], Any]
    function: Callable[[Any, Any], Any]
    merge: Callable[[Any, Any], Any] | None = None
    values: Serde[Any] | None = None

    @property
    def merging(self) -> StateMerging:  # type: ignore[override] # as the user said
        """By its function."""
        return "missing" if self.merge is None else "given"

    @property
    def window_values(self) -> Serde[Any] | None:
        """As the user said."""
        return self.values


@dataclass(frozen=True, slots=True, eq=False)
class AggregateAll(Stateful):
    """Several folds of each key's values, whose states are one.

    Attributes:
        parts: the folds, by the name of what each makes.
        values: serde of the values, for windows that keep them; None: it is not known.
    """

    verb = "aggregate_all"

    parts: Parts
    values: Serde[Any] | None = None

    def canonical(self) -> list[Any]:
        """The folds too."""
        folds = [[name, part.verb] for name, part in self.parts]
        return [*Stateful.canonical(self), folds]

    @property
    def window_values(self) -> Serde[Any] | None:
        """As the user said."""
        return self.values

    @property
    def detail(self) -> str:
        """The folds: the state of others cannot be taken over."""
        return ", ".join(f"{name}={part.verb}" for name, part in self.parts)


@dataclass(frozen=True, slots=True, eq=False)
class RunningStatistics(Stateful):
    """How many numbers each key has had, their mean and variance, the least and the greatest."""

    verb = "statistics"

    @property
    def window_values(self) -> Serde[Any]:
        """Numbers, whatever the state is."""
        return number_text


@dataclass(frozen=True, slots=True, eq=False)
class Min(Stateful):
    """The least of each key's values."""

    verb = "min"


@dataclass(frozen=True, slots=True, eq=False)
class Max(Stateful):
    """The greatest of each key's values."""

    verb = "max"


@dataclass(frozen=True, slots=True, eq=False)
class Mean(Stateful):
    """The mean of each key's numbers; the state is how many there were, and their sum."""

    verb = "mean"

    @property
    def window_values(self) -> Serde[Any]:
        """Numbers, whatever the state is."""
        return number_text


@dataclass(frozen=True, slots=True, eq=False)
class Collect(Stateful):
    """All values of each key.

    Attributes:
        value: serde of the values; the state of a key is a tuple of their bytes.
    """

    verb = "collect"

    @property
    def state(self) -> Serde[Any]:
        """Serde of the tuples."""
        return tuple_of(self.value)


@dataclass(frozen=True, slots=True, eq=False)
class Distinct(Stateful):
    """The first record of each value of a key.

    Attributes:
        value: serde of the values; the state of a key is the set of their bytes.
    """

    verb = "distinct"
    keeps = ColumnSet.ALL
    takes_nulls = True

    @property
    def state(self) -> Serde[Any]:
        """Serde of the sets."""
        return set_of(self.value)


def set_of(value: Serde[Any]) -> Serde[set[bytes | None]]:
    """The serde of a set of encoded values; None is one of them."""

    def serialize(seen: set[bytes | None]) -> bytes:
        return msgpack.serialize(sorted(seen, key=lambda data: (data is not None, data)))

    return Serde(f"set of {value.name}", serialize, lambda data: set(msgpack.deserialize(data)))


def tuple_of(value: Serde[Any]) -> Serde[tuple[bytes | None, ...]]:
    """The serde of encoded values in their order; None is one of them."""
    return Serde(
        f"list of {value.name}",
        msgpack.serialize,
        lambda data: tuple(msgpack.deserialize(data)),
        exact_types=frozenset({tuple}),
        is_steady=True,
        check_column=len,  # bytes can be written, always
    )


def _encode_mean(state: tuple[int, Any]) -> bytes:
    number, total = state
    return b"%d " % number + number_text.serialize(total)


def _decode_mean(data: bytes) -> tuple[int, Any]:
    number, _, total = data.partition(b" ")
    return int(number), number_text.deserialize(total)


MEAN_STATE: Serde[tuple[int, Any]] = Serde(
    "mean",
    _encode_mean,
    _decode_mean,
    exact_types=frozenset({tuple}),
    is_steady=True,
)
"""Of how many numbers there were, and their sum."""
