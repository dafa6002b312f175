"""Windows of a keyed stream, and the folds over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

from kstash.errors import TopologyError
from kstash.escape import short_repr
from kstash.serdes import Serde, json
from kstash.surface import folds
from kstash.surface.keyed import KeyedStream
from kstash.surface.words import WINDOW_WORDS, missing, refuse_columns, refuse_loops
from kstash.topology import keyed_nodes as k
from kstash.topology import nodes as n
from kstash.topology import window_nodes as w
from kstash.topology.fold_parts import FoldPart
from kstash.topology.intervals import check_interval
from kstash.topology.record import Deletion, Late
from kstash.topology.statistics import Statistics
from kstash.topology.user_code import user_location
from kstash.topology.windowed import Windowed

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")
S = TypeVar("S")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class WindowResults(KeyedStream[Windowed[K], R], Generic[K, V, R]):
    """Results R of windows of records of key K and value V, under the keys of these windows.

    It is one as long as its values are the results: `map_values` makes a `KeyedStream`. Windows by
    the number of records have the keys as they are.
    """

    _: KW_ONLY
    _fold: w.WindowFold[Any]

    def late(self) -> KeyedStream[K, Late[V]]:
        """The records that came too late for all of their windows, under their own keys.

        Each value is a `Late` of the record's value and the windows that it missed. A fold that
        reads no values, as `count`, takes and hands on the values of late records here; their serde
        must be known then, as after `key_by(..., value=)`. To write them, `to` needs a serde:
        `kstash.json` makes `[value, [[start, end]]]` of each.

        Raises:
            TopologyError: the windows are by the number of records, which nothing is too late for.
        """
        if w.LATE not in self._fold.ports:
            raise TopologyError(
                f"nothing is late for {self._fold.windows}, which goes by no time", user_location()
            )
        return cast("KeyedStream[K, Late[V]]", self._graph.aside(self._fold, w.LATE))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class WindowedStream(Generic[K, V]):
    """Records of key K and value V, parted by time; made by `KeyedStream.window`.

    Each verb here keeps a state for each key and window. A null key is dropped and counted; so is a
    null value, but for `count`. The timestamp of a result is the greatest one in its window.
    """

    _stream: KeyedStream[K, V]
    _windows: w.WindowKind
    _: KW_ONLY
    _grace_ms: int
    _emit: w.Emit
    _idle_timeout_ms: int | None
    _every_ms: int | None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._windows}>"

    if not TYPE_CHECKING:  # a type checker would believe that every name is there

        def __getattr__(self, name: str) -> NoReturn:
            raise missing(self, name, WINDOW_WORDS, user_location())

        __getitem__ = __setitem__ = refuse_columns
        __iter__ = __aiter__ = refuse_loops

    def count(self, name: str) -> WindowResults[K, V, int]:
        """Count the records, whatever their values.

        Args:
            name: of the operator and its store: required, so that an edit does not move state.

        Raises:
            TopologyError: the name is taken.
        """
        return self._folded(folds.count_fold(name))

    def sum(self, name: str, *, value: Serde[V] | None = None) -> WindowResults[K, V, V]:
        """Add up the values, from 0.

        Args:
            name: of the operator and its store.
            value: serde of the sum; by default decimals, of an integer or a float.

        Raises:
            TopologyError: the name is taken.
        """
        return self._folded(folds.sum_fold(name, value))

    def reduce(
        self, name: str, function: Callable[[V, V], V | Deletion], *, value: Serde[V] | None = None
    ) -> WindowResults[K, V, V]:
        """Fold the values: the first stands as it is, then `function(state, value)`.

        Args:
            name: of the operator and its store.
            function: as of `KeyedStream.reduce`. `DELETE` empties the window.
            value: serde of the state; inherited where it is known.

        Raises:
            TopologyError: no serde, or the name is taken.
        """
        return self._folded(folds.reduce_fold(name, function, value, self._stream._value_serde))

    def aggregate(
        self,
        name: str,
        initial: Callable[[], S],
        function: Callable[[S, V], S | Deletion],
        *,
        value: Serde[S],
        merge: Callable[[S, S], S | Deletion] | None = None,
        values: Serde[V] | None = None,
    ) -> WindowResults[K, V, S]:
        """Keep a state of any kind.

        Args:
            name: of the operator and its store.
            initial: makes the state of a new window, another object each time.
            function: as of `KeyedStream.aggregate`. `DELETE` empties the window.
            value: serde of the state.
            merge: `(state, state) -> state` of two sessions that become one, the earlier one first;
                needed for sessions, and of no others.
            values: serde of the values, which sliding windows keep; inherited where it is known.

        Raises:
            TopologyError: the name is taken, or `merge` or `values` is missing.
        """
        known = self._stream._value_serde if values is None else values
        fold = folds.aggregate_fold(name, initial, function, value, merge=merge, values=known)
        return self._folded(fold)

    def min(self, name: str, *, value: Serde[V] | None = None) -> WindowResults[K, V, V]:
        """Keep the least value.

        Args:
            name: of the operator and its store.
            value: serde of the values; inherited where it is known.

        Raises:
            TopologyError: no serde, or the name is taken.
        """
        return self._folded(folds.extreme_fold(k.Min, name, value, self._stream._value_serde))

    def max(self, name: str, *, value: Serde[V] | None = None) -> WindowResults[K, V, V]:
        """Keep the greatest value.

        Args:
            name: of the operator and its store.
            value: serde of the values; inherited where it is known.

        Raises:
            TopologyError: no serde, or the name is taken.
        """
        return self._folded(folds.extreme_fold(k.Max, name, value, self._stream._value_serde))

    def mean(self, name: str) -> WindowResults[K, V, float]:
        """Keep the mean of numbers.

        Args:
            name: of the operator and its store.

        Raises:
            TopologyError: the name is taken.
        """
        return self._folded(folds.mean_fold(name))

    def collect(self, name: str, *, value: Serde[V] | None = None) -> WindowResults[K, V, list[V]]:
        """Keep all values in their order.

        Args:
            name: of the operator and its store.
            value: serde of one value; inherited where it is known. What writes the lists needs a
                serde of lists: `to(topic, value=kstash.json)`.

        Raises:
            TopologyError: no serde, or the name is taken.
        """
        return self._folded(folds.collect_fold(name, value, self._stream._value_serde))

    def statistics(self, name: str) -> WindowResults[K, V, Statistics]:
        """Keep count, mean, variance, the least and the greatest of numbers.

        By Welford's method, which loses nothing where numbers are far from 0. What is not
        finite is an error.

        Args:
            name: of the operator and its store.

        Raises:
            TopologyError: the name is taken.
        """
        return self._folded(folds.statistics_fold(name))

    def aggregate_all(
        self,
        name: str,
        /,
        *,
        value: Serde[Any] = json,
        values: Serde[V] | None = None,
        **parts: FoldPart,
    ) -> WindowResults[K, V, dict[str, Any]]:
        """Keep several folds in one state; a result is a dict of all that they make.

        Args:
            name: of the operator and its store.
            value: serde of the state, and of what is sent: both are dicts.
            values: serde of the values, for sliding windows; inherited where it is known.
            parts: folds of `kstash.folds` by the name of what each makes.

        Raises:
            TopologyError: no folds, or the name is taken.
        """
        known = self._stream._value_serde if values is None else values
        return self._folded(folds.aggregate_all_fold(name, value, parts, values=known))

    def _folded(self, fold: folds.Declared) -> WindowResults[Any, Any, Any]:
        stream = self._stream
        key, graph = stream._key_serde, stream._graph
        assert key is not None, "a keyed stream has one"
        problem = self._windows.problem(fold.node(0, stream._node, key))
        if problem is not None:
            raise TopologyError(f"{fold.kind.verb}({fold.name!r}): {problem}", fold.location)

        def make(index: int) -> n.Node:
            return self._windows.node(
                index,
                (stream._node,),
                fold.location,
                fold=fold.node(index, stream._node, key),
                windows=self._windows,
                grace_ms=self._grace_ms,
                is_final=self._emit == "final",
                idle_timeout_ms=self._idle_timeout_ms,
                every_ms=self._every_ms,
            )

        node = cast("w.WindowFold[Any]", graph.add(make))
        return WindowResults(
            _graph=graph,
            _node=node,
            _key_serde=self._windows.result_key(key),
            _value_serde=fold.sent,
            _unkeyed=None,
            _fold=node,
        )


def windowed_stream(
    stream: KeyedStream[K, V],
    windows: object,
    *,
    grace: object,
    emit: object,
    idle_timeout: object,
    every: object,
    location: str,
) -> WindowedStream[K, V]:
    """A keyed stream parted by time, after all checks.

    Raises:
        TopologyError: an argument is no such thing.
    """
    if not isinstance(windows, w.WindowKind):
        raise TopologyError(
            "window takes windows such as kstash.tumbling(timedelta(minutes=1)), not "
            f"{short_repr(windows)}",
            location,
        )
    grace_ms = check_interval("grace", grace, location, least=0)
    if grace_ms and not windows.goes_by_time:
        raise TopologyError(f"{windows} goes by no time: nothing is late, and no grace", location)
    if emit is None:
        emit = windows.emits[0]
    if emit not in windows.emits:
        choices = " or ".join(map(repr, windows.emits))
        raise TopologyError(f"emit of {windows} is {choices}, not {short_repr(emit)}", location)
    return WindowedStream(
        stream,
        windows,
        _grace_ms=grace_ms,
        _emit=emit,
        _idle_timeout_ms=_idle_timeout_ms(windows, idle_timeout, location),
        _every_ms=_every_ms(stream, windows, emit, every, location),
    )


def _idle_timeout_ms(windows: w.WindowKind, idle_timeout: object, location: str) -> int | None:
    if idle_timeout is None:
        return None
    idle_ms = check_interval("idle_timeout", idle_timeout, location, least=1)
    if not windows.goes_by_time:
        raise TopologyError(
            f"{windows} goes by no time: leave out idle_timeout, nothing closes its windows "
            "but their records",
            location,
        )
    return idle_ms


def _every_ms(
    stream: KeyedStream[Any, Any],
    windows: w.WindowKind,
    emit: object,
    every: object,
    location: str,
) -> int | None:
    if every is None:
        return None
    every_ms = check_interval("every", every, location, least=1)
    if "update" not in windows.emits:
        raise TopologyError(
            f"{windows} sends each window once, when it is full: leave out every, which is for "
            "windows that send with each record",
            location,
        )
    if emit != "update":
        raise TopologyError(
            'every is for emit="update": final results are sent once, when their windows close',
            location,
        )
    if stream._graph.is_watermark:
        raise TopologyError(
            'App(event_time="watermark") has no every: what waits for an interval would make '
            "all that comes after these windows wait with it. Leave out every, and each record "
            "sends; or event_time, and time is that of the records",
            location,
        )
    return every_ms
