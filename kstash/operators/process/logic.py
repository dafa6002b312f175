"""Runs a processor: records and timers in their order, each of which fails alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from kstash.errors import ProcessorError
from kstash.operators.calls import decode_keys
from kstash.operators.flow import WITHOUT_RECORDS, Flow
from kstash.operators.keyed import KeyedStep
from kstash.operators.process.call import Call
from kstash.operators.process.expiry import next_due_ms
from kstash.operators.process.run import ProcessRun
from kstash.operators.process.states import bound
from kstash.operators.records import records_of
from kstash.operators.step import Scope, Stores
from kstash.operators.stream_time import StreamTime
from kstash.topology.process_node import Process
from kstash.topology.record import RecordOrigin
from kstash.topology.traits import PART_RECORDS


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
        _Batch(self, keys, left, stores=stores, scope=scope).go_on(scope)

    def pass_time(self, time_ms: int, scope: Scope) -> None:
        """Let timers fire that are due at a time that no record brought."""
        if not self.node.has_timers:
            StreamTime(scope.stores, self.node.name).take(time_ms)
        else:
            if not self.is_open:
                self._open()
            self.call.index, self.call.record_or_none = 0, None
            for state in self.states.values():
                state.entries.begin(scope.stores, frozenset())
            _Batch(self, [], WITHOUT_RECORDS, stores=scope.stores, scope=scope).go_on_until(
                time_ms, scope
            )

    def tick(self, until_ms: int, now_ms: int, scope: Scope) -> None:
        """Let timers of the wall clock fire that are due, as many as one part has room for."""
        if not self.is_open:
            self._open()
        stores = scope.stores
        timers = stores.timers(self.node.wall)
        due = timers.due(until_ms, limit=PART_RECORDS)
        members = frozenset(timer.key for timer in due)
        for state in self.states.values():
            state.entries.begin(stores, members)
        self.call.index, self.call.record_or_none = 0, None
        run = ProcessRun(self, WITHOUT_RECORDS, stores=stores, scope=scope)
        run.fire(timers, until_ms, now_ms, run.fire_wall_timer)
        run.send_on()

    def close(self) -> None:
        """The task ends."""
        if self.is_open:
            self.is_open = False
            self._set_up(self.processor.close)

    def _open(self) -> None:
        self.is_open = True
        self._set_up(self.processor.open)

    def _set_up(self, method: Callable[[], None]) -> None:
        """Call `open` or `close`, whose error is no record's."""
        try:
            method()
        except KeyboardInterrupt:
            raise
        except BaseException as cause:
            name = f"{type(self.processor).__name__}.{method.__name__}"
            raise ProcessorError(self.label, name, cause=cause) from cause


class ProcessStep(KeyedStep):
    """Finds the keys of records for a processor, and lets it have ticks."""

    logic: ProcessLogic

    def __init__(self, node: Process) -> None:
        logic = ProcessLogic(node)
        super().__init__(node, logic)
        self.close = logic.close
        self.pass_time = logic.pass_time
        self.tick = logic.tick
        self._node = node

    def next_tick_ms(self, stores: Stores) -> int | None:
        """When the first timer of the wall clock is due."""
        return stores.timers(self._node.wall).next_due()


class _Batch(ProcessRun):
    """The records of one batch, one after the other."""

    def __init__(
        self, logic: ProcessLogic, keys: list[bytes], flow: Flow, *, stores: Stores, scope: Scope
    ) -> None:
        super().__init__(logic, flow, stores=stores, scope=scope)
        self.keys = keys
        self.records = records_of(flow)
        self.origins: list[int] | None = None
        self.times = flow.times
        self.index = 0

    def go_on(self, scope: Scope) -> None:
        """Process all records, or as many as one part has room for, and send on what they made."""
        self.scope = self.call.scope = scope
        self.room, self.fired = PART_RECORDS, 0
        self.call.find_origin = self._origin
        is_done = self._process()
        self.call.find_origin = None
        self.send_on()
        if not is_done:
            scope.later(self.go_on)

    def go_on_until(self, time_ms: int, scope: Scope) -> None:
        """Let timers fire that are due by a time, or as many as one part has room for."""
        self.scope = self.call.scope = scope
        self.room, self.fired = PART_RECORDS, 0
        self.call.index = 0
        if self.next_due_ms <= time_ms and self.timers is not None:
            self.fire(self.timers, time_ms, time_ms, self.fire_timer)
            self.next_due_ms = next_due_ms(self.timers)
        self.send_on()
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
            call.record_or_none = record
            if self.next_due_ms <= time_ms and self.timers is not None:
                self.fire(self.timers, time_ms, time_ms, self.fire_timer)
                self.next_due_ms = next_due_ms(self.timers)
                if self.next_due_ms <= time_ms:
                    return False
            call.begin(
                key=record.key,
                encoded=self.keys[index],
                time_ms=time.take(time_ms),
                timestamp_ms=record.timestamp_ms,
                headers=record.headers,
            )
            self.carry_out(on_record, record)
        return True

    def _origin(self, index: int) -> RecordOrigin | None:
        """Where a record was read: few processors ask."""
        if self.origins is None:
            self.origins = list(self.flow.origins())
        return self.scope.origin(self.origins[index])
