"""Events that are no records, on their way through a task: ticks, flushes and idle inputs."""

from __future__ import annotations

from abc import abstractmethod

from kstash.core.determinants import EventEntry, Flush, Idle, Tick
from kstash.errors import LineageGapError
from kstash.operators.program import StageProgram
from kstash.operators.step import RecordError
from kstash.runtime.task.sent import Sent
from kstash.runtime.task.under_way import Made, UnderWay, Watch, seconds_since
from kstash.runtime.task.watermark import TaskTicks, Watermark


class Clocked(UnderWay):
    """An event that the runtime decides upon, where the lineage does not say it.

    Args:
        is_new: whether it was never processed before.
    """

    def __init__(self, *, is_new: bool) -> None:
        super().__init__(is_new=is_new)
        self._has_begun = False

    def _run(self, program: StageProgram, watch: Watch) -> bool:
        if self._has_begun:
            return False
        self._has_begun = True
        before, made = watch.clock(), program.pending
        self._begin(program)
        seconds_since(before, program.pending - made, program, watch)
        return True

    @abstractmethod
    def _begin(self, program: StageProgram) -> None:
        """Have the operators do what it is about."""

    def _blame(self, error: RecordError) -> None:
        """No record has set it off."""

    def _ended(self, seconds: float, now: float) -> None:
        """How long it takes says nothing of how many records a batch should have."""

    def note_origin(self, sent: Sent, position: int) -> None:
        """Its position says all."""

    def settle(self) -> None:
        """The inputs stay where they are."""


class TickUnderWay(Clocked):
    """A tick: the clock says a time to the operator that is due first.

    Where none is, event time goes on in watermark mode.

    Args:
        now_ms: what the clock says.
        watermark: of the task; None without that mode.
        is_new: whether it was never processed before.
    """

    def __init__(self, now_ms: int, watermark: Watermark | None, *, is_new: bool) -> None:
        super().__init__(is_new=is_new)
        self.now_ms = self.tick_ms = now_ms
        self._watermark = watermark
        self._passes = False

    def entry(self, position: int) -> EventEntry:
        """The tick."""
        return Tick(position, self.now_ms)

    def _begin(self, program: StageProgram) -> None:
        if not program.tick(self.now_ms, is_new=self.is_new) and self._watermark is not None:
            self._passes = True
            self._watermark.pass_time(program, self.now_ms, is_new=self.is_new)

    def go_on(self, program: StageProgram, watch: Watch) -> list[Made]:
        """Make the next part; what is said of event time comes last."""
        made = super().go_on(program, watch)
        if self._passes and self.is_over:
            assert self._watermark is not None
            made += self._watermark.controls(program)
            self.has_made = self.has_made or bool(made)
        return made


class FlushUnderWay(Clocked):
    """An operator is flushed.

    Args:
        number: of the operator and its reason (`kstash.operators.flushes`).
        is_new: whether it was never processed before.
    """

    def __init__(self, number: int, *, is_new: bool) -> None:
        super().__init__(is_new=is_new)
        self._number = number

    def entry(self, position: int) -> EventEntry:
        """The flush."""
        return Flush(position, self._number)

    def _begin(self, program: StageProgram) -> None:
        program.flush(self._number, is_new=self.is_new)


class IdleUnderWay(Clocked):
    """An input of a task in watermark mode has been at its end for long.

    Args:
        input_index: of the input.
        now_ms: what the clock says.
        watermark: of the task.
        is_new: whether it was never processed before.
    """

    def __init__(
        self, input_index: int, now_ms: int, watermark: Watermark, *, is_new: bool
    ) -> None:
        super().__init__(is_new=is_new)
        self._input_index = input_index
        self._now_ms = now_ms
        self._watermark = watermark

    def entry(self, position: int) -> EventEntry:
        """That it is."""
        return Idle(position, self._input_index, self._now_ms)

    def _begin(self, program: StageProgram) -> None:
        """Nothing goes through the stage."""

    def settle(self) -> None:
        """Time comes to the clock's, less the timeout."""
        self._watermark.idle(self._input_index, self._now_ms)


def logged_event(event: object, ticks: TaskTicks, task: str) -> UnderWay:
    """What the lineage has next of a task, where it is no records.

    Raises:
        LineageGapError: its program does not take such an event.
    """
    watermark = ticks.watermark
    if isinstance(event, Idle) and watermark is not None:
        return IdleUnderWay(event.input, event.now_ms, watermark, is_new=False)
    if isinstance(event, Tick):
        return TickUnderWay(event.now_ms, watermark, is_new=False)
    if isinstance(event, Flush) and event.operator < len(ticks.flushes.all):
        return FlushUnderWay(event.operator, is_new=False)
    raise LineageGapError(f"task {task}: no operator of the stage takes what was logged: {event}")
