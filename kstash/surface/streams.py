"""The fluent surface: a `Stream` is a point in the declared graph, and each method adds a node.

Nothing runs here. Four rules hold for all methods:

- A function is given the *value*. Who needs the key, the timestamp or the headers puts `records`
  before, which makes each value a `Record` of all of them.
- Each output has the timestamp and the headers of the record it was made of, and its key until
  `key_by` gives another one.
- None as a value is Kafka's null, a tombstone where it leaves for a topic: `map` may make it, and
  `count` counts it. It is never a state: what `reduce` and `aggregate` return is the new state, or
  `DELETE`.
- State is kept per key. `map` and `flat_map` make new things of which the key may no longer be
  the right one, so that state behind them needs `key_by`; `map_values` and `flat_map_values` say
  that the key stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    NoReturn,
    Protocol,
    TypeVar,
    cast,
)

from kstash.errors import TopologyError
from kstash.serdes import Serde, int_text, number_text
from kstash.surface.checks import check_function, check_name, check_serde, check_topic
from kstash.surface.words import STREAM_WORDS, missing, refuse_columns, refuse_loops
from kstash.topology import nodes as n
from kstash.topology.record import Deletion, Record
from kstash.topology.traits import ColumnSet
from kstash.topology.user_code import user_location

K = TypeVar("K")
V = TypeVar("V")
K2 = TypeVar("K2")
V2 = TypeVar("V2")
S = TypeVar("S")

DELIVERIES = ("immediate", "transactional")
"""How a sink's records become visible."""


class Graph(Protocol):
    """Where streams put their nodes: the application."""

    def add(self, make: Callable[[int], n.Node]) -> n.Node:
        """Declare a node; `make` is given its index."""

    def claim_store(self, name: str, location: str) -> None:
        """Take a name for a stateful operator; a second one of that name is refused."""


