"""What calls of a processor have in common, whether a record, a timer or a tick sets them off."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kstash.errors import OperatorError, SerdeError, StateError
from kstash.escape import short_repr
from kstash.operators.calls import null_hint, refuse
from kstash.operators.flow import Expanded, Flow
from kstash.operators.process.call import MAX_MS, Result
from kstash.operators.process.context import CallContext
from kstash.operators.process.expiry import Expiry, next_due_ms
from kstash.operators.step import Scope, Stores
from kstash.operators.stream_time import StreamTime
from kstash.operators.ticks import seen_ms
from kstash.ports.state import Timer, Timers
from kstash.topology.processor import FiredTimer
from kstash.topology.record import Record
from kstash.topology.traits import PART_RECORDS, time_store

if TYPE_CHECKING:  # which begins runs
    from kstash.operators.process.logic import ProcessLogic

_DUE_MAX = 64
"""Timers that are read at once."""


class ProcessRun:
    """Calls of a processor, one after the other; what they send is sent on together.

    Args:
        logic: of the processor.
        flow: what the results are made of.
        stores: of the task.
        scope: takes the results.
    """

    def __init__(self, logic: ProcessLogic, flow: Flow, *, stores: Stores, scope: Scope) -> None:
        node = logic.node
        self.label, self.node, self.call = logic.label, node, logic.call
        self.processor = logic.processor
        self.flow, self.scope = flow, scope
        # How many more timers this part has room for; how many have fired in it.
        self.room, self.fired = PART_RECORDS, 0
        self.time = StreamTime(stores, node.name)
        self.timers: Timers | None = stores.timers(node.name) if node.has_timers else None
        self.next_due_ms = MAX_MS if self.timers is None else next_due_ms(self.timers)
        self.wall_timers: Timers | None = None
        if node.has_wall_timers:
            self.wall_timers = stores.timers(node.wall)
        self.expiry: Expiry | None = None
        if node.expires:
            states = {s.name: s for s in logic.states.values() if s.ttl_ms is not None}
            self.expiry = Expiry(stores.timers(node.expiry), states)
        call = self.call
        call.journal.is_kept = scope.may_skip
        call.scope = scope
        call.seen_ms = None
        if node.asks:
            call.seen_ms = seen_ms(stores, time_store(node.name).name)

    def send_on(self) -> None:
        """Send on what the calls have sent."""
        for port, results in self.call.take_sent().items():
            if results:
                self.scope.out(self._flow_of(results), port)

    # --- timers ---------------------------------------------------------------------------------

    def fire(
        self, timers: Timers, until_ms: int, jump_ms: int, fire_one: Callable[[Timer], bool]
    ) -> None:
        """Let timers fire that are due by a time, those too that are set meanwhile.

        It ends with the last one, or where the part is full.

        Args:
            timers: of one clock.
            until_ms: those that are due later wait.
            jump_ms: how far that clock goes; a timer that comes again comes after it.
            fire_one: lets one fire; returns whether that has set or cancelled any.
        """
        limit = _DUE_MAX
        while self.room and (due := timers.due(until_ms, limit=min(limit, self.room))):
            limit = _DUE_MAX
            for timer in due:
                self.room -= 1
                self.fired += 1
                if timer.every_ms:
                    missed = (jump_ms - timer.at_ms) // timer.every_ms
                    at_ms = timer.at_ms + (missed + 1) * timer.every_ms
                    timers.set(timer.key, timer.name, at_ms, timer.every_ms)
                else:
                    timers.cancel(timer.key, timer.name)
                if fire_one(timer):
                    # Another one may be the next one now.
                    limit = 1
                    break

    def fire_timer(self, timer: Timer) -> bool:
        """Let a timer of event time fire: stream time steps to it."""
        return self._fire(timer, self.time.take(timer.at_ms), self.processor.on_timer)

    def fire_wall_timer(self, timer: Timer) -> bool:
        """Let a timer of the wall clock fire: stream time stays where it is."""
        return self._fire(timer, self.time.now_ms, self.processor.on_wall_timer)

    def _fire(
        self, timer: Timer, time_ms: int, function: Callable[[FiredTimer, CallContext], object]
    ) -> bool:
        call = self.call
        try:
            key = call.decode(self.node.key, timer.key, "key")
        except SerdeError as error:
            refuse(self.scope, self.flow, error)
            return False
        call.begin(
            key=key,
            encoded=timer.key,
            time_ms=time_ms,
            timestamp_ms=timer.at_ms,
            headers=None,
        )
        return self.carry_out(function, FiredTimer(timer.name, timer.at_ms))

    # --- one call -------------------------------------------------------------------------------

    def carry_out(
        self, function: Callable[[Any, CallContext], object], given: Record | FiredTimer
    ) -> bool:
        """Call the processor; returns whether it has set or cancelled timers."""
        context = CallContext(self.call)
        try:
            return self._carry_out(function, given, context)
        finally:
            context.end()
            self.call.end()

    def _carry_out(
        self,
        function: Callable[[Any, CallContext], object],
        given: Record | FiredTimer,
        context: CallContext,
    ) -> bool:
        call = self.call
        error: OperatorError | SerdeError
        try:
            made = function(given, context)
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
            error = OperatorError(self.label, call.index, cause=cause)
            if isinstance(given, Record):
                error.detail += null_hint(cause, given.value)
        else:
            return self._done()
        call.undo()
        refuse(self.scope, self.flow, error)
        return False

    def _done(self) -> bool:
        """The call has returned: all that it did counts."""
        call = self.call
        call.journal.forget()
        has_set = bool(call.timers or call.wall_timers)
        if has_set:
            if self.timers is not None:
                _set(self.timers, call.encoded, call.timers)
                times = [at_ms for found in call.timers.values() if found for at_ms in found[:1]]
                self.next_due_ms = min([self.next_due_ms, *times])
            if self.wall_timers is not None:
                _set(self.wall_timers, call.encoded, call.wall_timers)
            call.timers.clear()
            call.wall_timers.clear()
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


def _set(timers: Timers, key: bytes, made: dict[str, tuple[int, int] | None]) -> None:
    """Set timers of a key, or cancel them, as a call has said."""
    for name, found in made.items():
        if found is None:
            timers.cancel(key, name)
        else:
            timers.set(key, name, *found)
