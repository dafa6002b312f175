"""One call of a processor: what it is given, and what it did, which counts once it has returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from kstash.errors import SerdeError
from kstash.escape import short_repr
from kstash.operators.process.entries import Journal
from kstash.operators.step import Scope
from kstash.ports.kafka import Headers
from kstash.serdes import Serde
from kstash.topology.process_node import Process
from kstash.topology.record import DELETE, Record, RecordOrigin
from kstash.topology.traits import time_store

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


class Call:
    """All calls of one processor in one task, one after the other.

    Attributes:
        key: of the record or the timer.
        encoded: the same, as the state has it.
        present: the same, for the states; None: no call is under way.
        time_ms: the stream time of the operator.
        timestamp_ms: of the record or the timer.
        headers: of the record.
        drawn: how often the call asked for chance.
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
        sides, has_timers, has_wall_timers: of the processor.
        has_own_keys: whether results may have another key.
        time_store: name of the store of the time of the clock.
    """

    def __init__(self, node: Process) -> None:
        self.label = node.title
        self.key: Any = None
        self.encoded = b""
        self.present: bytes | None = None
        self.time_ms = 0
        self.timestamp_ms = 0
        self.headers: Headers | None = None
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
        self.drawn = 0
        self.sides = node.sides
        self.has_timers = node.has_timers
        self.has_wall_timers = node.has_wall_timers
        self.has_own_keys = node.result_key is not None
        self.time_store = time_store(node.name).name
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
        self.key, self.time_ms = key, time_ms
        self.encoded = self.present = encoded
        self.timestamp_ms, self.headers = timestamp_ms, headers
        self.drawn = 0
        if self.journal.is_kept:
            self._sent_before = {port: len(sent) for port, sent in self.sent.items()}

    def end(self) -> None:
        """The call is over, however it ended: until the next one there is no key."""
        self.present = None

    def undo(self) -> None:
        """The call failed: nothing of it is left."""
        self.journal.undo()
        self.timers.clear()
        self.wall_timers.clear()
        self.expiring.clear()
        if self.drawn:
            self.scope.undraw(self.drawn)
        for port, count in self._sent_before.items():
            del self.sent[port][count:]

    def take_sent(self) -> dict[str, list[Result]]:
        """What was sent since the last call of this, by output."""
        taken = self.sent
        self.sent = {port: [] for port in taken}
        return taken

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