@dataclass(frozen=True, slots=True, eq=False)
class Stream(Generic[K, V]):
    """Records of key K and value V at one point of the program. Made by `App.stream`.

    Attributes:
        node: what makes these records.
        key_serde: serde of the key, or None where merged streams disagree.
        value_serde: serde of the value, or None where it is not known.
        unkeyed: why no state can be kept per key here, or None when it can.
    """

    _graph: Graph
    node: n.Node
    key_serde: Serde[Any] | None
    value_serde: Serde[Any] | None
    unkeyed: str | None

    # --- one record at a time -------------------------------------------------------------------

    def map(self, function: Callable[[V], V2]) -> Stream[K, V2]:
        """Make a new value of each value, None for a tombstone. State behind it needs `key_by`."""
        return self._apply(n.Map, "map", function, has_new_things=True)

    def map_values(self, function: Callable[[V], V2]) -> Stream[K, V2]:
        """Make a new value of each, or None; its key is still the right one."""
        return self._apply(n.Map, "map_values", function)

    def flat_map(self, function: Callable[[V], Iterable[V2]]) -> Stream[K, V2]:
        """Make any number of new values of each value: an iterable, not None.

        State behind it needs `key_by`.
        """
        return self._apply(n.FlatMap, "flat_map", function, has_new_things=True)

    def flat_map_values(self, function: Callable[[V], Iterable[V2]]) -> Stream[K, V2]:
        """Make any number of new values of each, of which the key is still the right one."""
        return self._apply(n.FlatMap, "flat_map_values", function)

    def filter(self, predicate: Callable[[V], object]) -> Stream[K, V]:
        """Keep the records for whose value the predicate is true, as Python sees it: not None."""
        return self._apply(n.Filter, "filter", predicate)

    def filter_not(self, predicate: Callable[[V], object]) -> Stream[K, V]:
        """Keep the records for whose value the predicate is false, as Python sees it: None is."""
        return self._apply(n.FilterNot, "filter_not", predicate)

    def peek(self, function: Callable[[V], object]) -> Stream[K, V]:
        """Call a function on each value and pass the record on.

        For logs and debugging: the call is made again when a crashed task is replayed.
        """
        return self._apply(n.Peek, "peek", function)

    def records(self) -> Stream[K, Record]:
        """Make each value a `Record` of its key, value, timestamp and headers."""
        location = user_location()
        node = self._add(lambda index: n.Records(index, (self.node,), location))
        return cast("Stream[K, Record]", replace(self, node=node, value_serde=None))

    # --- several streams ------------------------------------------------------------------------

    def merge(self, *others: Stream[K, V]) -> Stream[K, V]:
        """All records of this stream and the others (their union, duplicates kept).

        A task takes records of several topics as they come; the order is logged, so that a replay
        takes them in the same one.
        """
        location = user_location()
        streams = (self, *others)
        if not others:
            raise TopologyError("merge needs another stream", location)
        if strangers := [other for other in others if not isinstance(other, Stream)]:
            raise TopologyError(f"merge takes streams, not {strangers[0]!r}", location)
        if any(stream._graph is not self._graph for stream in others):
            raise TopologyError("merge of streams of two applications", location)
        return merged(self._graph, streams, location)

    def split(self, *predicates: Callable[[V], object]) -> tuple[Stream[K, V], ...]:
        """Part the records: each goes to the first predicate that is true for its value.

        Returns:
            One stream for each predicate, in order, and a last one of the records that none took.
        """
        location = user_location()
        if not predicates:
            raise TopologyError("split needs a predicate", location)
        for predicate in predicates:
            check_function("split", predicate, location, "value")
        node = self._add(lambda index: n.Split(index, (self.node,), location, predicates))

        def branch(number: int) -> Stream[K, V]:
            made = self._add(lambda index: n.Branch(index, (node,), location, number))
            return replace(self, node=made)

        return tuple(branch(number) for number in range(len(predicates) + 1))

    # --- keys -----------------------------------------------------------------------------------

    def key_by(
        self,
        function: Callable[[V], K2 | None],
        *,
        key: Serde[K2],
        value: Serde[V] | None = None,
        name: str | None = None,
    ) -> Stream[K2, V]:
        """Give each record a new key.

        Where keyed state follows, the records move: they pass through the internal topic
        `<application id>-<name>-repartition`, so that equal keys meet in one task; hyphens of the
        name are underscores there.

        Args:
            function: makes the key of the value; None is a null key, which has no state.
            key: serde of the new key.
            value: serde of the value on the internal topic; inherited where it is known, and not
                needed where only `count` follows.
            name: of the internal topic; by default the name of the stateful operator behind it.

        Raises:
            TopologyError: a name that Kafka does not allow.
        """
        check_function("key_by", function, user_location(), "value")
        return self._edge(n.KeyBy, name, key, value, function)

    def repartition(self, name: str, *, value: Serde[V] | None = None) -> Stream[K, V]:
        """Pass all records through an internal topic, spread by the key they have.

        Args:
            name: of the internal topic: `<application id>-<name>-repartition`.
            value: serde of the value; inherited where it is known.

        Raises:
            TopologyError: merged streams whose keys differ; a name that Kafka does not allow.
        """
        location = user_location()
        check_name(name, location)
        if self.key_serde is None:
            raise TopologyError(f"repartition {name!r} needs one key: {self.unkeyed}", location)
        again = self._edge(n.Repartition, name, self.key_serde, value)
        return cast("Stream[K, V]", replace(again, unkeyed=self.unkeyed))

    # --- state ----------------------------------------------------------------------------------

    def count(self, name: str) -> Stream[K, int]:
        """Count the records of each key, whatever their values; each record sends the new count on.

        Args:
            name: of the operator and its store: required, so that an edit does not move state.

        Raises:
            TopologyError: no key to count by, or the name is taken.
        """
        return cast("Stream[K, int]", self._stateful(n.Count, name, int_text))

    def sum(self, name: str, *, value: Serde[V] | None = None) -> Stream[K, V]:
        """Add up the values of each key, from 0; each record sends the new sum on.

        None cannot be added: an `OperatorError`.

        Args:
            name: of the operator and its store.
            value: serde of the sum; by default decimals, of an integer or a float.

        Raises:
            TopologyError: no key to sum by, or the name is taken.
        """
        return self._stateful(n.Sum, name, number_text if value is None else value)

    def reduce(
        self, name: str, function: Callable[[V, V], V | Deletion], *, value: Serde[V] | None = None
    ) -> Stream[K, V]:
        """Fold the values of each key: the first stands as it is, then `function(state, value)`.

        What the function is given as state is what the serde makes of what it returned, also when
        nothing was restored; what the serde cannot keep is a `SerdeError`.

        Args:
            name: of the operator and its store.
            function: `(state, value) -> state`, or `DELETE`. None is an `OperatorError`, as a
                return value and as the first value of a key.
            value: serde of the state; inherited where it is known.

        Raises:
            TopologyError: no key, no serde, or the name is taken.
        """
        serde = self.value_serde if value is None else value
        if serde is None:
            raise TopologyError(
                f"reduce({name!r}) keeps values, but their serde is not known here: "
                "give it as value=",
                user_location(),
            )
        check_function("reduce", function, user_location(), "state", "value")
        return self._stateful(n.Reduce, name, serde, function)

    def aggregate(
        self,
        name: str,
        initial: Callable[[], S],
        function: Callable[[S, V], S | Deletion],
        *,
        value: Serde[S],
    ) -> Stream[K, S]:
        """Keep a state of any kind for each key; each record sends the new state on.

        What the function is given as state is what the serde makes of what it returned, also when
        nothing was restored: a list for a tuple, under json; what the serde cannot keep is a
        `SerdeError`.

        Args:
            name: of the operator and its store.
            initial: makes the state of a new key, another object each time.
            function: `(state, value) -> state`, or `DELETE`; may change the state in place and
                return it. None is an `OperatorError`.
            value: serde of the state.

        Raises:
            TopologyError: no key, or the name is taken.
        """
        check_function("aggregate", initial, user_location())
        check_function("aggregate", function, user_location(), "state", "value")
        made = self._stateful(n.Aggregate, name, value, initial, function)
        return cast("Stream[K, S]", made)

    # --- out ------------------------------------------------------------------------------------

    def to(
        self,
        topic: str,
        *,
        key: Serde[K] | None = None,
        value: Serde[V] | None = None,
        delivery: str = "immediate",
    ) -> None:
        """Send the records to a topic.

        Args:
            topic: name of a user topic.
            key: serde of the key; inherited by default.
            value: serde of the value; inherited where it is known.
            delivery: `immediate`: readers with the reader rule see each record exactly once and
                at once, plain `read_committed` readers exactly once and an interval later.
                `transactional`: records carry no header of kstash's, and count once their
                transaction is committed: for `read_committed` readers only. Also for compacted
                topics.

        Raises:
            TopologyError: a serde is missing, or a name is not allowed.
        """
        location = user_location()
        check_topic(topic, location)
        check_serde("key", key, location)
        check_serde("value", value, location)
        if delivery not in DELIVERIES:
            choices = " or ".join(map(repr, DELIVERIES))
            raise TopologyError(f"delivery is {choices}, not {delivery!r}", location)
        key_serde = key or self.key_serde
        if key_serde is None:
            raise TopologyError(
                f"to({topic!r}) cannot write the key: {self.unkeyed}; give its serde as key=",
                location,
            )
        value_serde = value or self.value_serde
        if value_serde is None:
            raise TopologyError(
                f"to({topic!r}) does not know the serde of the value here: give it as value=",
                location,
            )
        self._add(
            lambda index: n.Sink(
                index, (self.node,), location, topic, key_serde, value_serde, delivery
            )
        )

    if not TYPE_CHECKING:  # a type checker would believe that every name is there

        def __getattr__(self, name: str) -> NoReturn:
            raise missing(self, name, STREAM_WORDS, user_location())

        __getitem__ = __setitem__ = refuse_columns
        __iter__ = __aiter__ = refuse_loops

    # --- inside ---------------------------------------------------------------------------------

    def _add(self, make: Callable[[int], n.Node]) -> n.Node:
        return self._graph.add(make)

    def _apply(
        self,
        kind: type[n.Apply],
        verb: str,
        function: Callable[[Any], Any],
        *,
        has_new_things: bool = False,
    ) -> Stream[Any, Any]:
        location = user_location()
        check_function(verb, function, location, "value")
        node = self._add(lambda index: kind(index, (self.node,), location, verb, function))
        unkeyed = self.unkeyed
        if has_new_things and unkeyed is None:
            unkeyed = f"{verb} makes new things; use {verb}_values if the key still holds"
        value_serde = self.value_serde if ColumnSet.VALUE in kind.keeps else None
        return replace(self, node=node, value_serde=value_serde, unkeyed=unkeyed)

    def _edge(
        self,
        kind: type[n.EdgeNode],
        name: str | None,
        key: Serde[Any],
        value: Serde[Any] | None,
        *functions: Callable[[Any], Any],
    ) -> Stream[Any, Any]:
        location = user_location()
        serde = self.value_serde if value is None else value
        if name is not None:
            check_name(name, location)
        check_serde("key", key, location, is_needed=True)
        check_serde("value", serde, location)
        node = self._add(
            lambda index: kind(index, (self.node,), location, name, key, serde, *functions)
        )
        return Stream(self._graph, node, key, serde, None)

    def _stateful(
        self, kind: type[n.Stateful], name: str, serde: Serde[Any], *functions: Callable[..., Any]
    ) -> Stream[Any, Any]:
        location = user_location()
        check_name(name, location)
        check_serde("value", serde, location, is_needed=True)
        if self.unkeyed is not None or self.key_serde is None:
            raise TopologyError(
                f"{kind.verb}({name!r}) keeps state per key, and the stream has none: "
                f"{self.unkeyed}. Or put key_by() before it",
                location,
            )
        key = self.key_serde
        self._graph.claim_store(name, location)
        node = self._add(
            lambda index: kind(index, (self.node,), location, name, key, serde, *functions)
        )
        return replace(self, node=node, value_serde=serde)


def merged(graph: Graph, streams: tuple[Stream[Any, Any], ...], location: str) -> Stream[Any, Any]:
    """The union of streams; what they disagree about is not known behind it."""
    parents = tuple(stream.node for stream in streams)
    node = graph.add(lambda index: n.Merge(index, parents, location))
    key_serdes = {stream.key_serde.name if stream.key_serde else None for stream in streams}
    value_serdes = {stream.value_serde.name if stream.value_serde else None for stream in streams}
    unkeyed = next((stream.unkeyed for stream in streams if stream.unkeyed), None)
    if len(key_serdes) > 1:
        names = ", ".join(sorted(str(name) for name in key_serdes))
        unkeyed = f"the merged streams have different keys ({names})"
    return Stream(
        graph,
        node,
        streams[0].key_serde if len(key_serdes) == 1 else None,
        streams[0].value_serde if len(value_serdes) == 1 else None,
        unkeyed,
    )
