"""A batch on its way through a task: slice by slice, and part by part where it leaves work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kstash.operators.batch import Batch
from kstash.operators.program import RECORD_ERRORS, StageProgram
from kstash.operators.slices import slice_of
from kstash.operators.step import PART_RECORDS
from kstash.runtime.decode import Events
from kstash.runtime.pace import BATCH_S
from kstash.runtime.task.inputs import TaskInput

Made = tuple[int, Batch, int]
"""What events have made for one output: its index, the records, and their size in bytes."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What watches a batch that goes on for long.

    Attributes:
        clock: gives monotonic seconds.
        pulse: called between two slices: it keeps the place in the group.
        look: takes (operator, records, seconds, now) of a slow one.
    """

    clock: Callable[[], float]
    pulse: Callable[[], None]
    look: Callable[[str, int, float, float], None]


class UnderWay:
    """One batch of a task, from its first record to its last output.

    A frame is one event, whatever it holds: what exceeds the pace goes through in slices, and so
    does what exceeds the memory for states (`state_memory_bytes`). What a slice leaves undone is
    done before the next one, in parts: who calls `go_on` is back after each of them.

    Attributes:
        source: the input that the records are from.
        input_index: its index.
        events: the records.
        is_new: whether they were never processed before.
        is_over: whether all that they make was made.
        has_made: whether they have made anything yet.
    """

    def __init__(
        self, source: TaskInput, input_index: int, events: Events, *, is_new: bool
    ) -> None:
        self.source = source
        self.input_index = input_index
        self.events = events
        self.is_new = is_new
        self.is_over = self.has_made = False
        self._began: float | None = None
        # The slice that is being processed, or was last.
        self._start = self._end = 0
        self._part_bytes_max = 0

    def go_on(self, program: StageProgram, watch: Watch) -> list[Made]:
        """Make the next part, which is all of it where no work is left; it is not over before.

        Args:
            program: of the task.
            watch: looks at what takes long.

        Raises:
            OperatorError, SerdeError, RecordTooLargeError, NullKeyError: of one record, whose index
                in the batch it has; the task must not go on.
        """
        now = watch.clock()
        self._began = now if self._began is None else self._began
        until = now + BATCH_S
        count = len(self.events.batch)
        try:
            while True:
                if program.has_work:
                    if program.pending >= PART_RECORDS or watch.clock() >= until:
                        break
                    self._work(program, watch)
                elif self._end < count:
                    self._slice(program, watch)
                else:
                    self.is_over = True
                    break
        except RECORD_ERRORS as error:
            error.record_index += self._start
            raise
        made = program.take_outputs()
        self.has_made = self.has_made or bool(made)
        size_bytes = sum(size_bytes for _, _, size_bytes in made)
        self._part_bytes_max = max(self._part_bytes_max, size_bytes)
        if self.is_over:
            pace, now = self.source.pace, watch.clock()
            pace.lasted(now - self._began, now)
            pace.made(count, self._part_bytes_max)
        return made

    def _slice(self, program: StageProgram, watch: Watch) -> None:
        pace, batch = self.source.pace, self.events.batch
        if self._end:
            watch.pulse()
        start = self._start = self._end
        end = self._end = start + pace.size
        part = batch if not start and len(batch) <= end else slice_of(batch, start, end)
        before, made = watch.clock(), program.pending
        program.process(self.input_index, part, is_new=self.is_new)
        # What leaves work has had functions called for each result.
        records = max(len(part), program.pending - made) if program.has_work else len(part)
        pace.took(len(part), _seconds_since(before, records, program, watch))

    @staticmethod
    def _work(program: StageProgram, watch: Watch) -> None:
        # How long work takes says nothing of how many records a batch should have.
        before, made = watch.clock(), program.pending
        program.go_on()
        _seconds_since(before, program.pending - made, program, watch)


def _seconds_since(before: float, records: int, program: StageProgram, watch: Watch) -> float:
    """Seconds that the program took for so many records; `watch` sees what took long."""
    now = watch.clock()
    if now - before > BATCH_S:
        seconds, operator = program.slowest
        watch.look(operator, records, seconds, now)
    return now - before
