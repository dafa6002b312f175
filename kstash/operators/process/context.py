"""The context that a processor is given: one for each call, of no use once that has returned."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

from kstash.errors import OutsideCallError
from kstash.escape import short_repr
from kstash.operators.event_time import NO_ZERO_MS
from kstash.operators.process.call import MAX_MS, Call, Result
from kstash.operators.ticks import note_time
from kstash.operators.user_headers import checked_headers
from kstash.ports.kafka import Headers
from kstash.topology.intervals import whole_ms
from kstash.topology.processor import INHERITED, Context, Inherited
from kstash.topology.record import DELETE, NOT_SENT, Record, RecordOrigin
from kstash.topology.traits import OUT
from kstash.topology.user_code import user_location


class CallContext(Context[Any, Any]):
    """The context of one call of a processor.

    What it does is done by the `Call` of the processor, which goes on to other keys. The context is
    parted from it as the call returns (`end`), so that one which was kept can reach no other key.
    """

    def __init__(self, call: Call) -> None:
        self.key, self.time_ms = call.key, call.time_ms
        self._call: Call | None = call

    def end(self) -> None:
        """The call has returned."""
        self._call = None

    @property
    def origin(self) -> RecordOrigin | None:
        """Where the record was read."""
        call = self._call or _is_over()
        return None if call.find_origin is None else call.find_origin(call.index)

    @property
    def record(self) -> Record:
        """The record that is processed."""
        call = self._call or _is_over()
        if call.record_or_none is None:
            raise ValueError("there is no record: the clock has set this off")
        return call.record_or_none

    def now(self) -> int:
        """The wall time."""
        call = self._call or _is_over()
        now_ms = call.scope.now_ms()
        if call.seen_ms is None or now_ms > call.seen_ms:
            call.seen_ms = now_ms
            note_time(call.scope.stores, call.time_store, now_ms)
        return now_ms

    def random(self) -> float:
        """A number by chance."""
        return (int.from_bytes(self._draw()[:7]) >> 3) / (1 << 53)

    def uuid(self) -> UUID:
        """An id by chance."""
        return UUID(bytes=self._draw(), version=4)

    def _draw(self) -> bytes:
        call = self._call or _is_over()
        call.drawn += 1
        return call.scope.draw()

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
        call = self._call or _is_over()
        if value is DELETE:
            raise ValueError(NOT_SENT)
        encoded: bytes | None = call.encoded
        if key is INHERITED:
            key = self.key
        elif call.has_own_keys:
            encoded = None
        else:
            raise ValueError(
                "send(key=) gives results another key than that of the record, and process() was "
                "not given the serde of such keys as key="
            )
        if timestamp_ms is None:
            timestamp_ms = call.timestamp_ms
        else:
            _check_time("send(timestamp_ms=)", timestamp_ms, 0)
            timestamp_ms = timestamp_ms or NO_ZERO_MS
        if to is not None and to not in call.sides:
            raise ValueError(
                f"there is no side output {short_repr(to)}: the processor has {list(call.sides)} "
                "as sides"
            )
        if headers is INHERITED:
            headers = call.headers or []
        elif headers is not None:
            headers = checked_headers("send(headers=) takes", headers)
        call.sent[to or OUT].append(
            Result(
                record=call.index,
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
        call = self._call or _is_over()
        _check_timer(name)
        _check_time("timer(at=)", at, -MAX_MS, "context.time_ms")
        if not call.has_timers:
            raise ValueError("the processor sets a timer and has no on_timer")
        call.timers[name] = max(at, self.time_ms + 1), _interval_ms(every)

    def cancel(self, name: str) -> None:
        """Remove a timer of the key."""
        timers = (self._call or _is_over()).timers
        _check_timer(name)
        timers[name] = None

    def wall_timer(self, name: str, *, at: int, every: timedelta | None = None) -> None:
        """Set a timer of the wall clock for the key, or move it."""
        call = self._call or _is_over()
        _check_timer(name)
        _check_time("wall_timer(at=)", at, 0, "context.now()")
        if not call.has_wall_timers:
            raise ValueError("the processor sets a wall timer and has no on_wall_timer")
        call.wall_timers[name] = max(at, (call.seen_ms or 0) + 1), _interval_ms(every)

    def cancel_wall_timer(self, name: str) -> None:
        """Remove a timer of the wall clock of the key."""
        timers = (self._call or _is_over()).wall_timers
        _check_timer(name)
        timers[name] = None


def _is_over() -> NoReturn:
    raise OutsideCallError("the context of a processor", user_location())


def _check_timer(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"the name of a timer is a text, not {short_repr(name)}")
    name.encode()


def _interval_ms(every: timedelta | None) -> int:
    if every is None:
        return 0
    length_ms = whole_ms(every)
    if length_ms is None or length_ms < 1:
        raise ValueError(
            f"every= takes a timedelta of whole milliseconds, 1 or more, not {short_repr(every)}"
        )
    return length_ms


def _check_time(what: str, time_ms: object, least: int, now: str = "context.time_ms") -> None:
    if type(time_ms) is not int or not least <= time_ms <= MAX_MS:
        raise ValueError(
            f"{what} takes Unix milliseconds as an integer of at most 64 bits, "
            f"{least} or more, not {short_repr(time_ms)}{_way_to_milliseconds(time_ms, now)}"
        )


def _way_to_milliseconds(given: object, now: str) -> str:
    """How the integer is had of what was given, where that says a time."""
    if isinstance(given, timedelta):
        return f": for a time from now on, {now} + delta // timedelta(milliseconds=1)"
    if isinstance(given, datetime):
        zone = ", and with a tzinfo: without one it is local time" if given.tzinfo is None else ""
        return f": of a datetime it is int(at.timestamp() * 1000){zone}"
    return ": round it by int(at)" if isinstance(given, float) else ""
