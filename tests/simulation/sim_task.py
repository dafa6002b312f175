"""One task of the simulated worker: the real `TaskCore` and `Replay` around a tiny program.

It carries out what protocol sections 4 to 6 ask of a runtime: whole batches, and in a replay what
the lineage says comes next. It also writes down the truth for the checkers.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from kstash.core.determinants import Attachment, Consumed, Determinant, Fired
from kstash.core.ids import Incarnation, OutPartition, TaskId
from kstash.core.kinds import OutputKind
from kstash.core.reader import ReaderTable
from kstash.core.recovery import TaskPlan
from kstash.core.replay import Replay, ReplayStep, Stored
from kstash.core.task import Outgoing, TaskCore
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
    run_record,
    run_timer,
)
from tests.simulation.sim_kafka import Record
from tests.simulation.truth import RECORD, TIMER, Event, ViolationError, seed_of

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
        "checkpointed",
        "core",
        "ends_sent",
        "group",
        "id",
        "incarnation",
        "notes",
        "offsets",
        "plan",
        "replay",
        "seed",
        "stage",
        "state",
        "tables",
        "truth",
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
        # A task that never had an event is checkpointed once too: it would pin the purge.
        self.checkpointed = plan.position if plan.base is not None else -1
        self.core = TaskCore(
            self.id,
            inc,
            implicit=len(stage.inputs) == 1,
            position=plan.position,
            adopted=plan.adopted,
            stable=plan.stable,
            lineage=plan.lineage,
            sequences=plan.sequences,
            kinds=[KINDS[output.kind] for output in stage.outputs],
            header_bytes_max=self.world.knobs.header_bytes_max,
            made=plan.made,
        )
        self.core.inherit_scan_from(plan.scan_from)
        self.replay = Replay(
            plan,
            name=str(self.id),
            only_input=0 if len(stage.inputs) == 1 else None,
            topics=[output.topic for output in stage.outputs],
            internal=frozenset(i for i, o in enumerate(stage.outputs) if o.kind == INTERNAL),
            stored=stored,
        )
        self.offsets = [plan.input_offsets.get(i, 0) for i in range(len(stage.inputs))]
        self.tables: list[ReaderTable | None] = [
            plan.readers.get(i, ReaderTable()) if internal else None
            for i, internal in enumerate(stage.internal)
        ]
        self.state = State() if saved is None else State.restored(saved.snapshot)
        base = [] if saved is None else saved.history[: plan.position]
        self.truth = self.world.checkers.begin(self.id, inc, base)
        self.notes = {
            (entry.position, entry.index, entry.k): entry
            for entry in plan.lineage
            if isinstance(entry, Attachment)
        }

    @property
    def is_replaying(self) -> bool:
        """Whether events of the adopted history are still to be run again."""
        return self.core.position < self.core.adopted

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

    def run_batch(self, rng: Random, size: int) -> bool:
        """Process up to `size` events as one batch; returns whether there was one."""
        core = self.core
        entries: list[Determinant] = []
        emissions: list[Emission] = []
        position = core.position
        explicit = len(self.stage.inputs) > 1
        while size > 0:
            sources = [i for i in range(len(self.stage.inputs)) if self.has_input(i)]
            if self.state.timers and (not sources or rng.random() < 0.2):
                if not sources and rng.random() < 0.5 and not self.world.is_settling:
                    break
                position = self._fire(rng, position, entries, emissions)
                size -= 1
                continue
            if not sources:
                break
            source = sources[int(rng.random() * len(sources))]
            want = min(size, 1 + int(rng.random() * 3))
            size -= want
            first = position
            run_end = 0
            for _ in range(want):
                event = self.next_event(source)
                if event is None:
                    break
                notes = self._run_record(source, event, position, emissions, entries)
                if notes and explicit and position > first:
                    # Attachments stand behind the events before their own: cut the run there.
                    entries.append(Consumed(first, source, position - first, run_end))
                    first = position
                entries.extend(notes)
                run_end = event[0].offset + 1
                position += 1
            if explicit and position > first:
                entries.append(Consumed(first, source, position - first, run_end))
        if position == core.position and not emissions:
            return False
        if self.ends_sent:
            raise ViolationError(
                "I4", f"{self.id} {self.incarnation} was at its end at {core.position}"
            )
        if position > core.position:
            core.advance(entries, position)
        self._emit_all(emissions)
        return True

    def _fire(
        self, rng: Random, position: int, entries: list[Determinant], emissions: list[Emission]
    ) -> int:
        timers = sorted(self.state.timers)
        timer = timers[int(rng.random() * len(timers))]
        now = self.world.read_clock()
        entries.append(Fired(position, timer, now))
        run_timer(self.stage, self.state, timer, now, self.world.groups, emissions)
        self.truth.append((TIMER, timer, now, 0, (), ()))
        return position + 1

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
        notes: list[Attachment] = []
        world = self.world

        def ask(index: int, k: int, kind: int) -> int:
            answer = world.read_clock() if kind == CLOCK else world.call_outside()
            notes.append(Attachment(position, index, k, kind, answer.to_bytes(4, "big")))
            return answer

        values = self._values(source, record, cut)
        half = self.world.mutations.hand_over_within_event and len(values) > 1
        for i, value in enumerate(values):
            run_record(
                self.stage, self.state, self.id, source, record.offset, cut + i, value,
                self.seed, ask, world.groups, emissions,
            )  # fmt: skip
            if half and i == 0 and emissions:
                self._hand_over_early(position, entries, notes, emissions)
        attachments = tuple((a.index, a.k, a.kind, a.payload) for a in notes)
        self.truth.append((RECORD, source, record.offset, cut, values, attachments))
        return notes

    def _values(self, source: int, record: Record, cut: int) -> tuple[Value, ...]:
        if self.stage.internal[source]:
            values: tuple[Value, ...] = record.value[cut:]
            return values
        return (record.value,)

    def _emit_all(self, emissions: list[Emission]) -> None:
        grouped: dict[OutPartition, list[Value]] = {}
        for output, partition, value in emissions:
            key = output, partition
            if key in grouped:
                grouped[key].append(value)
            else:
                grouped[key] = [value]
        core, replay = self.core, self.replay
        for output, _, (number, state) in emissions:
            core.note_made(output, [b"%d" % number], [b"%d" % state], [number], None)
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

    # ---- replay

    def replay_batch(self, size: int) -> None:
        """Run up to `size` events of the adopted history again."""
        position = self.core.position
        end = min(position + size, self.replay.cut_after(position))
        emissions: list[Emission] = []
        while position < end:
            step = self.replay.next_step(position, end - position)
            if isinstance(step, ReplayStep):
                position = self._replay_records(position, step, emissions)
                continue
            if step.timer not in self.state.timers:
                raise ViolationError(
                    "I1", f"{self.id} {self.incarnation} replays {step}, not armed"
                )
            run_timer(self.stage, self.state, step.timer, step.now_ms, self.world.groups, emissions)
            self.truth.append((TIMER, step.timer, step.now_ms, 0, (), ()))
            position += 1
        self.core.advance((), position)
        self._emit_all(self.world.mutations.made_again(self, emissions))

    def _replay_records(self, position: int, step: ReplayStep, emissions: list[Emission]) -> int:
        """Run the records of a step again; returns the position behind them."""
        offset = 0
        for event in range(position, position + step.count):
            found = self.next_event(step.input)
            if found is None:
                raise ViolationError(
                    "I1", f"{self.id} {self.incarnation}: input of {event} is missing"
                )
            record, cut, _ = found
            self._replay_record(event, step.input, record, cut, emissions)
            offset = record.offset
        self.replay.verify(step, step.count, offset + 1)
        return position + step.count

    def _replay_record(
        self, position: int, source: int, record: Record, cut: int, emissions: list[Emission]
    ) -> None:
        asked: list[tuple[int, int, int, bytes]] = []

        def ask(index: int, k: int, kind: int) -> int:
            note = self.notes.get((position, index, k))
            if note is None or note.kind != kind:
                raise ViolationError(
                    "I9", f"{self.id} replays event {position}, asks for {index, k}"
                )
            asked.append((index, k, kind, note.payload))
            return int.from_bytes(note.payload, "big")

        values = self._values(source, record, cut)
        seed = next(
            (seed_of(o.incarnation) for o in self.plan.owners if o.start <= position < o.end),
            self.seed,
        )
        for i, value in enumerate(values):
            run_record(
                self.stage, self.state, self.id, source, record.offset, cut + i, value,
                seed, ask, self.world.groups, emissions,
            )  # fmt: skip
        self.truth.append((RECORD, source, record.offset, cut, values, tuple(asked)))

    # ---- the mutant H38

    def _hand_over_early(
        self,
        position: int,
        entries: list[Determinant],
        notes: list[Attachment],
        emissions: list[Emission],
    ) -> None:
        if len(self.stage.inputs) > 1 or position != self.core.position or entries:
            return
        self.core.advance(list(notes), position + 1)
        self._emit_all(emissions)
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
