"""The folds of a keyed stream: verbs that make a state for each key anew of each record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from kstash.serdes import Serde, json
from kstash.surface import folds
from kstash.surface.streams import Stream
from kstash.topology import keyed_nodes as k
from kstash.topology.fold_parts import FoldPart
from kstash.topology.record import Deletion
from kstash.topology.statistics import Statistics

if TYPE_CHECKING:  # it is what folds are of, and what they make
    from kstash.surface.keyed import KeyedStream

K = TypeVar("K")
V = TypeVar("V")
S = TypeVar("S")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class KeyedFolds(Stream[K, V]):
    """What a `KeyedStream` can fold; each stream of this class is one.

    A record with a null key is dropped and counted (`null_key`). So is one with a null value
    (`null_value`), but by `count` and `distinct`.
    """

    def count(self, name: str) -> KeyedStream[K, int]:
        """Count the records of each key, whatever their values; each record sends the new count on.

        Args:
            name: of the operator and its store: required, so that an edit does not move state.

        Raises:
            TopologyError: the name is taken.
        """
        return self._folded(folds.count_fold(name))

    def sum(self, name: str, *, value: Serde[V] | None = None) -> KeyedStream[K, V]:
        """Add up the values of each key, from 0; each record sends the new sum on.

        Args:
            name: of the operator and its store.
            value: serde of the sum; by default decimals, of an integer or a float.

        Raises:
            TopologyError: the name is taken.
        """
        return self._folded(folds.sum_fold(name, value))

    def reduce(
        self, name: str, function: Callable[[V, V], V | Deletion], *, value: Serde[V] | None = None
    ) -> KeyedStream[K, V]:
        """Fold the values of each key: the first stands as it is, then `function(state, value)`.

        What the function is given as state is what the serde makes of what it returned, also when
        nothing was restored; what the serde cannot keep is a `SerdeError`.

        Args:
            name: of the operator and its store.
            function: `(state, value) -> state`, or `DELETE`. None is an `OperatorError`.
            value: serde of the state; inherited where it is known.

        Raises:
            TopologyError: no serde, or the name is taken.
        """
        return self._folded(folds.reduce_fold(name, function, value, self._value_serde))

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
        return self._folded(folds.aggregate_fold(name, initial, function, value))

    def min(self, name: str, *, value: Serde[V] | None = None) -> KeyedStream[K, V]:
        """Keep the least value of each key; each record sends it on.

        Args:
            name: of the operator and its store.
            value: serde of the values; inherited where it is known.

        Raises:
            TopologyError: no serde, or the name is taken.
        """
        return self._folded(folds.extreme_fold(k.Min, name, value, self._value_serde))

    def max(self, name: str, *, value: Serde[V] | None = None) -> KeyedStream[K, V]:
        """Keep the greatest value of each key; each record sends it on.

        Args:
            name: of the operator and its store.
            value: serde of the values; inherited where it is known.

        Raises:
            TopologyError: no serde, or the name is taken.
        """
        return self._folded(folds.extreme_fold(k.Max, name, value, self._value_serde))

    def mean(self, name: str) -> KeyedStream[K, float]:
        """Keep the mean of each key's numbers; each record sends it on.

        The state is their number and their sum: a mean of integers is exact until it is divided.

        Args:
            name: of the operator and its store.

        Raises:
            TopologyError: the name is taken.
        """
        return self._folded(folds.mean_fold(name))

    def collect(self, name: str, *, value: Serde[V] | None = None) -> KeyedStream[K, list[V]]:
        """Keep all values of each key in their order; each record sends the list on.

        The state grows with each record: it is meant for windows.

        Args:
            name: of the operator and its store.
            value: serde of one value; inherited where it is known. What writes the lists needs a
                serde of lists: `to(topic, value=kstash.json)`.

        Raises:
            TopologyError: no serde, or the name is taken.
        """
        return self._folded(folds.collect_fold(name, value, self._value_serde))

    def statistics(self, name: str) -> KeyedStream[K, Statistics]:
        """Keep count, mean, variance, least and greatest of each key's numbers; each sends them on.

        By Welford's method, which loses nothing where numbers are far from 0. What is not finite
        is an error.

        Args:
            name: of the operator and its store.

        Raises:
            TopologyError: the name is taken.
        """
        return self._folded(folds.statistics_fold(name))

    def aggregate_all(
        self, name: str, /, *, value: Serde[Any] = json, **parts: FoldPart
    ) -> KeyedStream[K, dict[str, Any]]:
        """Keep several folds of each key in one state; each record sends all that they make.

        Args:
            name: of the operator and its store.
            value: serde of the state, and of what is sent: both are dicts.
            parts: folds of `kstash.folds` by the name of what each makes.

        Raises:
            TopologyError: no folds, or the name is taken.
        """
        return self._folded(folds.aggregate_all_fold(name, value, parts))

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
        return self._folded(folds.distinct_fold(name, value, self._value_serde))

    # --- inside ---------------------------------------------------------------------------------

    def _folded(self, fold: folds.Declared) -> KeyedStream[K, Any]:
        key = self._key_serde
        assert key is not None, "a keyed stream has one"
        node = self._graph.add(lambda index: fold.node(index, self._node, key))
        return cast("KeyedStream[K, Any]", self._of_other_values(node, fold.sent))
