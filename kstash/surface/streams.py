"""The fluent surface: a `Stream` is a point in the declared graph, and each method adds a node.

Nothing runs here. Four rules hold for all methods:

- A function is given the *value*. Who needs the key, the timestamp or the headers puts `records`
  before, which makes each value a `Record` of all of them.
- Each output has the timestamp and the headers of the record it was made of, and its key until
  `key_by` gives another one.
- None as a value is Kafka's null, a tombstone where it leaves for a topic: `map` may make it, and
  `count` counts it. It is never a state: what `reduce` and `aggregate` return is the new state, or
  `DELETE`.
- State is kept per key, so that only a `KeyedStream` has the verbs for it. `map` and `flat_map`
  make new things of which the key may no longer be the right one: what they give is a `Stream`, and
  state after it needs `key_by`. `map_values` and `flat_map_values` say that the key stands, and a
  `KeyedStream` stays one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar, cast, get_args, overload

from kstash.errors import TopologyError
from kstash.escape import short_repr
from kstash.serdes import Serde
from kstash.surface.checks import check_function, check_name, check_serde, check_topic
from kstash.surface.edges import edge_of
from kstash.surface.process import side_of
from kstash.surface.record_functions import record_stream
from kstash.surface.words import (
    STATE_VERBS,
    STREAM_WORDS,
    missing,
    no_key,
    refuse_columns,
    refuse_loops,
)
from kstash.topology import edge_nodes as e
from kstash.topology import nodes as n
from kstash.topology import record_nodes as r
from kstash.topology.nodes import Delivery
from kstash.topology.record import Record
from kstash.topology.traits import ColumnSet
from kstash.topology.user_code import user_location

if TYPE_CHECKING:  # both make streams
    from kstash.surface.graph import Graph
    from kstash.surface.keyed import KeyedStream

K = TypeVar("K")
V = TypeVar("V")
K2 = TypeVar("K2")
V2 = TypeVar("V2")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Stream(Generic[K, V]):
    """Records of key K and value V at one point of the program. Made by `App.stream`.

    No state can follow it as it is: `key_by` gives each record the key of its state.
    """

    _graph: Graph
    _node: n.Node
    _: KW_ONLY
    _key_serde: Serde[Any] | None  # None where merged streams disagree
    _value_serde: Serde[Any] | None  # None where it is not known
    _unkeyed: str | None  # why no state can be kept per key here; None of a `KeyedStream`

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._node.label()}>"

    # --- one record at a time -------------------------------------------------------------------

    def map(self, function: Callable[[V], V2]) -> Stream[K, V2]:
        """Make a new value of each value, None for a tombstone. State after it needs `key_by`."""
        return self._apply(n.MapValues, "map", function)._without_key("map")

    def map_values(self, function: Callable[[V], V2]) -> Stream[K, V2]:
        """Make a new value of each, or None; its key is still the right one."""
        return self._apply(n.MapValues, "map_values", function)

    def flat_map(self, function: Callable[[V], Iterable[V2]]) -> Stream[K, V2]:
        """Make any number of new values of each value; state needs `key_by` then.

        Args:
            function: returns an iterable of them, but no text, bytes or dict.
        """
        return self._apply(n.FlatMap, "flat_map", function)._without_key("flat_map")

    def flat_map_values(self, function: Callable[[V], Iterable[V2]]) -> Stream[K, V2]:
        """Make any number of new values of each, of which the key is still the right one."""
        return self._apply(n.FlatMap, "flat_map_values", function)

    def filter(self, predicate: Callable[[V], object]) -> Self:
        """Keep the records for whose value the predicate is true, as Python sees it: not None."""
        return cast("Self", self._apply(n.Filter, "filter", predicate))

    def filter_not(self, predicate: Callable[[V], object]) -> Self:
        """Keep the records for whose value the predicate is false, as Python sees it: None is."""
        return cast("Self", self._apply(n.FilterNot, "filter_not", predicate))

    def peek(self, function: Callable[[V], object]) -> Self:
        """Call a function on each value and pass the record on.

        For logs and debugging: the call is made again when a crashed task is replayed.
        """
        return cast("Self", self._apply(n.Peek, "peek", function))

    def records(self) -> Stream[K, Record]:
        """Make each value a `Record` of its key, value, timestamp and headers."""
        location = user_location()
        node = self._graph.add(lambda index: n.Records(index, (self._node,), location))
        return self._of_other_values(node, None)

    @overload
    def map_records(self, function: Callable[[Record], Record]) -> Stream[K, Any]: ...
    @overload
    def map_records(
        self, function: Callable[[Record], Record], *, key: Serde[K2]
    ) -> Stream[K2, Any]: ...

    def map_records(
        self, function: Callable[[Record], Record], *, key: Serde[Any] | None = None
    ) -> Stream[Any, Any]:
        """Make a new record of each: its value, timestamp and headers, and with `key=` its key.

        Args:
            function: of a `Record`, such as `lambda record: record.with_(timestamp_ms=...)`.
            key: serde of the new keys; state after it needs `key_by` then. Without it each result
                has the key of its record.

        Raises:
            TopologyError: no such function, or no serde.
        """
        return record_stream(self, r.MapRecords, "map_records", function, key)

    @overload
    def flat_map_records(
        self, function: Callable[[Record], Iterable[Record]]
    ) -> Stream[K, Any]: ...
    @overload
    def flat_map_records(
        self, function: Callable[[Record], Iterable[Record]], *, key: Serde[K2]
    ) -> Stream[K2, Any]: ...

    def flat_map_records(
        self, function: Callable[[Record], Iterable[Record]], *, key: Serde[Any] | None = None
    ) -> Stream[Any, Any]:
        """Make any number of new records of each; arguments as for `map_records`."""
        return record_stream(self, r.FlatMapRecords, "flat_map_records", function, key)

    # --- several streams ------------------------------------------------------------------------

    def merge(self, *others: Stream[K, V]) -> Stream[K, V]:
        """All records of this stream and the others (their union, duplicates kept).

        A task takes records of several topics as they come; the order is logged, so that a replay
        takes them in the same one.
        """
        return self._graph.merged((self, *others), user_location())

    def split(self, *predicates: Callable[[V], object]) -> tuple[Self, ...]:
        """Part the records: each goes to the first predicate that is true for its value.

        Returns:
            One stream for each predicate, in order, and a last one of the records that none took.
        """
        location = user_location()
        if not predicates:
            raise TopologyError("split needs a predicate", location)
        for predicate in predicates:
            check_function("split", predicate, location, "value")
        node = self._graph.add(lambda index: n.Split(index, (self._node,), location, predicates))
        return tuple(self._port(node, port) for port in node.ports)

    def side(self, name: str, *, value: Serde[V2] | None = None) -> Stream[K, V2]:
        """The records that a processor sends to one of its side outputs: `send(..., to=name)`.

        Args:
            name: one of the `sides` of the processor.
            value: serde of their values; what `dedup` and `throttle` leave out has that of the
                stream.

        Raises:
            TopologyError: this is not what `process` returned, or it has no such side output.
        """
        node, serde = side_of(self, name, value)
        return self._of_other_values(node, serde)

    # --- keys -----------------------------------------------------------------------------------

    def key_by(
        self,
        function: Callable[[V], K2 | None],
        *,
        key: Serde[K2],
        value: Serde[V] | None = None,
        name: str | None = None,
    ) -> KeyedStream[K2, V]:
        """Give each record a new key, so that keyed state can follow.

        Where keyed state follows, the records move: they pass through the internal topic
        `<application id>-<name>-repartition`, so that equal keys meet in one task; hyphens of the
        name are underscores there.

        Args:
            function: makes the key of the value; None is a null key, which has no state.
            key: serde of the new key.
            value: serde of the value on the internal topic; inherited where it is known, and not
                needed where only `count` follows.
            name: of the internal topic; by default the name of the stateful operator after it.

        Raises:
            TopologyError: a name that Kafka does not allow.
        """
        check_function("key_by", function, user_location(), "value")
        value_serde, node = edge_of(self, e.KeyBy, name, key, value, function=function)
        keyed = self._graph.stream(node, key=key, value=value_serde)
        return cast("KeyedStream[K2, V]", keyed)

    def repartition(self, name: str, *, value: Serde[V] | None = None) -> Self:
        """Pass all records through an internal topic, spread by the key they have.

        Args:
            name: of the internal topic: `<application id>-<name>-repartition`.
            value: serde of the value; inherited where it is known.

        Raises:
            TopologyError: merged streams whose keys differ; a name that Kafka does not allow.
        """
        location = user_location()
        check_name(name, location)
        if self._key_serde is None:
            raise TopologyError(f"repartition {name!r} needs one key: {self._unkeyed}", location)
        value_serde, node = edge_of(self, e.Repartition, name, self._key_serde, value)
        return replace(self, _node=node, _value_serde=value_serde)

    # --- out ------------------------------------------------------------------------------------

    def to(
        self,
        topic: str,
        *,
        key: Serde[K] | None = None,
        value: Serde[V] | None = None,
        delivery: Delivery = "immediate",
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
        check_topic("to", topic, location)
        check_serde("key", key, location)
        check_serde("value", value, location)
        if delivery not in get_args(Delivery):
            choices = " or ".join(map(repr, get_args(Delivery)))
            raise TopologyError(f"delivery is {choices}, not {short_repr(delivery)}", location)
        key_serde = key or self._key_serde
        if key_serde is None:
            raise TopologyError(
                f"to({topic!r}) cannot write the key: {self._unkeyed}; give its serde as key=",
                location,
            )
        value_serde = value or self._value_serde
        if value_serde is None:
            raise TopologyError(
                f"to({topic!r}) does not know the serde of the value here: give it as value=",
                location,
            )
        self._graph.add(
            lambda index: n.Sink(
                index,
                (self._node,),
                location,
                topic=topic,
                key=key_serde,
                value=value_serde,
                delivery=delivery,
            )
        )

    if not TYPE_CHECKING:  # a type checker would believe that every name is there

        def __getattr__(self, name: str) -> NoReturn:
            if name in STATE_VERBS:
                raise no_key(name, self._unkeyed, user_location())
            raise missing(self, name, STREAM_WORDS, user_location())

        __getitem__ = __setitem__ = refuse_columns
        __iter__ = __aiter__ = refuse_loops

    # --- inside ---------------------------------------------------------------------------------

    def _apply(
        self, kind: type[n.Apply], verb: str, function: Callable[[Any], Any]
    ) -> Stream[Any, Any]:
        """The stream after a function on each value: of the class of this one."""
        location = user_location()
        check_function(verb, function, location, "value")
        node = self._graph.add(
            lambda index: kind(index, (self._node,), location, verb=verb, function=function)
        )
        if ColumnSet.VALUE not in kind.keeps:
            return self._of_other_values(node, None)
        made: Stream[Any, Any] = replace(self, _node=node)
        return made

    def _of_other_values(self, node: n.Node, value: Serde[Any] | None) -> Stream[Any, Any]:
        """The stream of a node that keeps the keys: no longer what sends the values, as windows."""
        return self._graph.stream(node, key=self._key_serde, value=value, unkeyed=self._unkeyed)

    def _port(self, parent: n.Node, port: str) -> Self:
        return replace(self, _node=self._graph.port(parent, port, parent.location))

    def _without_key(self, verb: str) -> Stream[Any, Any]:
        unkeyed = self._unkeyed
        if unkeyed is None:
            unkeyed = f"{verb} makes new things; use {verb}_values if the key still holds"
        return self._graph.stream(
            self._node, key=self._key_serde, value=self._value_serde, unkeyed=unkeyed
        )
