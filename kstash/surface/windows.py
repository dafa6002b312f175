"""Windows of a keyed stream: which kinds there are, and the folds over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar, cast, get_args

from kstash.errors import TopologyError
from kstash.escape import short_repr
from kstash.serdes import Serde, Windowed, windowed_by_session, windowed_by_time
from kstash.surface import folds
from kstash.surface.checks import check_interval, check_serde
from kstash.surface.keyed import KeyedStream
from kstash.topology import keyed_nodes as k
from kstash.topology import nodes as n
from kstash.topology import window_nodes as w
from kstash.topology.record import Deletion, Late
from kstash.topology.session_nodes import Sessions
from kstash.topology.sliding_nodes import Sliding
from kstash.topology.user_code import user_location

K = TypeVar("K")
V = TypeVar("V")
S = TypeVar("S")


def tumbling(size: timedelta, *, offset: timedelta = timedelta(0)) -> w.Windows:
    """Windows side by side: each record is in one. A window has its start, and not its end.

    Args:
        size: of a window, in whole milliseconds, 1 or more.
        offset: where windows begin: at this, and at each multiple of the size from it, counted from
            1970 UTC; less than the size, either way. `-timedelta(hours=2)` makes days of a place
            that is two hours ahead of UTC. No window begins before 1970.

    Raises:
        TopologyError: no such size or offset.
    """
    location = user_location()
    size_ms = check_interval("size", size, location, least=1)
    return w.Aligned(size_ms, size_ms, _offset(offset, size_ms, location))


def hopping(size: timedelta, advance: timedelta, *, offset: timedelta = timedelta(0)) -> w.Windows:
    """Windows that overlap: each record is in all that are around it.

    Args:
        size: of a window, in whole milliseconds, 1 or more. It has its start, and not its end.
        advance: from one start to the next; at most the size.
        offset: where windows begin: at this, and at each multiple of the advance from it, counted
            from 1970 UTC; less than the advance, either way. No window begins before 1970.

    Raises:
        TopologyError: no such size, advance or offset.
    """
    location = user_location()
    size_ms = check_interval("size", size, location, least=1)
    advance_ms = check_interval("advance", advance, location, least=1)
    if advance_ms > size_ms:
        raise TopologyError(
            f"advance is {advance}, more than the size of {size}: records between two windows "
            "would be in none",
            location,
        )
    return w.Aligned(size_ms, advance_ms, _offset(offset, advance_ms, location))


def session(gap: timedelta) -> w.Windows:
    """Windows from the first to the last of records that are close to each other.

    A record belongs to the sessions of its key that are at most the gap away, and makes one of
    them. A session holds its start and its end, and closes when stream time is past its end by more
    than gap and grace.

    Args:
        gap: the largest distance of a record from its session, in whole milliseconds, 1 or more.

    Raises:
        TopologyError: no such gap.
    """
    return Sessions(check_interval("gap", gap, user_location(), least=1))


def sliding(size: timedelta) -> w.Windows:
    """Windows around records: one ends at each, and one begins 1 ms after each that others follow.

    So there is a window for each set of records of a key that are at most the size apart. It holds
    its start and its end; none starts before 1970. The values of records are kept as long as a
    window to come can hold them.

    Args:
        size: from the start of a window to its end, in whole milliseconds, 1 or more.

    Raises:
        TopologyError: no such size.
    """
    return Sliding(check_interval("size", size, user_location(), least=1))


def windowed(serde: Serde[K], size: timedelta | None = None) -> Serde[Windowed[K]]:
    """The serde of the keys of results of windows.

    With a size it writes what the TimeWindowedSerde of Kafka Streams does: the key, and the start
    as 8 bytes, big endian. The end is not written; it follows from the size. Without one it writes
    what the SessionWindowedSerde does: the key, the end and the start. Records under such a key are
    spread over partitions by the inner key alone, as that of their windows' records.

    Args:
        serde: of the inner key.
        size: of the windows, in whole milliseconds, 1 or more; None: they are sessions.

    Raises:
        TopologyError: no serde, or no such size.
    """
    location = user_location()
    check_serde("serde", serde, location, is_needed=True)
    if size is None:
        return windowed_by_session(serde)
    return windowed_by_time(serde, check_interval("size", size, location, least=1))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class WindowResults(KeyedStream[K, V]):
    """The results of windows: a keyed stream of `Windowed` keys."""

    _fold: w.WindowFold[Any]

    def late(self) -> KeyedStream[Any, Late[Any]]:
        """The records that came too late for all of their windows, under their own keys.

        Each value is a `Late` of the record's value and the windows that it missed. A fold that
        reads no values, as `count`, takes and hands on the values of late records here; their serde
        must be known then, as after `key_by(..., value=)`.
        """
        return cast("KeyedStream[Any, Late[Any]]", self._graph.aside(self._fold, w.LATE))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class WindowedStream(Generic[K, V]):
    """Records of key K and value V, parted by time; made by `KeyedStream.window`.

    Each verb here keeps a state for each key and window. A null key is dropped and counted; so is a
    null value, but for `count`. The timestamp of a result is the greatest one in its window.
    """

    _stream: KeyedStream[K, V]
    _windows: w.Windows
    _grace_ms: int
    _emit: w.Emit

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._windows}>"

    def count(self, name: str) -> WindowResults[Windowed[K], int]:
        """Count the records, whatever their values.

        Args:
            name: of the operator and its store: required, so that an edit does not move state.

        Raises:
            TopologyError: the name is taken.
        """
        return self._folded(folds.count(name))

    def sum(self, name: str, *, value: Serde[V] | None = None) -> WindowResults[Windowed[K], V]:
        """Add up the values, from 0.

        Args:
            name: of the operator and its store.
            value: serde of the sum; by default decimals, of an integer or a float.

        Raises:
            TopologyError: the name is taken.
        """
        return self._folded(folds.sum_(name, value))

    def reduce(
        self, name: str, function: Callable[[V, V], V | Deletion], *, value: Serde[V] | None = None
    ) -> WindowResults[Windowed[K], V]:
        """Fold the values: the first stands as it is, then `function(state, value)`.

        Args:
            name: of the operator and its store.
            function: as of `KeyedStream.reduce`. `DELETE` empties the window.
            value: serde of the state; inherited where it is known.

        Raises:
            TopologyError: no serde, or the name is taken.
        """
        return self._folded(folds.reduce(name, function, value, self._stream._value_serde))

    def aggregate(
        self,
        name: str,
        initial: Callable[[], S],
        function: Callable[[S, V], S | Deletion],
        *,
        value: Serde[S],
        merge: Callable[[S, S], S | Deletion] | None = None,
        values: Serde[V] | None = None,
    ) -> WindowResults[Windowed[K], S]:
        """Keep a state of any kind.

        Args:
            name: of the operator and its store.
            initial: makes the state of a new window, another object each time.
            function: as of `KeyedStream.aggregate`. `DELETE` empties the window.
            value: serde of the state.
            merge: `(state, state) -> state` of two sessions that become one, the earlier one first;
                needed for sessions.
            values: serde of the values, which sliding windows keep; inherited where it is known.

        Raises:
            TopologyError: the name is taken, or `merge` or `values` is missing.
        """
        known = self._stream._value_serde if values is None else values
        fold = folds.aggregate(name, initial, function, value, merge=merge, values=known)
        return self._folded(fold)

    def min(self, name: str, *, value: Serde[V] | None = None) -> WindowResults[Windowed[K], V]:
        """Keep the least value.

        Args:
            name: of the operator and its store.
            value: serde of the values; inherited where it is known.

        Raises:
            TopologyError: no serde, or the name is taken.
        """
        return self._folded(folds.extreme(k.Min, name, value, self._stream._value_serde))

    def max(self, name: str, *, value: Serde[V] | None = None) -> WindowResults[Windowed[K], V]:
        """Keep the greatest value.

        Args:
            name: of the operator and its store.
            value: serde of the values; inherited where it is known.

        Raises:
            TopologyError: no serde, or the name is taken.
        """
        return self._folded(folds.extreme(k.Max, name, value, self._stream._value_serde))

    def mean(self, name: str) -> WindowResults[Windowed[K], float]:
        """Keep the mean of numbers.

        Args:
            name: of the operator and its store.

        Raises:
            TopologyError: the name is taken.
        """
        return self._folded(folds.mean(name))

    def collect(
        self, name: str, *, value: Serde[V] | None = None
    ) -> WindowResults[Windowed[K], list[V]]:
        """Keep all values in their order.

        Args:
            name: of the operator and its store.
            value: serde of one value; inherited where it is known. What writes the lists needs a
                serde of lists: `to(topic, value=kstash.json)`.

        Raises:
            TopologyError: no serde, or the name is taken.
        """
        return self._folded(folds.collect(name, value, self._stream._value_serde))

    def _folded(self, fold: folds.Declared) -> WindowResults[Any, Any]:
        stream = self._stream
        key, graph = stream._key_serde, stream._graph
        assert key is not None, "a keyed stream has one"
        problem = self._windows.problem(fold.node(0, stream._node, key))
        if problem is not None:
            raise TopologyError(f"{fold.kind.verb}({fold.name!r}): {problem}", fold.location)
        graph.claim_store(fold.name, fold.location)

        def make(index: int) -> n.Node:
            return self._windows.node(
                index,
                (stream._node,),
                fold.location,
                fold=fold.node(index, stream._node, key),
                windows=self._windows,
                grace_ms=self._grace_ms,
                is_final=self._emit == "final",
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
    stream: KeyedStream[K, V], windows: object, grace: object, emit: object, location: str
) -> WindowedStream[K, V]:
    """A keyed stream parted by time, after all checks.

    Raises:
        TopologyError: an argument is no such thing.
    """
    if not isinstance(windows, w.Windows):
        raise TopologyError(
            "window takes windows such as kstash.tumbling(timedelta(minutes=1)), not "
            f"{short_repr(windows)}",
            location,
        )
    grace_ms = check_interval("grace", grace, location, least=0)
    if emit not in get_args(w.Emit):
        choices = " or ".join(map(repr, get_args(w.Emit)))
        raise TopologyError(f"emit is {choices}, not {short_repr(emit)}", location)
    return WindowedStream(stream, windows, grace_ms, cast("w.Emit", emit))


def _offset(offset: object, advance_ms: int, location: str) -> int:
    offset_ms = check_interval("offset", offset, location, least=1 - advance_ms)
    if offset_ms >= advance_ms:
        raise TopologyError(
            f"offset is {offset}, and windows begin each {w.interval_text(advance_ms)}: take the "
            "rest of it by that",
            location,
        )
    return offset_ms % advance_ms
