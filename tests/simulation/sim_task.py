"""One task of the simulated worker: the real `TaskCore` around a tiny program.

It carries out what protocol sections 4 to 6 ask of a runtime: whole batches, replay under recorded
determinants, suppression. It also writes down the truth for the checkers.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from kstash.core.determinants import UNKNOWN_OFFSET, Attachment, Determinant, Fired, Run
from kstash.core.ids import Incarnation, OutPartition, TaskId
from kstash.core.reader import ReaderTable
from kstash.core.recovery import TaskPlan
from kstash.core.task import Outgoing, TaskCore
from kstash.core.wire import End, Fence, Identity
from tests.simulation.programs import (
    CLOCK,
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
        "last_valid",
        "notes",
        "offsets",
        "plan",
        "seed",
        "sequences",
        "source_at",
        "stage",
        "state",
        "tables",
        "truth",
        "world",
    )

    def __init__(
        self, group: LiveGroup, stage: Stage, plan: TaskPlan, saved: Saved | None, inc: Incarnation
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
            sinks=frozenset(i for i, o in enumerate(stage.outputs) if o.kind != INTERNAL),
            transactional=frozenset(
                i for i, o in enumerate(stage.outputs) if o.kind == TRANSACTIONAL
            ),
            header_bytes_max=self.world.knobs.header_bytes_max,
        )
        self.core.inherit_scan_from(plan.scan_from)
        self.sequences: dict[OutPartition, int] = dict(plan.sequences)
        self.last_valid = dict(plan.last_valid)
        self.offsets = [plan.input_offsets.get(i, 0) for i in range(len(stage.inputs))]
        self.tables: list[ReaderTable | None] = [
            plan.readers.get(i, ReaderTable()) if internal else None
            for i, internal in enumerate(stage.internal)
        ]
        self.state = State() if saved is None else State.restored(saved.snapshot)
        base = [] if saved is None else saved.history[: plan.position]
        self.truth = self.world.checkers.begin(self.id, inc, base)
        self.notes: dict[tuple[int, int, int], Attachment] = {}
        self.source_at: dict[int, Run | Fired] = {}
        for entry in plan.lineage:
            if isinstance(entry, Attachment):
                self.notes[entry.position, entry.index, entry.k] = entry
            elif isinstance(entry, Run):
                for position in range(entry.position, entry.position + entry.count):
                    self.source_at[position] = entry
            else:
                self.source_at[entry.position] = entry

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
                    entries.append(Run(first, source, position - first, run_end))
                    first = position
                entries.extend(notes)
                run_end = event[0].offset + 1
                position += 1
            if explicit and position > first:
                entries.append(Run(first, source, position - first, run_end))
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
        for key, values in grouped.items():
            suppressed = self._suppressed(key, len(values))
            if suppressed:
                first = self.core.skip(key, suppressed)
                self.world.checkers.on_suppressed(
                    self.stage.outputs[key[0]].topic,
                    key[1],
                    self.id,
                    first,
                    tuple(values[:suppressed]),
                )
                values = values[suppressed:]
                self.sequences[key] = self.sequences.get(key, 0) + suppressed
            if values:
                self.sequences[key] = self.sequences.get(key, 0) + len(values)
                outgoing = self.core.emit(key, len(values), tuple(values))
                if outgoing is not None:
                    self.group.send(self, outgoing)

    def _suppressed(self, key: OutPartition, count: int) -> int:
        if self.stage.outputs[key[0]].kind == INTERNAL:
            missing = self.last_valid.get(key, 0) - self.sequences.get(key, 0)
            return max(0, min(missing, count))
        return count if self.core.position <= self.plan.committed else 0

    # ---- replay

    def replay_batch(self, size: int) -> None:
        """Run up to `size` events of the adopted history again."""
        core = self.core
        position = core.position
        end = min(core.adopted, position + size)
        if position < self.plan.committed < end:
            end = self.plan.committed
        emissions: list[Emission] = []
        while position < end:
            entry = self.source_at.get(position)
            if isinstance(entry, Fired):
                if entry.timer not in self.state.timers:
                    raise ViolationError(
                        "I1", f"{self.id} {self.incarnation} replays {entry}, not armed"
                    )
                run_timer(
                    self.stage, self.state, entry.timer, entry.now_ms, self.world.groups, emissions
                )
                self.truth.append((TIMER, entry.timer, entry.now_ms, 0, (), ()))
            else:
                self._replay_record(position, entry, emissions)
            position += 1
        core.advance((), position)
        self._emit_all(emissions)

    def _replay_record(self, position: int, entry: Run | None, emissions: list[Emission]) -> None:
        if entry is None and len(self.stage.inputs) > 1:
            raise ViolationError(
                "I1", f"{self.id} {self.incarnation}: no lineage of event {position}"
            )
        source = 0 if entry is None else entry.input
        event = self.next_event(source)
        if event is None:
            raise ViolationError(
                "I1", f"{self.id} {self.incarnation}: input of {position} is missing"
            )
        record, cut, _ = event
        if entry is not None and position == entry.position + entry.count - 1:
            end = entry.end_offset
            if end not in (UNKNOWN_OFFSET, record.offset + 1):
                raise ViolationError("I9", f"{self.id}: {entry} ends at offset {record.offset + 1}")
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
