"""Keyed streams: what a `Stream` is where state can be kept per key, and the verbs that keep it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast, overload

from kstash.errors import TopologyError
from kstash.serdes import Serde, int_text, number_text
from kstash.surface.checks import check_function, check_name, check_serde
from kstash.surface.process import processed
from kstash.surface.streams import Stream
from kstash.topology import keyed_nodes as k
from kstash.topology.processor import Processor
from kstash.topology.record import Deletion, Record
from kstash.topology.user_code import user_location

K = TypeVar("K")
V = TypeVar("V")
K2 = TypeVar("K2")
V2 = TypeVar("V2")
S = TypeVar("S")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class KeyedStream(Stream[K, V]):
    """Records with a key, for each of which operators can keep a state.

    Made by `App.stream` where it is given `key=`, by `key_by`, and by what keeps the key of another
    keyed stream. `map` and `flat_map` make new things, and a `Stream` of them.
    """

    # --- what keeps the key ---------------------------------------------------------------------

    def map_values(self, function: Callable[[V], V2]) -> KeyedStream[K, V2]:
        """Make a new value of each, or None; its key is still the right one."""
        return cast("KeyedStream[K, V2]", Stream.map_values(self, function))

    def flat_map_values(self, function: Callable[[V], Iterable[V2]]) -> KeyedStream[K, V2]:
        """Make any number of new values of each, of which the key is still the right one."""
        return cast("KeyedStream[K, V2]", Stream.flat_map_values(self, function))

    def records(self) -> KeyedStream[K, Record]:
        """Make each value a `Record` of its key, value, timestamp and headers."""
        return cast("KeyedStream[K, Record]", Stream.records(self))

    def side(self, name: str, *, value: Serde[V2] | None = None) -> KeyedStream[K, V2]:
        """The records that a processor sends to one of its side outputs, with the key of theirs."""
        return cast("KeyedStream[K, V2]", Stream.side(self, name, value=value))

    @overload
    def merge(self, *others: KeyedStream[K, V]) -> KeyedStream[K, V]: ...
    @overload
    def merge(self, *others: Stream[K, V]) -> Stream[K, V]: ...

    def merge(self, *others: Stream[K, V]) -> Stream[K, V]:
        """All records of this stream and the others; keyed where all are, by serdes of one name.

        A task takes records of several topics as they come; the order is logged, so that a replay
        takes them in the same one.
        """
        return Stream.merge(self, *others)

    # --- state ----------------------------------------------------------------------------------

    def count(self, name: str) -> KeyedStream[K, int]:
        """Count the records of each key, whatever their values; each record sends the new count on.

        Args:
            name: of the operator and its store: required, so that an edit does not move state.

        Raises:
            TopologyError: the name is taken.
        """
        return self._stateful(k.Count, name, int_text)

    def sum(self, name: str, *, value: Serde[V] | None = None) -> KeyedStream[K, V]:
        """Add up the values of each key, from 0; each record sends the new sum on.

        None cannot be added: an `OperatorError`.

        Args:
            name: of the operator and its store.
            value: serde of the sum; by default decimals, of an integer or a float.

        Raises:
            TopologyError: the name is taken.
        """
        return self._stateful(k.Sum, name, number_text if value is None else value)

    def reduce(
        self, name: str, function: Callable[[V, V], V | Deletion], *, value: Serde[V] | None = None
    ) -> KeyedStream[K, V]:
        """Fold the values of each key: the first stands as it is, then `function(state, value)`.

        What the function is given as state is what the serde makes of what it returned, also when
        nothing was restored; what the serde cannot keep is a `SerdeError`.

        Args:
            name: of the operator and its store.
            function: `(state, value) -> state`, or `DELETE`. None is an `OperatorError`, as a
                return value and as the first value of a key.
            value: serde of the state; inherited where it is known.

        Raises:
            TopologyError: no serde, or the name is taken.
        """
        serde = self._serde_of_values("reduce", name, value)
        check_function("reduce", function, user_location(), "state", "value")
        return self._stateful(k.Reduce, name, serde, function=function)

    def aggregate(
        self,
        name: str,
        initial: Callable[[], S],
        function: Callable[[S, V], S | Deletion],
        *,
        value: Serde[S],
    ) -> KeyedStream[K, S]:
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
            TopologyError: the name is taken.
        """
        check_function("aggregate", initial, user_location())
        check_function("aggregate", function, user_location(), "state", "value")
        return self._stateful(k.Aggregate, name, value, initial=initial, function=function)

    def distinct(self, name: str, *, value: Serde[V] | None = None) -> KeyedStream[K, V]:
        """Pass each value of a key on once: records with a value that the key had before are gone.

        Values are equal when their bytes are; None is one of them. The state of a key holds all its
        values, and grows with each new one: for values of which a key has few.

        Args:
            name: of the operator and its store.
            value: serde of the values; inherited where it is known.

        Raises:
            TopologyError: no serde, or the name is taken.
        """
        return self._stateful(k.Distinct, name, self._serde_of_values("distinct", name, value))

    @overload
    def process(
        self,
        name: str,
        processor: type[Processor[K, V, V2]] | Processor[K, V, V2],
        *,
        value: Serde[V2],
    ) -> KeyedStream[K, V2]: ...
    @overload
    def process(
        self,
        name: str,
        processor: type[Processor[K, V, V2]] | Processor[K, V, V2],
        *,
        value: Serde[V2],
        key: Serde[K2],
    ) -> Stream[K2, V2]: ...

    def process(
        self, name: str, processor: Any, *, value: Serde[Any], key: Serde[Any] | None = None
    ) -> Stream[Any, Any]:
        """Give each record, and each timer that is due, to a `Processor`; what it sends goes on.

        Args:
            name: of the operator and its stores: those of its states are `<name>.<state>`.
            processor: its class, of which each task makes one, or an instance, of which each task
                gets a copy (`copy.copy`).
            value: serde of the results.
            key: serde of keys that results are given by `send(key=)`; state after it needs
                `key_by` then. By default results have the key of their record.

        Raises:
            TopologyError: no processor, or a name is taken.
        """
        return processed(self, name, processor, value=value, key=key)

    def _serde_of_values(self, verb: str, name: str, value: Serde[V] | None) -> Serde[V]:
        serde = self._value_serde if value is None else value
        if serde is None:
            raise TopologyError(
                f"{verb}({name!r}) keeps values, but their serde is not known here: "
                "give it as value=",
                user_location(),
            )
        return serde

    def _stateful(
        self, kind: type[k.Stateful], name: str, serde: Serde[Any], **functions: Callable[..., Any]
    ) -> KeyedStream[K, Any]:
        location = user_location()
        check_name(name, location)
        check_serde("value", serde, location, is_needed=True)
        key = self._key_serde
        assert key is not None, "a keyed stream has one"
        self._graph.claim_store(name, location)
        node = self._graph.add(
            lambda index: kind(
                index, (self._node,), location, name=name, key=key, value=serde, **functions
            )
        )
        return replace(self, _node=node, _value_serde=serde)
