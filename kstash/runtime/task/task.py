"""One task: its inputs, its program, its state and its outputs, in replay and live.

Replay and live run the same code on the same bytes; what differs is who decides which event comes
next (the lineage, or the clock and what the consumer handed out) and that outputs which are out
already are suppressed (`core.replay`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence

from kstash.core.determinants import MergedBatch
from kstash.core.ids import Incarnation
from kstash.core.kinds import OutputKind
from kstash.core.outputs import Outgoing
from kstash.core.plan import TaskPlan
from kstash.core.replay import NextEvent, RecordsNext, Replay, Stored
from kstash.core.task import TaskCore
from kstash.errors import ReplayDivergedError
from kstash.operators.homes import Home
from kstash.operators.program import RECORD_ERRORS, StageProgram
from kstash.operators.sizes import Limit
from kstash.ports.kafka import Message
from kstash.ports.state import TaskState
from kstash.runtime.decode import Events
from kstash.runtime.task.answers import EventAnswers
from kstash.runtime.task.checkpoint import TaskCheckpoints
from kstash.runtime.task.clocked import FlushUnderWay, logged_event
from kstash.runtime.task.emission import Emission
from kstash.runtime.task.inputs import TaskInput
from kstash.runtime.task.merging import Merging
from kstash.runtime.task.outputs import TaskOutput
from kstash.runtime.task.sent import Sent
from kstash.runtime.task.ticking import Ticking
from kstash.runtime.task.under_way import RecordsUnderWay, UnderWay, Watch
from kstash.runtime.task.watermark import TaskTicks, Watermark
from kstash.topology.model import Stage

REPLAY_SLICE_EVENTS = 500
"""Events replayed at once, at most."""


class Task:
    """One incarnation of one task.

    Args:
        name: `<stage>_<partition>`, as logs and metrics have it.
        stage: what it runs.
        plan: where it begins, and what it replays.
        core: what it has processed, and what goes out with which lineage; it has the position.
        incarnation: of its group.
        inputs: by index; their offsets are those of the plan.
        state: its stores: as of the plan's base now, as of the position after each event.
        homes: of inputs whose records others wrote: which keys belong there.
        limits: of each output.
        outputs: those of the stage.
        sent, stored: what is on its way; what scans have found of its outputs.
        watch: looks at batches that take long.
        fail: is given what a record failed with.
        nonce: gives 16 fresh random bytes a call.

    Attributes:
        program: the stage's operators, over the state.
        replay: what comes next until the adopted end, and what is out already.
        may_leave_work: whether an event may be under way for longer than a batch takes.
        parts: of what events have made, so far; it rises while an event is under way, too.
        records_in, replayed: logical records processed; those of them that were not the first time.
        emission: what becomes of what is made.
        checkpoints: those that are taken of it.
        watermark, ticks: event time in watermark mode, else None; all that ticks are wanted for.
        ticking: of a task that is live and sees the clock; else None.
        flush_at_end: of a task in a bounded run that is at its end: the number in `program.flushes`
            of what is to be flushed now, or None; else None.
        answers: what operators are given that ask for the time or for chance.
        merging: takes inputs in the order of their times, where that is asked or was done.
        newest_timestamp: Unix milliseconds, of the last record processed; 0 before it.
        stream_time_ms: the greatest timestamp of the last record of a batch; 0 before it.
        dropped: input records that counted for nothing, by why.
    """

    def __init__(
        self,
        *,
        name: str,
        stage: Stage,
        plan: TaskPlan,
        core: TaskCore,
        incarnation: Incarnation,
        inputs: dict[int, TaskInput],
        state: TaskState,
        homes: Mapping[int, Home],
        limits: Sequence[Limit],
        outputs: Sequence[TaskOutput],
        sent: Sent,
        stored: Stored,
        watch: Watch,
        fail: Callable[[Exception], None],
        nonce: Callable[[], bytes],
        watermark: Watermark | None = None,
    ) -> None:
        self.name, self.stage, self.core = name, stage, core
        self.incarnation, self.sent, self.watermark = incarnation, sent, watermark
        self.inputs, self.outputs, self.state = inputs, outputs, state
        self.may_leave_work = any(node.may_leave_work for node in stage.nodes)
        self.checkpoints = TaskCheckpoints(
            stage, core, inputs, state=state, watermark=watermark, base=plan.position
        )
        self.parts = self.records_in = self.replayed = 0
        self.newest_timestamp = self.stream_time_ms = 0
        self.dropped: Counter[str] = Counter()
        # Whether each event is logged; else those of the only input follow by themselves.
        self._logs_runs = plan.logs_runs(len(inputs))
        self.replay = Replay(
            plan,
            name=name,
            only_input=next(iter(inputs)) if len(inputs) == 1 else None,
            topics=[output.topic for output in outputs],
            internal=frozenset(i for i, o in enumerate(outputs) if o.kind is OutputKind.FRAMES),
            stored=stored,
        )
        self.emission = Emission(core, self.replay, outputs, sent=sent, watermark=watermark)
        self.answers = EventAnswers(self.replay, nonce, stage)
        self.program = StageProgram(
            stage,
            state,
            seconds=watch.clock,
            homes=homes,
            limits=limits,
            event_time=watermark and watermark.time,
            outside=self.answers,
        )
        self.ticks = TaskTicks(self.program, watermark)
        self.ticking: Ticking | None = None
        self.flush_at_end: Callable[[], int | None] | None = None
        self.merging = Merging(stage, inputs, self.dropped)
        self._watch, self._fail = watch, fail
        # The event that has made a part of its outputs; None: none is under way.
        self._under_way: UnderWay | None = None
        # Inputs in the order of their turns; each once.
        self._order = deque(sorted(inputs))

    # -- replay ----------------------------------------------------------------------------------

    @property
    def is_replaying(self) -> bool:
        """Whether the task has not reached its adopted end yet, or not done all up to there."""
        return self.core.is_replaying

    @property
    def has_waiting(self) -> bool:
        """Whether events wait to be processed, or what is left of them; ticks live are none."""
        if self._under_way is not None or any(source.buffer for source in self.inputs.values()):
            return True
        return self.is_replaying and not self.wanted_inputs()

    @property
    def is_under_way(self) -> bool:
        """Whether an event is, of which some outputs are made and others will be."""
        return self._under_way is not None

    def offer(self, input_index: int, messages: Sequence[Message]) -> None:
        """Buffer consumed records until their turn."""
        self.inputs[input_index].buffer.extend(messages)

    def replay_slice(self) -> bool:
        """Replay some events; returns whether anything was done, which may need more records."""
        if not self.is_replaying:
            return False
        if self._under_way is not None:
            self._go_on(self._under_way)
            return True
        event = self._next_event()
        if isinstance(event, RecordsNext):
            return self._replay_records(event)
        if isinstance(event, MergedBatch):
            return self._replay_merged(event)
        self._go_on(logged_event(event, self.ticks, self.name))
        return True

    def _replay_merged(self, entry: MergedBatch) -> bool:
        if self.merging.lacking(entry):
            return False
        events = self.merging.again(entry)
        self.replay.verify_merged(entry, events.parts)
        self._go_on(events)
        return True

    def _replay_records(self, records: RecordsNext) -> bool:
        source = self.inputs[records.input]
        self.merging.forget(records.input)
        if not source.buffer:
            return False
        events = self._take(source, records.count)
        if not events.count:
            source.next_offset = events.next_offset
            return True
        try:
            self.replay.verify(records, events.count, events.end_offset)
        except ReplayDivergedError as error:
            error.at(*source.partition, events.end_offset)
            raise
        taken = RecordsUnderWay(
            source,
            records.input,
            events=events,
            watermark=self.watermark,
            is_new=False,
            run=records.run,
        )
        self._go_on(taken)
        return True

    def wanted_inputs(self) -> list[int]:
        """In replay, the inputs whose records come next and are not here; none where none are."""
        if not self.is_replaying or self.is_under_way:
            return []
        event = self._next_event()
        if isinstance(event, MergedBatch):
            return self.merging.lacking(event)
        return [event.input] if isinstance(event, RecordsNext) else []

    def _next_event(self) -> NextEvent:
        return self.replay.next_event(self.core.position, REPLAY_SLICE_EVENTS)

    # -- processing ------------------------------------------------------------------------------

    def process(self) -> bool:
        """Process what comes next live, or go on with it: a tick that is due, else records.

        Where there are none and a bounded run ends, what is flushed before its END.

        Returns:
            Whether there was anything.
        """
        if self._under_way is not None:
            self._go_on(self._under_way)
            return True
        if self.ticking is not None and (clocked := self.ticking.take(self.watermark)) is not None:
            self._go_on(clocked)
            return True
        is_done = self._process_merged() if self.merging.is_live else self._process_records()
        return is_done or self._flush_at_end()

    def _process_records(self) -> bool:
        for _ in self.inputs:
            index = self._order[0]
            self._order.rotate(-1)
            source = self.inputs[index]
            source.buffer.drop_before(source.next_offset)
            if source.buffer:
                events = self._take(source, len(source.buffer))
                if events.count:
                    self._go_on(
                        RecordsUnderWay(
                            source, index, events=events, watermark=self.watermark, is_new=True
                        )
                    )
                else:
                    source.next_offset = events.next_offset
                return True
        return False

    def _process_merged(self) -> bool:
        events = self.merging.live(self.core.position, self._watch)
        if events is not None:
            self._go_on(events)
        return events is not None

    def _flush_at_end(self) -> bool:
        if self.flush_at_end is None or (number := self.flush_at_end()) is None:
            return False
        self._go_on(FlushUnderWay(number, is_new=True))
        return True

    def _take(self, source: TaskInput, count: int) -> Events:
        events = source.take(count)
        if events.dropped is not None:
            self.dropped.update(events.dropped)
        return events

    def _go_on(self, events: UnderWay) -> None:
        """Make the next part of events: they are under way until nothing is left of them."""
        core, had_made = self.core, events.has_made
        if self._under_way is None:
            self.answers.begin(events, core.position)
        try:
            made = events.go_on(self.program, self._watch)
        except RECORD_ERRORS as error:
            self._fail(error)
            raise
        self.parts += 1
        if self._under_way is None:
            is_logged, attached = events.is_new and self._logs_runs, self.answers.attached(events)
            entries = events.entries(core.position, attached) if is_logged else ()
            core.advance(entries, core.position + events.count, is_over=events.is_over)
        elif events.is_over:
            core.end_event()
        self._under_way = None if events.is_over else events
        if made and not had_made:
            events.note_origin(self.sent, core.position)
        emission = self.emission
        emission.note(made)
        if events.is_over and (events.has_made or self.replay.is_checked_at(core.position)):
            emission.check()
        for output_index, outputs, size_bytes in made:
            emission.emit(output_index, outputs, size_bytes)
        if events.is_over:
            self._settle(events)

    def _settle(self, events: UnderWay) -> None:
        """Events are over: what they were counts."""
        events.settle()
        timestamps = events.timestamps
        self.records_in += len(timestamps)
        if not events.is_new:
            self.replayed += len(timestamps)
        if timestamps:
            newest = self.newest_timestamp = timestamps[-1]
            # Not the greatest of all: looking at each costs a hundredth of what a word count does.
            self.stream_time_ms = max(self.stream_time_ms, newest)
        if self.ticking is not None:
            self.ticking.look()

    def send(self, outgoing: Outgoing) -> None:
        """Send outputs that the cap had held back until now."""
        self.emission.send(outgoing)

    def freeze(self) -> None:
        """Take a checkpoint of the state at the current position; published later.

        Not while an event is under way: nothing of it but its outputs is there after a crash.
        """
        assert self._under_way is None
        self.checkpoints.freeze()

    def close(self) -> None:
        """Give up the state; outputs on their way are somebody else's business."""
        self.sent.close()
        self.state.close()
        self.program.close()
