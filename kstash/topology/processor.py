"""Processors: classes of users, given one record or timer at a time with the state of its key."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from datetime import timedelta
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar, overload
from uuid import UUID

from kstash.ports.kafka import Headers
from kstash.topology.record import Record, RecordOrigin

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")


class Inherited(enum.Enum):
    """The type of `INHERITED`."""

    INHERITED = "INHERITED"


INHERITED: Final = Inherited.INHERITED
"""Stands for what a result has of the record that is processed."""


class FiredTimer(NamedTuple):
    """A timer that is due.

    Attributes:
        name: as it was set under.
        at_ms: when it was due, in Unix milliseconds: later than asked for where that time had come
            when it was set.
    """

    name: str
    at_ms: int


class Context(ABC, Generic[K, R]):
    """What a processor may do with a record or a timer; it is no longer valid after the call.

    All of it counts once the method has returned, and nothing of it where it raises. After that all
    methods, `record` and `origin` raise `OutsideCallError`, also within a later call: there is one
    context for each call.

    Attributes:
        key: of the record or the timer, whose state the states of the processor are.
        time_ms: the stream time of the operator in Unix milliseconds: the greatest time of the
            records that it was given, this one among them; in `on_timer`, of the timer.
    """

    key: K
    time_ms: int

    @property
    @abstractmethod
    def origin(self) -> RecordOrigin | None:
        """Where `record` was read, or what it was made of: topic, partition and offset.

        It is found when it is asked for. After a repartition it is a place of the internal topic.
        None where no record is processed, as when the clock lets a timer fire.
        """

    @property
    @abstractmethod
    def record(self) -> Record:
        """The record that is processed.

        In `on_timer` the one that moved the time, which may be of another key and is given to
        `on_record` after all timers.

        Raises:
            ValueError: in `on_wall_timer`, as no record has set it off.
        """

    @abstractmethod
    def now(self) -> int:
        """The time by the clock, in Unix milliseconds; a replay finds the same one again.

        It is one for all records that are processed together, and in `on_wall_timer` the time at
        which the clock was looked at; it never goes back.
        """

    @abstractmethod
    def random(self) -> float:
        """A random number of [0, 1): another one at each call, and in a replay the same again.

        What it is made of may be read in the topics: it is not for secrets.
        """

    @abstractmethod
    def uuid(self) -> UUID:
        """A random id (version 4), likewise."""

    @overload
    def send(
        self,
        value: R | None,
        *,
        key: Any = ...,
        timestamp_ms: int | None = None,
        headers: Headers | Inherited = INHERITED,
    ) -> None: ...
    @overload
    def send(
        self,
        value: Any,
        *,
        key: Any = ...,
        timestamp_ms: int | None = None,
        headers: Headers | Inherited = INHERITED,
        to: str,
    ) -> None: ...

    @abstractmethod
    def send(
        self,
        value: Any,
        *,
        key: Any = INHERITED,
        timestamp_ms: int | None = None,
        headers: Headers | Inherited = INHERITED,
        to: str | None = None,
    ) -> None:
        """Send a result on; results leave in the order in which they are sent.

        Args:
            value: of the result, None for a tombstone. It must not be changed after this.
            key: another key than that of the record or timer, where `process` was given the serde
                of such keys.
            timestamp_ms: Unix milliseconds, 0 or more; None: that of the record, or the time of
                the timer.
            headers: empty for none; by default those of the record, or none of a timer.
            to: a side output, one of the `sides` of the processor; None: the output itself.

        Raises:
            ValueError: no such side output, no key of one's own is declared, or a negative time.
        """

    @abstractmethod
    def timer(self, name: str, *, at: int, every: timedelta | None = None) -> None:
        """Set a timer of the key, or move it: `on_timer` is called once the time has come.

        It fires when a record, of any key of this task, moves the stream time of the operator to
        `at`, and before that record; at the earliest a millisecond after the present time.

        Args:
            name: a key has one timer of each name.
            at: Unix milliseconds.
            every: then it fires again at all multiples of this after `at`, until it is cancelled or
                set otherwise; once for all those that time has jumped over.

        Raises:
            ValueError: the processor has no `on_timer`, or these are no times.
        """

    @abstractmethod
    def cancel(self, name: str) -> None:
        """Remove a timer of the key; where none of that name is set, nothing happens."""

    @abstractmethod
    def wall_timer(self, name: str, *, at: int, every: timedelta | None = None) -> None:
        """Set a timer of the wall clock, or move it: `on_wall_timer` is called when it is time.

        It needs no record to come. What falls due while the task is down, or behind, fires once it
        has read what had come until then: who was silent only for want of a worker is not taken
        for silent.

        Args:
            name: a key has one of each name, beside its timers of event time.
            at: Unix milliseconds, 0 or more; for some time from now, `context.now() + …`.
            every: as of `timer`.

        Raises:
            ValueError: the processor has no `on_wall_timer`, or these are no times.
        """

    @abstractmethod
    def cancel_wall_timer(self, name: str) -> None:
        """Remove a timer of the wall clock of the key; where there is none, nothing happens."""


class Processor(ABC, Generic[K, V, R]):
    """Given records of key K and value V, sends results R. Made for each task by `process`.

    Its state for each key is declared as attributes of the class, by `Value`, `Map` and `List`.
    What else it keeps in attributes is lost with a restart, and a replay does not find it: only
    what is made anew from nothing, such as a compiled pattern, may be there.

    Attributes:
        sides: names of its side outputs; see `Stream.side`.
    """

    sides: ClassVar[tuple[str, ...]] = ()

    def open(self) -> None:
        """Make what is needed and is no state. Called once for each task, before its first call.

        What it raises stops the worker as a `ProcessorError`: no record is to blame.
        """

    def close(self) -> None:
        """Give that up. Called once the task ends, but not where its process dies.

        What it raises is a `ProcessorError` once all else is given up.
        """

    @abstractmethod
    def on_record(self, record: Record, context: Context[K, R], /) -> None:
        """Process a record.

        Args:
            record: of a key, which is not None.
            context: what may be done with it.
        """

    def on_timer(self, timer: FiredTimer, context: Context[K, R], /) -> None:
        """Process a timer that is due, of the key of the context.

        Args:
            timer: that is due, and no longer set.
            context: what may be done with it.
        """

    def on_wall_timer(self, timer: FiredTimer, context: Context[K, R], /) -> None:
        """Process a timer of the wall clock that is due, of the key of the context.

        Timers are given in the order of their times, then of their keys.

        Args:
            timer: that is due, and no longer set unless it repeats.
            context: what may be done with it; there is no record, and results are of the time of
                the timer.
        """
