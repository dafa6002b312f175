"""Event time of a task in watermark mode: what it is, what is said of it, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from kstash.core.watermark import TaskEventTime
from kstash.operators.batch import Batch

if TYPE_CHECKING:
    from kstash.operators.program import StageProgram


@final
class Watermark(TaskEventTime):
    """What a task keeps of event time, and how its program gets to know of it."""

    __slots__ = ()

    def pass_time(self, program: StageProgram, now_ms: int, *, is_new: bool) -> None:
        """A tick: give all operators how far time has come.

        Args:
            program: of the task.
            now_ms: of the tick.
            is_new: whether it was never processed before.
        """
        program.pass_time(self.pass_on(now_ms), is_new=is_new)

    def controls(self, program: StageProgram) -> list[tuple[int, Batch, int]]:
        """What is said to partitions after that, by index of the output; the size is none."""
        return [
            (index, Batch([None], [None], [time], times=[time], is_control=True), 0)
            for index, time in program.passing.exit_times(self.passed_ms).items()
        ]


class TaskTicks:
    """All that a task wants ticks for: its operators, and event time in watermark mode.

    Args:
        program: of the operators.
        watermark: of the task; None without that mode.

    Attributes:
        watermark: as given.
        flushes: the operators that are flushed.
    """

    def __init__(self, program: StageProgram, watermark: Watermark | None) -> None:
        self.flushes = program.flushes
        self._ticks = program.ticks
        self.watermark = watermark

    def __bool__(self) -> bool:
        return self._ticks.see_clock or self.are_wanted

    @property
    def are_wanted(self) -> bool:
        """Whether ticks are, or flushes, or events of idle inputs: else the clock is asked only."""
        has_own = self._ticks.are_wanted or self.flushes.go_by_clock
        return has_own or self.watermark is not None

    def next_ms(self) -> int | None:
        """The wall time at which a tick is wanted, in Unix milliseconds; None: none is."""
        at_ms = self._ticks.next_ms()
        if self.watermark is None or (other_ms := self.watermark.next_ms()) is None:
            return at_ms
        return other_ms if at_ms is None else min(at_ms, other_ms)

    def last_ms(self) -> int:
        """The greatest time that was logged so far; 0 before the first."""
        last_ms = self._ticks.last_ms()
        return last_ms if self.watermark is None else max(last_ms, self.watermark.last_ms())
