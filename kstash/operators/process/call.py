"""One call of a processor: what it is given, and what it did, which counts once it has returned."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from kstash.errors import SerdeError
from kstash.escape import short_repr
from kstash.operators.event_time import NO_ZERO_MS
from kstash.operators.process.entries import Journal
from kstash.operators.step import Scope
from kstash.operators.ticks import note_time
from kstash.operators.user_headers import checked_headers
from kstash.ports.kafka import Headers
from kstash.serdes import Serde
from kstash.topology.process_node import Process
from kstash.topology.processor import INHERITED, Context, Inherited
from kstash.topology.record import DELETE, NOT_SENT, Record, RecordOrigin
from kstash.topology.traits import OUT, time_store

MAX_MS = (1 << 63) - 1


class Result(NamedTuple):
    """What was sent.

    Attributes:
        record: index in the batch of the one that it was made of.
        key: live.
        encoded: the key as the state has it; None where it is another one.
        value: live.
        timestamp_ms: of the result.
        headers: of the result.
        time_ms: the stream time of the operator when it was sent.
    """

    record: int
    key: Any
    encoded: bytes | None
    value: Any
    timestamp_ms: int
    headers: Headers | None
    time_ms: int


class Call(Context[Any, Any]):
    """The context of all calls of one processor in one task, one after the other.

    Attributes:
        encoded: the key, as the state has it.
        index: of the record of the batch.
        sent: by output, what the batch made until now.
        record_or_none: the record that is processed; None in a tick.
        scope: of the run; it is asked for the time and for chance.
        seen_ms: the time of the clock that the operator has seen last; None: it may not ask.
        timers, wall_timers: what the call set, as (time, interval or 0) in ms, and, as None,
            cancelled, by name.
        expiring: (encoded key of an entry, name of the state, time) of what goes at a time.
        journal: what the call changed.
        find_origin: says where a record of the batch was read; None: none is processed.
    """

    def __init__(self, node: Process) -> None:
        self.label = node.title
        self.encoded = b""
        self.index = 0
        self.sent: dict[str, list[Result]] = {port: [] for port in node.ports}
        self.record_or_none: Record | None = None
        self.scope: Scope
        self.seen_ms: int | None = None
        self.timers: dict[str, tuple[int, int] | None] = {}
        self.wall_timers: dict[str, tuple[int, int] | None] = {}
        self.expiring: list[tuple[bytes, str, int]] = []
        self.journal = Journal()
        self.find_origin: Callable[[int], RecordOrigin | None] | None = None
        self._sides = node.sides
        self._has_timers = node.has_timers
        self._has_wall_timers = node.has_wall_timers
        self._time_store = time_store(node.name).name
        self._drawn = 0
        self._has_own_keys = node.result_key is not None
        self._timestamp_ms = 0
        self._headers: Headers | None = None
        self._sent_before: dict[str, int] = {}

    # --- around a call --------------------------------------------------------------------------

    def begin(
        self,
        *,
        key: Any,
        encoded: bytes,
        time_ms: int,
        timestamp_ms: int,
        headers: Headers | None,
    ) -> None:
        """The next call is for this key."""
        self.key, self.encoded, self.time_ms = key, encoded, time_ms
        self._timestamp_ms, self._headers = timestamp_ms, headers
        self._drawn = 0
        if self.journal.is_kept:
            self._sent_before = {port: len(sent) for port, sent in self.sent.items()}

    def undo(self) -> None:
        """The call failed: nothing of it is left."""
        self.journal.undo()
        self.timers.clear()
        self.wall_timers.clear()
        self.expiring.clear()
        if self._drawn:
            self.scope.undraw(self._drawn)
        for port, count in self._sent_before.items():
            del self.sent[port][count:]

    def take_sent(self) -> dict[str, list[Result]]:
        """What was sent since the last call of this, by output."""
        taken = self.sent
        self.sent = {port: [] for port in taken}
        return taken

    # --- for the processor ----------------------------------------------------------------------

    @property
    def origin(self) -> RecordOrigin | None:
        """Where the record was read."""
        return None if self.find_origin is None else self.find_origin(self.index)

    @property
    def record(self) -> Record:
        """The record that is processed."""
        if self.record_or_none is None:
            raise ValueError("there is no record: the clock has set this off")
        return self.record_or_none

    def now(self) -> int:
        """The wall time."""
        now_ms = self.scope.now_ms()
        if self.seen_ms is None or now_ms > self.seen_ms:
            self.seen_ms = now_ms
            note_time(self.scope.stores, self._time_store, now_ms)
        return now_ms

    def random(self) -> float:
        """A number by chance."""
        return (int.from_bytes(self._draw()[:7]) >> 3) / (1 << 53)

    def uuid(self) -> UUID:
        """An id by chance."""
        return UUID(bytes=self._draw(), version=4)

    def _draw(self) -> bytes:
        self._drawn += 1
        return self.scope.draw()

    def send(
        self,
        value: Any,
        *,
        key: Any = INHERITED,
        timestamp_ms: int | None = None,
        headers: Headers | Inherited = INHERITED,
        to: str | None = None,
    ) -> None:
        """Send a result on."""
        if value is DELETE:
            raise ValueError(NOT_SENT)
        encoded: bytes | None = self.encoded
        if key is INHERITED:
            key = self.key
        elif self._has_own_keys:
            encoded = None
        else:
            raise ValueError(
                "send(key=) gives results another key than that of the record, and process() was "
                "not given the serde of such keys as key="
            )
        if timestamp_ms is None:
            timestamp_ms = self._timestamp_ms
        else:
            _check_time("send(timestamp_ms=)", timestamp_ms, 0)
            timestamp_ms = timestamp_ms or NO_ZERO_MS
        if to is not None and to not in self._sides:
            raise ValueError(
                f"there is no side output {short_repr(to)}: the processor has {list(self._sides)} "
                "as sides"
            )
        if headers is INHERITED:
            headers = self._headers or []
        elif headers is not None:
            headers = checked_headers("send(headers=) takes", headers)
        self.sent[to or OUT].append(
            Result(
                record=self.index,
                key=key,
                encoded=encoded,
                value=value,
                timestamp_ms=timestamp_ms,
                headers=headers or None,
                time_ms=self.time_ms,
            )
        )

    def timer(self, name: str, *, at: int, every: timedelta | None = None) -> None:
        """Set a timer of the key, or move it."""
        if not self._has_timers:
            raise ValueError("the processor sets a timer and has no on_timer")
        _check_timer(name)
        _check_time("timer(at=)", at, -MAX_MS)
        self.timers[name] = max(at, self.time_ms + 1), _interval_ms(every)

    def cancel(self, name: str) -> None:
        """Remove a timer of the key."""
        _check_timer(name)
        self.timers[name] = None

    def wall_timer(self, name: str, *, at: int, every: timedelta | None = None) -> None:
        """Set a timer of the wall clock for the key, or move it."""
        if not self._has_wall_timers:
            raise ValueError("the processor sets a wall timer and has no on_wall_timer")
        _check_timer(name)
        _check_time("wall_timer(at=)", at, 0)
        self.wall_timers[name] = max(at, (self.seen_ms or 0) + 1), _interval_ms(every)

    def cancel_wall_timer(self, name: str) -> None:
        """Remove a timer of the wall clock of the key."""
        _check_timer(name)
        self.wall_timers[name] = None

    # --- for its states -------------------------------------------------------------------------

    def encode(self, serde: Serde[Any], value: Any, field: str) -> bytes:
        """The bytes of a key or a value, which come back as they are.

        Raises:
            SerdeError: the serde does not take it.
        """
        action = "serialize"
        try:
            if value is None:
                raise TypeError("None is no state: delete what is to be forgotten")
            if value is DELETE:
                raise TypeError("DELETE is no state: call delete() of it")
            data = serde.serialize(value)
            if not isinstance(data, bytes):
                raise TypeError(f"the serializer returned {type(data).__name__}, not bytes")
            if not serde.is_steady and type(value) not in serde.exact_types:
                action = "deserialize"
                if serde.deserialize(data) is None:
                    raise ValueError(f"it gives None back for {short_repr(value)}")
        except KeyboardInterrupt:
            raise
        except BaseException as cause:
            raise self._serde_error(serde, action, field, cause) from cause
        return data

    def decode(self, serde: Serde[Any], data: bytes, field: str) -> Any:
        """What bytes stand for.

        Raises:
            SerdeError: the serde cannot read them.
        """
        try:
            return serde.deserialize(data)
        except KeyboardInterrupt:
            raise
        except BaseException as cause:
            raise self._serde_error(serde, "deserialize", field, cause) from cause

    def _serde_error(
        self, serde: Serde[Any], action: str, field: str, cause: BaseException
    ) -> SerdeError:
        return SerdeError(
            operator=self.label,
            serde=serde.name,
            action=action,
            field=field,
            record_index=self.index,
            cause=cause,
        )


def _check_timer(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"the name of a timer is a text, not {short_repr(name)}")
    name.encode()


def _interval_ms(every: timedelta | None) -> int:
    if every is None:
        return 0
    length_ms, rest = 0, timedelta()
    if isinstance(every, timedelta):
        length_ms, rest = divmod(every, timedelta(milliseconds=1))
    if rest or length_ms < 1:
        raise ValueError(
            f"every= takes a timedelta of whole milliseconds, 1 or more, not {short_repr(every)}"
        )
    return length_ms


def _check_time(what: str, time_ms: object, least: int) -> None:
    if type(time_ms) is not int or not least <= time_ms <= MAX_MS:
        raise ValueError(
            f"{what} takes Unix milliseconds as an integer of at most 64 bits, "
            f"{least} or more, not {short_repr(time_ms)}"
        )
