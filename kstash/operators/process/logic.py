"""Runs a processor: records and timers in their order, each of which fails alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from kstash.errors import OperatorError, SerdeError, StateError
from kstash.escape import short_repr
from kstash.operators.calls import decode_keys, null_hint, refuse
from kstash.operators.flow import WITHOUT_RECORDS, Expanded, Flow
from kstash.operators.keyed import KeyedStep
from kstash.operators.process.call import MAX_MS, Call, Result
from kstash.operators.process.expiry import Expiry, next_due_ms
from kstash.operators.process.states import bound
from kstash.operators.records import records_of
from kstash.operators.step import PART_RECORDS, Scope, Stores
from kstash.operators.stream_time import StreamTime
from kstash.ports.state import Timer, Timers
from kstash.topology.process_node import Process
from kstash.topology.processor import FiredTimer
from kstash.topology.record import Record, RecordOrigin

_DUE_MAX = 64
"""Timers that are read at once."""


class ProcessLogic:
    """A processor in one task."""

    def __init__(self, node: Process) -> None:
        self.node = node
        self.label = node.title
        self.processor = node.make()
        self.call = Call(node)
        self.states = {
            attribute: bound(declared, node.name, self.call)
            for attribute, declared in node.states.items()
        }
        for attribute, state in self.states.items():
            # Past `KeyedState.__set__`, which refuses what users assign.
            vars(self.processor)[attribute] = state
        self.is_open = False

    def on_batch(
        self,
        side: int,  # noqa: ARG002 - one parent
        keys: list[bytes],
        flow: Flow,
        stores: Stores,
        scope: Scope,
    ) -> None:
        """Give each record to the processor, and before it the timers that it makes due."""
        if not self.is_open:
            self._open()
        left = decode_keys(flow, self.label, scope)
        if left is None:
            return
        if left is not flow:
            assert left.encoded is not None
            keys = [key for key in left.encoded if key is not None]
        members = frozenset(keys)
        for state in self.states.values():
            state.entries.begin(stores, members)
        _Batch(self, keys, left, stores, scope).go_on(scope)

    def pass_time(self, time_ms: int, scope: Scope) -> None:
        """Let timers fire that are due at a time that no record brought."""
        if not self.node.has_timers:
            StreamTime(scope.stores, self.node.name).take(time_ms)
        else:
            if not self.is_open:
                self._open()
            for state in self.states.values():
                state.entries.begin(scope.stores, frozenset())
            _Batch(self, [], WITHOUT_RECORDS, scope.stores, scope).go_on_until(time_ms, scope)

    def close(self) -> None:
        """The task ends."""
        if self.is_open:
            self.is_open = False
            self.processor.close()

    def _open(self) -> None:
        self.is_open = True
        try:
            self.processor.open()
        except KeyboardInterrupt:
            raise
        except BaseException as cause:
            raise OperatorError(self.label, 0, cause) from cause


class ProcessStep(KeyedStep):
    """Finds the keys of records for a processor."""

    def __init__(self, node: Process) -> None:
        logic = ProcessLogic(node)
        super().__init__(node, logic)
        self.close = logic.close
        self.pass_time = logic.pass_time


class _Batch:
    """The records of one batch, one after the other."""

    def __init__(
        self, logic: ProcessLogic, keys: list[bytes], flow: Flow, stores: Stores, scope: Scope
    ) -> None:
        node = logic.node
        self.label, self.node, self.call = logic.label, node, logic.call
        self.processor = logic.processor
        self.keys, self.flow, self.scope = keys, flow, scope
        self.records = records_of(flow)
        self.origins: list[int] | None = None
        self.times = flow.times
        self.index = self.room = self.fired = 0
        self.time = StreamTime(stores, node.name)
        self.timers: Timers | None = stores.timers(node.name) if node.has_timers else None
        self.next_due_ms = MAX_MS
        if self.timers is not None:
            self.next_due_ms = next_due_ms(self.timers)
        self.expiry: Expiry | None = None
        if node.expires:
            states = {s.name: s for s in logic.states.values() if s.ttl_ms is not None}
            self.expiry = Expiry(stores.timers(node.expiry), states)
        self.call.journal.is_kept = scope.may_skip

    def go_on(self, scope: Scope) -> None:
        """Process all records, or as many as one part has room for, and send on what they made."""
        self.scope, self.room, self.fired = scope, PART_RECORDS, 0
        self.call.find_origin = self._origin
        is_done = self._process()
        self.call.find_origin = None
        for port, results in self.call.take_sent().items():
            if results:
                scope.out(self._flow_of(results), port)
        if not is_done:
            scope.later(self.go_on)

    def go_on_until(self, time_ms: int, scope: Scope) -> None:
        """Let timers fire that are due by a time, or as many as one part has room for."""
        self.scope, self.room, self.fired = scope, PART_RECORDS, 0
        self.call.index = 0
        if self.next_due_ms <= time_ms and self.timers is not None:
            self._fire(self.timers, time_ms)
        for port, results in self.call.take_sent().items():
            if results:
                scope.out(self._flow_of(results), port)
        if self.next_due_ms <= time_ms:
            scope.later(partial(self.go_on_until, time_ms))
        else:
            self.time.take(time_ms)

    def _process(self) -> bool:
        """Process records and the timers before them; returns whether all is done."""
        call, time, on_record = self.call, self.time, self.processor.on_record
        for index in range(self.index, self.flow.count):
            record, time_ms = self.records[index], self.times[index]
            if index > self.index:
                self.index = index
                if self.fired >= PART_RECORDS:
                    return False
                # Where a part ends within a record depends on that record alone.
                self.room = PART_RECORDS
            call.index = index
            call.record = record
            if self.next_due_ms <= time_ms and self.timers is not None:
                self._fire(self.timers, time_ms)
                if self.next_due_ms <= time_ms:
                    return False
            call.begin(
                key=record.key,
                encoded=self.keys[index],
                time_ms=time.take(time_ms),
                timestamp_ms=record.timestamp_ms,
                headers=record.headers,
            )
            self._carry_out(partial(on_record, record), record)
        return True

    def _origin(self, index: int) -> RecordOrigin | None:
        """Where a record was read: few processors ask."""
        if self.origins is None:
            self.origins = list(self.flow.origins())
        return self.scope.origin(self.origins[index])

    # --- timers ---------------------------------------------------------------------------------

    def _fire(self, timers: Timers, until_ms: int) -> None:
        """Let timers fire that are due by a time, those too that are set meanwhile.

        It ends with the last one, or where the part is full.
        """
        limit = _DUE_MAX
        while self.room and (due := timers.due(until_ms, limit=min(limit, self.room))):
            limit = _DUE_MAX
            for timer in due:
                self.room -= 1
                self.fired += 1
                if self._fire_one(timers, timer):
                    # Another one may be the next one now.
                    limit = 1
                    break
        self.next_due_ms = next_due_ms(timers)

    def _fire_one(self, timers: Timers, timer: Timer) -> bool:
        """Let a timer fire; returns whether that has set or cancelled any."""
        call = self.call
        timers.cancel(timer.key, timer.name)
        try:
            key = call.decode(self.node.key, timer.key, "key")
        except SerdeError as error:
            refuse(self.scope, self.flow, error)
            return False
        call.begin(
            key=key,
            encoded=timer.key,
            time_ms=self.time.take(timer.at_ms),
            timestamp_ms=timer.at_ms,
            headers=None,
        )
        fired = FiredTimer(timer.name, timer.at_ms)
        return self._carry_out(partial(self.processor.on_timer, fired))

    # --- one call -------------------------------------------------------------------------------

    def _carry_out(self, function: Callable[[Call], object], record: Record | None = None) -> bool:
        """Call the processor; returns whether it has set or cancelled timers."""
        call = self.call
        error: OperatorError | SerdeError
        try:
            made = function(call)
            if made is not None:
                raise TypeError(
                    f"the processor returned {short_repr(made)}, and what it makes is sent by "
                    "context.send(value): return nothing"
                )
        except (KeyboardInterrupt, StateError):
            raise
        except SerdeError as raised:
            error = raised
            error.record_index = call.index
        except BaseException as cause:
            error = OperatorError(self.label, call.index, cause)
            if record is not None:
                error.detail += null_hint(cause, record.value)
        else:
            return self._done()
        call.undo()
        refuse(self.scope, self.flow, error)
        return False

    def _done(self) -> bool:
        """The call has returned: all that it did counts."""
        call, timers = self.call, self.timers
        call.journal.forget()
        has_set = bool(call.timers)
        if has_set and timers is not None:
            for name, at_ms in call.timers.items():
                if at_ms is None:
                    timers.cancel(call.encoded, name)
                else:
                    timers.set(call.encoded, name, at_ms)
                    self.next_due_ms = min(self.next_due_ms, at_ms)
            call.timers.clear()
        if self.expiry is not None:
            self.expiry.take(call.expiring, call.time_ms)
            call.journal.forget()
        return has_set

    # --- results --------------------------------------------------------------------------------

    def _flow_of(self, results: list[Result]) -> Flow:
        """Results of one output as records."""
        counts = [0] * max(1, self.flow.count)
        for result in results:
            counts[result.record] += 1
        _, keys, encoded, values, timestamps, headers, times = map(list, zip(*results, strict=True))
        own = self.node.result_key
        return Flow(
            count=len(results),
            keys=keys,
            encoded=None if own is not None else encoded,
            key_serde=own or self.node.key,
            values=values,
            timestamps=timestamps,
            headers=headers if any(headers) else None,
            trail=Expanded(self.flow.trail, counts),
            event_times=None if times == timestamps else times,
        )
