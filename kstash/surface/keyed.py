"""Keyed streams: what a `Stream` is where state can be kept per key, and the verbs that keep it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from kstash.serdes import Serde, json
from kstash.surface import ready
from kstash.surface.inner_keys import unwindowed
from kstash.surface.keyed_folds import KeyedFolds
from kstash.surface.process import processed
from kstash.surface.streams import Stream
from kstash.surface.words import STATE_VERBS
from kstash.topology.processor import Processor
from kstash.topology.record import Deletion, Record
from kstash.topology.user_code import user_location
from kstash.topology.window_nodes import Emit, Windows
from kstash.topology.windowed import Windowed

if TYPE_CHECKING:  # it makes keyed streams
    from kstash.surface.windows import WindowedStream

K = TypeVar("K")
V = TypeVar("V")
K2 = TypeVar("K2")
V2 = TypeVar("V2")
S = TypeVar("S")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class KeyedStream(KeyedFolds[K, V]):
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

    @overload
    def map_records(self, function: Callable[[Record], Record]) -> KeyedStream[K, Any]: ...
    @overload
    def map_records(
        self, function: Callable[[Record], Record], *, key: Serde[K2]
    ) -> Stream[K2, Any]: ...

    def map_records(
        self, function: Callable[[Record], Record], *, key: Serde[Any] | None = None
    ) -> Stream[Any, Any]:
        """Make a new record of each; a stream of new keys is a `Stream` (`Stream.map_records`)."""
        return Stream.map_records(self, function, key=cast("Any", key))

    @overload
    def flat_map_records(
        self, function: Callable[[Record], Iterable[Record]]
    ) -> KeyedStream[K, Any]: ...
    @overload
    def flat_map_records(
        self, function: Callable[[Record], Iterable[Record]], *, key: Serde[K2]
    ) -> Stream[K2, Any]: ...

    def flat_map_records(
        self, function: Callable[[Record], Iterable[Record]], *, key: Serde[Any] | None = None
    ) -> Stream[Any, Any]:
        """Make any number of new records of each; a stream of new keys is a `Stream`."""
        return Stream.flat_map_records(self, function, key=cast("Any", key))

    def inner_key(self: KeyedStream[Windowed[K2], V]) -> KeyedStream[K2, V]:
        """Give each result of windows the key of their records, so that state of it can follow.

        State right after windows is kept for each key *and* window: a processor sees one window
        each time. After this it sees all windows of a key, in the order in which they are sent.
        Nothing passes through a topic: results are where their records' keys belong. Where the
        window itself is needed, `records()` before this keeps it in the value, as `key` of each.

        Windows with `emit="update"` send each change of a result, and sessions a null for each one
        that has become part of another: a `count` after this counts them all. To count windows or
        sessions, give the first ones `emit="final"`.

        Raises:
            TopologyError: these are no keys of windows; or they are read from a topic, of which
                nobody knows that it is spread by the keys within them.
        """
        return cast("KeyedStream[K2, V]", unwindowed(self))

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

    # --- state of processors --------------------------------------------------------------------

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

    def with_state(
        self,
        name: str,
        initial: Callable[[], S],
        function: Callable[[S, V], tuple[S | Deletion, Iterable[V2]]],
        *,
        state: Serde[S],
        value: Serde[V2],
    ) -> KeyedStream[K, V2]:
        """Keep a state of each key, and send any number of results of each record.

        Args:
            name: of the operator and its store.
            initial: makes the state of a new key.
            function: `(state, value) -> (state, results)`; the new state may be `DELETE`, and is
                never None; the results are a list or another iterable, but no text, bytes or dict.
            state: serde of the state.
            value: serde of the results.
        """
        made = ready.with_state(self, name, initial, function, state=state, value=value)
        return cast("KeyedStream[K, V2]", made)

    def dedup(
        self,
        name: str,
        *,
        id: Callable[[V], object],  # noqa: A002 - the word
        within: timedelta,
    ) -> KeyedStream[K, V]:
        """Leave out records of a key whose id has passed lately; they go to the side `repeated`.

        Args:
            name: of the operator and its stores.
            id: of a value, as json takes it: text, a number, a list of such, not None. It is given
                None where the value is null, as a delete in a topic is.
            within: a record is a repeat until so much stream time has gone since the one that
                passed: whole milliseconds, 1 or more.
        """
        return cast("KeyedStream[K, V]", ready.dedup(self, name, id, within))

    def throttle(self, name: str, *, at_most: int, within: timedelta) -> KeyedStream[K, V]:
        """Pass a number of records of each key in any interval; the others go to the side `over`.

        Args:
            name: of the operator and its store, which has the times of those that have passed.
            at_most: 1 or more.
            within: length of the interval in stream time: whole milliseconds, 1 or more.
        """
        return cast("KeyedStream[K, V]", ready.throttle(self, name, at_most, within))

    def top(
        self,
        name: str,
        n: int,
        *,
        by: Callable[[V], Any],
        id: Callable[[V], object] | None = None,  # noqa: A002 - the word
        value: Serde[list[V]] = json,
    ) -> KeyedStream[K, list[V]]:
        """Send the list of the largest values of each key, the largest first, when it changes.

        Args:
            name: of the operator and its store.
            n: length of the list, 1 or more.
            by: what values are compared by; of equal ones the earlier stands first.
            id: what a value is about: a newer one with the same id takes the place of the older
                one. Who fell off the list is forgotten until its next value.
            value: serde of the list.
        """
        made = ready.top(self, name, n, by, id_of=id, value=value)
        return cast("KeyedStream[K, list[V]]", made)

    # --- windows --------------------------------------------------------------------------------

    def window(
        self,
        windows: Windows,
        *,
        grace: timedelta = timedelta(0),
        emit: Emit | None = None,
        idle_timeout: timedelta | None = None,
        every: timedelta | None = None,
    ) -> WindowedStream[K, V]:
        """Part the records of each key by time: folds of what this gives are of a key and window.

        The time is that of the records' timestamps. How far it has come is the greatest one that
        the operator has seen: *stream time*, which no clock moves but by `idle_timeout` and in
        watermark mode. A window is closed when stream time reaches its end and the grace; what
        comes for it later is late, and dropped.

        Args:
            windows: which there are: `kstash.tumbling(size)`, `kstash.hopping(size, advance)`,
                `kstash.daily(zone)`, `kstash.session(gap)`, `kstash.sliding(size)`; or, by the
                number of records, `kstash.tumbling_count(n)` and `kstash.hopping_count(n, step)`.
            grace: how much longer than to its end a window takes records, in whole milliseconds;
                0 or more.
            emit: `update`: each record sends the new value of each of its windows. `final`: each
                window sends one value, when it is closed. By default `update`; windows by the
                number of records know `final` alone.
            idle_timeout: once no record has reached the windows of a task for so long by the clock,
                and its inputs are read to their ends, all of its windows close, of all keys, and
                what comes for them later is late; in whole milliseconds, 1 or more. The length
                begins anew with each start. `stream(idle="hold")` does not stop it. With
                `emit="update"` nothing is sent by it, and the state goes. By default only records
                close windows. The setting `idle_timeout_ms`, of watermark mode, is another thing.
            every: with `emit="update"`, send what has changed at each multiple of this by the Unix
                clock, in whole milliseconds, 1 or more, and not with each record. What waits when
                the worker stops is sent at the first multiple after the next start. Not in
                watermark mode.

        Raises:
            TopologyError: no such windows or emission, or no such length of time.
        """
        return self._graph.windowed(
            self,
            windows,
            grace=grace,
            emit=emit,
            idle_timeout=idle_timeout,
            every=every,
            location=user_location(),
        )


# Of a stream without a key each of them says why it is not there.
STATE_VERBS.update(name for name in dir(KeyedStream) if name[0] != "_" and name not in dir(Stream))
