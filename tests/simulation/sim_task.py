"""One task of the simulated worker: the real `TaskCore` and `Replay` around a tiny program.

It carries out what protocol sections 4 to 6 ask of a runtime: whole batches, and in a replay what
the lineage says comes next. It also writes down the truth for the checkers.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from kstash.core.determinants import (
    Attachment,
    Completed,
    Consumed,
    Determinant,
    Flush,
    Idle,
    InputPlace,
    Tick,
    end_of,
)
from kstash.core.ids import Incarnation, OutPartition, TaskId
from kstash.core.kinds import OutputKind
from kstash.core.live import LiveRules
from kstash.core.outputs import Outgoing
from kstash.core.plan import TaskPlan
from kstash.core.reader import ReaderState
from kstash.core.replay import Replay, Stored
from kstash.core.task import TaskCore
from kstash.core.wire import End, Fence, Identity
from tests.simulation.programs import (
    CLOCK,
    IMMEDIATE,
    INTERNAL,
    TRANSACTIONAL,
    Emission,
    Stage,
    State,
    Value,
    run_flush,
    run_idle,
    run_record,
    run_tick,
    run_work,
)
from tests.simulation.sim_calls import Caller, run_completion
from tests.simulation.sim_choice import choose
from tests.simulation.sim_kafka import Record
from tests.simulation.sim_merge import merge_live
from tests.simulation.timed import Timed, Waits
from tests.simulation.truth import (
    FLUSH,
    IDLE,
    RECORD,
    TICK,
    Event,
    ViolationError,
    completion,
    plain,
    seed_of,
)

if TYPE_CHECKING:
    from tests.simulation.sim_live import LiveGroup


KINDS = {
    INTERNAL: OutputKind.FRAMES,
    IMMEDIATE: OutputKind.IMMEDIATE,
    TRANSACTIONAL: OutputKind.TRANSACTIONAL,
}


class Saved:
    """Files of a checkpoint: the state, and the history that made it (for the checkers)."""

    __slots__ = ("history", "snapshot")

    def __init__(self, snapshot: Any, history: list[Event]) -> None:
        self.snapshot = snapshot
        self.history = history


class SimTask:
    """One incarnation of one task on one worker."""

    __slots__ = (
        "acted",
        "caller",
        "checkpointed",
        "core",
        "ends_sent",
        "group",
        "id",
        "incarnation",
        "logs",
        "offsets",
        "places",
        "plan",
        "replay",
        "rules",
        "seed",
        "stage",
        "state",
        "tables",
        "truth",
        "waits",
        "world",
    )

    def __init__(
        self,
        group: LiveGroup,
        stage: Stage,
        plan: TaskPlan,
        saved: Saved | None,
        inc: Incarnation,
        stored: Stored,
    ) -> None:
        self.group = group
        self.world = group.world
        self.stage = stage
        self.id = TaskId(stage.index, group.number)
        self.incarnation = inc
        self.plan = plan
        self.seed = seed_of(inc)
        self.ends_sent = False
        # What may come next, since it is live.
        self.rules: LiveRules | None = None
        # A task that never had an event is checkpointed once too: it would pin the purge.
        self.checkpointed = plan.position if plan.base is not None else -1
        self.logs = plan.logs_runs(len(stage.inputs))
        # Events below are done outside of Kafka, by this incarnation or one before it.
        self.acted = plan.adopted
        self.core = TaskCore(
            self.id,
            inc,
            implicit=not self.logs,
            position=plan.position,
            adopted=plan.adopted,
            stable=plan.stable,
            lineage=plan.lineage,
            sequences=plan.sequences,
            kinds=[KINDS[output.kind] for output in stage.outputs],
            header_bytes_max=self.world.knobs.header_bytes_max,
            made=plan.made,
        )
        self.core.scans.inherit(plan.scan_from)
        self.replay = Replay(
            plan,
            name=str(self.id),
            only_input=0 if len(stage.inputs) == 1 else None,
            topics=[output.topic for output in stage.outputs],
            internal=frozenset(i for i, o in enumerate(stage.outputs) if o.kind == INTERNAL),
            stored=stored,
        )
        self.offsets = [plan.input_offsets.get(i, 0) for i in range(len(stage.inputs))]
        # Of a task that merges: where each input goes on, within a frame perhaps.
        self.places: dict[int, InputPlace] = {}
        if stage.merges:
            told = plan.base.places if plan.base is not None else {}
            if self.world.mutations.places_forgotten:
                told = {}
            self.places = {
                i: told.get(i, InputPlace(offset, 0, 0)) for i, offset in enumerate(self.offsets)
            }
        self.tables: list[ReaderState | None] = [
            plan.readers.get(i, ReaderState()) if internal else None
            for i, internal in enumerate(stage.internal)
        ]
        self.state = State() if saved is None else State.restored(saved.snapshot)
        self.waits = self._waits(plan, saved) if stage.is_timed else None
        base = [] if saved is None else saved.history[: plan.position]
        self.truth = self.world.checkers.begin(self.id, inc, base)
        self.caller = Caller(self)

    def _waits(self, plan: TaskPlan, saved: Saved | None) -> Waits:
        """Event time of a stage in watermark mode, which goes on from the checkpoint's."""
        tables = {i: table for i, table in enumerate(self.tables) if table is not None}
        times = None if plan.base is None else plan.base.event_time
        timed = self.state.timed = Timed(self.stage, tables, times, self.world.groups)
        if saved is not None:
            timed.restore(saved.snapshot[8])
        return Waits(timed)

    @property
    def is_replaying(self) -> bool:
        """Whether events of the adopted history are still to be run again."""
        return self.core.is_replaying

    # ---- reading

    def next_event(self, source: int) -> tuple[Record, int, int] | None:
        """Read up to the next record of an input that is an event: (record, cut, count)."""
        log = self.world.cluster.log(self.stage.inputs[source], self.id.partition)
        table = self.tables[source]
        while True:
            found, position = log.fetch(self.offsets[source], 1, committed=True)
            self.offsets[source] = position
            if not found:
                return None
            record = found[0]
            if table is None:
                return record, 0, 1
            head = record.headers
            if isinstance(head, Fence | End):
                table.mark(head)
                continue
            identity: Identity = head[0]
            cut = table.accept(identity)
            if cut < identity.count:
                return record, cut, identity.count

    def has_input(self, source: int) -> bool:
        """Whether an input has offsets that were not read."""
        log = self.world.cluster.log(self.stage.inputs[source], self.id.partition)
        return self.offsets[source] < log.end

    # ---- live

    def go_live(self) -> LiveRules:
        """Return what may come next; the ends of the inputs are listed the first time."""
        if self.rules is None:
            cluster, partition = self.world.cluster, self.id.partition
            ends = {i: cluster.log(t, partition).end for i, t in enumerate(self.stage.inputs)}
            timed = self.state.timed
            logged_ms = self.state.ticked if timed is None else timed.event_time.last_ms()
            self.rules = LiveRules(ends, logged_ms)
        return self.rules

    def run_batch(self, rng: Random, size: int) -> bool:
        """Process up to `size` events as one batch; returns whether there was one."""
        core = self.core
        if core.is_under_way:
            self.go_on()
            return True
        entries: list[Determinant] = []
        emissions: list[Emission] = []
        position = core.position
        while size > 0:
            event = choose(self, rng, position)
            if event is None:
                break
            if isinstance(event, int) and self.stage.merges:
                merged = merge_live(self, rng, position, size, emissions)
                if merged is None:
                    size -= 1
                    continue
                entries.extend(merged)
                position = end_of(merged[0])
                size -= position - merged[0].position
            elif isinstance(event, int):
                first = position
                want = min(size, 1 + int(rng.random() * 3))
                position = self._run_records(event, position, want, entries, emissions)
                if position == first:
                    continue
                size -= position - first
            else:
                self.run_event(event, emissions)
                if self.logs:
                    entries.append(event)
                position += 1
                size -= 1
        if position == core.position:
            return False
        self._check_not_at_end()
        # What is left now makes the next parts of this event.
        core.advance(entries, position, is_over=not self.state.work)
        self.emit_all(emissions)
        self.caller.start(0)
        return True

    def go_on(self) -> None:
        """Make the next part of the event that is under way."""
        self._check_not_at_end()
        emissions: list[Emission] = []
        run_work(self.stage, self.state, self.world.groups, emissions, most=1)
        if not self.state.work:
            self.core.end_event()
        self.emit_all(emissions)

    def _check_not_at_end(self) -> None:
        if self.ends_sent:
            raise ViolationError(
                "I4", f"{self.id} {self.incarnation} was at its end at {self.core.position}"
            )

    def finish_work(self, emissions: list[Emission]) -> None:
        """Before the next event, or record of one, nothing is left of the one before."""
        run_work(self.stage, self.state, self.world.groups, emissions)

    def run_event(self, event: Tick | Flush | Idle | Completed, emissions: list[Emission]) -> None:
        """Run what is no record, live or again."""
        stage, state, groups = self.stage, self.state, self.world.groups
        self.finish_work(emissions)
        match event:
            case Tick():
                if event.now_ms < state.ticked:
                    raise ViolationError("I1", f"{self.id} {event} after one of {state.ticked}")
                run_tick(stage, state, event.now_ms, groups, emissions)
                if state.timed is not None:
                    state.timed.tick(event.now_ms, emissions)
                self.truth.append(plain(TICK, event.now_ms))
            case Flush():
                run_flush(stage, state, event.operator, groups, emissions)
                self.truth.append(plain(FLUSH, event.operator))
            case Idle():
                if state.timed is None:
                    run_idle(stage, state, event.input, event.now_ms, groups, emissions)
                else:
                    state.timed.idle(event.input, event.now_ms)
                self.truth.append(plain(IDLE, event.input, event.now_ms))
            case Completed():
                answer = self.group.answers.found.answer_of(self.id, event)
                run_completion(stage, state, event.call, answer, groups, emissions)
                self.truth.append(completion(event.call, event.incarnation))

    def _run_records(
        self,
        source: int,
        position: int,
        want: int,
        entries: list[Determinant],
        emissions: list[Emission],
    ) -> int:
        """Run records of an input live; returns where they end."""
        first, run_end = position, 0
        for _ in range(want):
            event = self.next_event(source)
            if event is None:
                break
            notes = self._run_record(source, event, position, emissions, entries)
            if notes and position > first:
                # Attachments stand before their own event: cut the run there.
                entries.append(Consumed(first, source, position - first, run_end))
                first = position
            entries.extend(notes)
            run_end = event[0].offset + 1
            position += 1
        if self.logs and position > first:
            entries.append(Consumed(first, source, position - first, run_end))
        return position

    def _run_record(
        self,
        source: int,
        event: tuple[Record, int, int],
        position: int,
        emissions: list[Emission],
        entries: list[Determinant],
    ) -> list[Attachment]:
        """Run one record live; returns its attachments."""
        record, cut, _ = event
        values = self.values(source, record, cut)
        if self.state.timed is not None:
            return self.take_timed(source, record, cut, values, emissions)
        return self.run_values(position, source, record.offset, cut, values, emissions, entries)

    def take_timed(
        self,
        source: int,
        record: Record,
        cut: int,
        values: tuple[Value, ...],
        emissions: list[Emission],
    ) -> list[Attachment]:
        """Run one record in watermark mode, live or again; it has no attachments."""
        assert self.state.timed is not None
        writer = record.headers[0].task if self.stage.internal[source] else None
        self.state.timed.take(source, writer, values, emissions)
        self.truth.append((RECORD, source, record.offset, cut, values, ()))
        return []

    def run_values(
        self,
        position: int,
        source: int,
        offset: int,
        cut: int,
        values: tuple[Value, ...],
        emissions: list[Emission],
        entries: list[Determinant],
    ) -> list[Attachment]:
        """Run logical records of one event live, the first of index `cut` in its frame."""
        notes: list[Attachment] = []
        world = self.world

        def ask(index: int, k: int, kind: int) -> int:
            answer = world.read_clock() if kind == CLOCK else world.call_outside()
            notes.append(Attachment(position, index, k, kind, answer.to_bytes(4, "big")))
            return answer

        half = self.world.mutations.hand_over_within_event and len(values) > 1
        for i, value in enumerate(values):
            self.finish_work(emissions)
            run_record(
                self.stage, self.state, self.id, source, offset, cut + i, value,
                self.seed, ask, world.groups, emissions, position,
            )  # fmt: skip
            if half and i == 0 and emissions:
                self._hand_over_early(position, entries, notes, emissions)
        attachments = tuple((a.index, a.k, a.kind, a.payload) for a in notes)
        self.truth.append((RECORD, source, offset, cut, values, attachments))
        return notes

    def values(self, source: int, record: Record, cut: int) -> tuple[Value, ...]:
        """The logical records of one, from an index in its frame on."""
        if self.stage.internal[source]:
            values: tuple[Value, ...] = record.value[cut:]
            return values
        return (record.value,)

    def emit_all(self, emissions: list[Emission]) -> None:
        """Hash, compare, number and send what events made."""
        grouped: dict[OutPartition, list[Value]] = {}
        for output, partition, value in emissions:
            key = output, partition
            if key in grouped:
                grouped[key].append(value)
            else:
                grouped[key] = [value]
        core, replay = self.core, self.replay
        marks = core.marks
        assert marks is not None
        for output, _, (number, state, *times) in emissions:
            marks.note(output, [b"%d" % number], [b"%d" % state], [number, *times][-1:], None)
        if not core.is_under_way:
            core.mark_made()
            if replay.is_checked_at(core.position):
                made = core.made()
                assert made is not None
                replay.check(made)
        for key, values in grouped.items():
            first = core.next_sequence(key)
            suppressed = replay.suppressed(key, core.position, first, len(values))
            if replay.is_stored(key, first, len(values)):
                replay.compare(key, first, len(values), values.__getitem__)
            if suppressed:
                core.skip(key, suppressed)
                topic = self.stage.outputs[key[0]].topic
                gone = tuple(values[:suppressed])
                self.world.checkers.on_suppressed(topic, key[1], self.id, first, gone)
                values = values[suppressed:]
            if values:
                outgoing = core.emit(key, len(values), tuple(values))
                if outgoing is not None:
                    self.group.send(self, outgoing)

    def replay_values(
        self,
        position: int,
        source: int,
        offset: int,
        cut: int,
        values: tuple[Value, ...],
        emissions: list[Emission],
    ) -> None:
        """Run logical records of one event again, the first of index `cut` in its frame."""
        asked: list[tuple[int, int, int, bytes]] = []

        def ask(index: int, k: int, kind: int) -> int:
            payload = self.replay.attachment(position, index, k, kind)
            asked.append((index, k, kind, payload))
            return int.from_bytes(payload, "big")

        seed = next(
            (seed_of(o.incarnation) for o in self.plan.owners if o.start <= position < o.end),
            self.seed,
        )
        for i, value in enumerate(values):
            self.finish_work(emissions)
            run_record(
                self.stage, self.state, self.id, source, offset, cut + i, value,
                seed, ask, self.world.groups, emissions, position,
            )  # fmt: skip
        self.truth.append((RECORD, source, offset, cut, values, tuple(asked)))

    # ---- the mutant H38

    def _hand_over_early(
        self,
        position: int,
        entries: list[Determinant],
        notes: list[Attachment],
        emissions: list[Emission],
    ) -> None:
        if self.logs or position != self.core.position or entries:
            return
        self.core.advance(list(notes), position + 1)
        self.emit_all(emissions)
        emissions.clear()


def as_meaning(
    task: SimTask, outgoing: Outgoing, first: int, values: tuple[Value, ...], chunk: Any
) -> tuple[Any, ...]:
    """Return the ghost of one output record."""
    size = 0 if chunk is None else len(outgoing.chunk or b"")
    return (
        "out", task.id, task.incarnation, first, len(values),
        outgoing.position, chunk, values, size,
    )  # fmt: skip
