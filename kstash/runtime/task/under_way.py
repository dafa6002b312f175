"""Events on their way through a task: slice by slice, and part by part where they leave work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from kstash.core.determinants import (
    Attachment,
    Consumed,
    Determinant,
    EventEntry,
)
from kstash.operators.batch import Batch
from kstash.operators.program import RECORD_ERRORS, StageProgram
from kstash.operators.slices import slice_of
from kstash.operators.step import RecordError
from kstash.runtime.decode import Events
from kstash.runtime.pace import BATCH_S
from kstash.runtime.task.inputs import TaskInput
from kstash.runtime.task.sent import Sent
from kstash.runtime.task.watermark import Watermark
from kstash.topology.traits import PART_RECORDS

Made = tuple[int, Batch, int]
"""What events have made for one output: its index, the records, and their size in bytes."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What watches events that go on for long.

    Attributes:
        clock: gives monotonic seconds.
        pulse: called between two slices: it keeps the membership.
        look: takes (operator, records, seconds, now) of a slow one.
    """

    clock: Callable[[], float]
    pulse: Callable[[], None]
    look: Callable[[str, int, float, float], None]


class UnderWay(ABC):
    """Events of a task that are processed together, from the first to the last of their outputs.

    What they leave undone is done in parts: who calls `go_on` is back after each of them.

    Attributes:
        count: how many events; each takes a position.
        timestamps: of the records among them, in their order.
        run: position of the first event of the run that they are part of, in a replay; None: they
            begin it.
        tick_ms: the time of a tick, in Unix milliseconds; None of all other events.
        is_new: whether they were never processed before.
        is_over: whether all that they make was made.
        has_made: whether they have made anything yet.
    """

    count: int = 1
    timestamps: Sequence[int] = ()
    run: int | None = None
    tick_ms: int | None = None

    def __init__(self, *, is_new: bool) -> None:
        self.is_new = is_new
        self.is_over = self.has_made = False
        self._began: float | None = None
        self._part_bytes_max = 0

    @abstractmethod
    def entry(self, position: int) -> EventEntry:
        """What the lineage says of them, where the first of them is at `position`."""

    def entries(self, position: int, attached: Sequence[Attachment]) -> tuple[Determinant, ...]:
        """The same with what they have asked, which stands before it."""
        return (*attached, self.entry(position))

    def go_on(self, program: StageProgram, watch: Watch) -> list[Made]:
        """Make the next part, which is all of it where no work is left; it is not over before.

        Args:
            program: of the task.
            watch: looks at what takes long.

        Raises:
            OperatorError, SerdeError, RecordTooLargeError, NullKeyError: of one record, with the
                place of the input's record if it was made of one; the task must not go on.
        """
        now = watch.clock()
        self._began = now if self._began is None else self._began
        until = now + BATCH_S
        try:
            while True:
                if program.has_work:
                    if program.pending >= PART_RECORDS or watch.clock() >= until:
                        break
                    _work(program, watch)
                elif not self._run(program, watch):
                    self.is_over = True
                    break
        except RECORD_ERRORS as error:
            self._blame(error)
            raise
        made = program.take_outputs()
        self.has_made = self.has_made or bool(made)
        size_bytes = sum(size_bytes for _, _, size_bytes in made)
        self._part_bytes_max = max(self._part_bytes_max, size_bytes)
        if self.is_over:
            now = watch.clock()
            self._ended(now - self._began, now)
        return made

    @abstractmethod
    def _run(self, program: StageProgram, watch: Watch) -> bool:
        """Run what is next of them through the stage; returns whether there was anything."""

    @abstractmethod
    def _blame(self, error: RecordError) -> None:
        """Say which record an error is at."""

    @abstractmethod
    def _ended(self, seconds: float, now: float) -> None:
        """All is made; it took so long."""

    @abstractmethod
    def note_origin(self, sent: Sent, position: int) -> None:
        """Remember for people what the outputs at `position` were made of."""

    @abstractmethod
    def settle(self) -> None:
        """They are over: the inputs go on after them."""


class RecordsUnderWay(UnderWay):
    """Records of one input.

    A frame is one event, whatever it holds: what exceeds the pace goes through in slices, and so
    does what exceeds the memory for states (`state_memory_bytes`).

    Attributes:
        source: the input.
        input_index: its index.
        events: the records.
    """

    def __init__(
        self,
        source: TaskInput,
        input_index: int,
        *,
        events: Events,
        watermark: Watermark | None,
        is_new: bool,
        run: int | None = None,
    ) -> None:
        super().__init__(is_new=is_new)
        self._watermark = watermark
        self.source = source
        self.input_index = input_index
        self.events = events
        self.count, self.timestamps, self.run = events.count, events.batch.timestamps, run
        # The slice that is being processed, or was last.
        self._start = self._end = 0

    def entry(self, position: int) -> EventEntry:
        """A run."""
        return Consumed(position, self.input_index, self.count, self.events.end_offset)

    def _run(self, program: StageProgram, watch: Watch) -> bool:
        pace, batch = self.source.pace, self.events.batch
        if self._end >= len(batch):
            return False
        if self._end:
            watch.pulse()
        start = self._start = self._end
        end = self._end = start + pace.size
        part = batch if not start and len(batch) <= end else slice_of(batch, start, end)
        before, made = watch.clock(), program.pending
        origin_of = partial(self.source.origin_of, self.events, start)
        program.process(self.input_index, part, is_new=self.is_new, origin_of=origin_of)
        # What leaves work has had functions called for each result.
        records = max(len(part), program.pending - made) if program.has_work else len(part)
        pace.took(len(part), seconds_since(before, records, program, watch))
        return True

    def _blame(self, error: RecordError) -> None:
        error.record_index += self._start
        self.source.add_place(error, self.events, error.record_index)

    def _ended(self, seconds: float, now: float) -> None:
        pace = self.source.pace
        pace.lasted(seconds, now)
        pace.made(len(self.events.batch), self._part_bytes_max)

    def note_origin(self, sent: Sent, position: int) -> None:
        """The records' places."""
        start, end = self.events.offsets[0], self.events.end_offset
        sent.made_of(position, self.source.partition, start, end)

    def settle(self) -> None:
        """The input goes on after them."""
        source, timestamps = self.source, self.timestamps
        source.records += len(timestamps)
        if timestamps:
            source.newest_timestamp = timestamps[-1]
        source.next_offset = self.events.next_offset
        if self._watermark is not None and self.events.end_time is not None:
            # What control records at the end have said.
            self._watermark.time.take(self.input_index, [self.events.end_time])


def _work(program: StageProgram, watch: Watch) -> None:
    # How long work takes says nothing of how many records a batch should have.
    before, made = watch.clock(), program.pending
    program.go_on()
    seconds_since(before, program.pending - made, program, watch)


def seconds_since(before: float, records: int, program: StageProgram, watch: Watch) -> float:
    """Seconds that the program took for so many records; `watch` sees what took long."""
    now = watch.clock()
    if now - before > BATCH_S:
        seconds, operator = program.slowest
        watch.look(operator, records, seconds, now)
    return now - before
