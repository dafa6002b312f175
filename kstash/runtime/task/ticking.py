"""When a live task gets a tick: what its operators want, and what may come (`core.live`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from kstash.core.ids import UNBOUNDED
from kstash.core.live import LiveRules, MayCome
from kstash.runtime.task.clocked import FlushUnderWay, IdleUnderWay, TickUnderWay
from kstash.runtime.task.inputs import TaskInput
from kstash.runtime.task.intervals import Intervals
from kstash.runtime.task.under_way import UnderWay
from kstash.runtime.task.watermark import TaskTicks, Watermark

LOOK_AGAIN_MS = 100
"""A tick that is due and may not come yet is looked at again after this."""


class Ticking:
    """The ticks of a task since it went live.

    Args:
        ticks: what the task wants.
        inputs: of the task, by index.
        time_ms: the clock, in Unix milliseconds.
        note_positions: moves the inputs to where their next records may be.
        is_at_end: whether all inputs are at the ends of a bounded run.

    Attributes:
        rules: of this life of the task.
        idle_due: inputs that were found to be idle, and are to be said to be.
        flush_due: operators that no record has reached for long, by the number in `flushes`, and
            how many records had reached them.
    """

    def __init__(
        self,
        ticks: TaskTicks,
        inputs: Mapping[int, TaskInput],
        *,
        time_ms: Callable[[], int],
        note_positions: Callable[[], None],
        is_at_end: Callable[[], bool],
    ) -> None:
        self.rules = LiveRules(dict.fromkeys(inputs, UNBOUNDED), ticks.last_ms())
        self.idle_due: deque[int] = deque()
        self.flush_due: deque[tuple[int, int]] = deque()
        self._ticks = ticks
        self._inputs = inputs
        self._time_ms = time_ms
        self._note_positions = note_positions
        self._is_at_end = is_at_end
        self._intervals = Intervals(ticks.flushes)
        self._next_ms: int | None
        self._looked_ms = 0
        self.look()

    @property
    def due_ms(self) -> int | None:
        """When to ask for a tick or a flush, by the clock; None: not before another event."""
        due = [self._tick_due_ms, self._intervals.due_ms]
        known = [at_ms for at_ms in due if at_ms is not None]
        return max(min(known), self._looked_ms) if known else None

    @property
    def _tick_due_ms(self) -> int | None:
        if self._next_ms is None:
            return None
        return self.rules.due_ms(self._next_ms)

    def look(self) -> None:
        """An event is over: see when a tick or a flush is wanted now."""
        self._next_ms = self._ticks.next_ms()
        self._intervals.look(self._time_ms)

    def logged_ms(self) -> int:
        """The time for what is logged now, in Unix milliseconds: it never goes back."""
        return self.rules.time_ms(self._time_ms())

    def take(self, watermark: Watermark | None) -> UnderWay | None:
        """What the clock decides comes now; None: nothing does.

        Args:
            watermark: of the task, in that mode.
        """
        now_ms = self._tick_ms()
        if now_ms is not None:
            return TickUnderWay(now_ms, watermark, is_new=True)
        if watermark is not None and self.idle_due:
            index = self.idle_due.popleft()
            if not self._inputs[index].buffer and (now_ms := self._now_ms(self._time_ms())):
                return IdleUnderWay(index, now_ms, watermark, is_new=True)
        while self.flush_due:
            number, arrived = self.flush_due.popleft()
            flushed = self._ticks.flushes.all[number]
            waits = any(source.buffer for source in self._inputs.values())
            if flushed.step.arrived == arrived and not waits and self._may_come():
                return FlushUnderWay(number, is_new=True)
        if self._is_due(self._intervals.due_ms) is not None:
            return FlushUnderWay(self._intervals.first(), is_new=True)
        return None

    def _tick_ms(self) -> int | None:
        clock_ms = self._is_due(self._tick_due_ms)
        return None if clock_ms is None else self.rules.time_ms(clock_ms)

    def _is_due(self, due_ms: int | None) -> int | None:
        """What the clock says, if that is due and may come; if it is due, it is asked again."""
        if due_ms is None:
            return None
        clock_ms = self._time_ms()
        if clock_ms < max(due_ms, self._looked_ms):
            return None
        if self._may_come():
            return clock_ms
        self._looked_ms = clock_ms + LOOK_AGAIN_MS
        return None

    def _now_ms(self, clock_ms: int) -> int | None:
        return self.rules.time_ms(clock_ms) if self._may_come() else None

    def _may_come(self) -> bool:
        """Whether an event may be next that is no record."""
        rules = self.rules
        if not rules.has_caught_up:
            self._note_positions()
            for index, source in self._inputs.items():
                rules.read(index, source.next_offset)
        return rules.may_come(is_at_end=self._is_at_end()) is MayCome.ANY
