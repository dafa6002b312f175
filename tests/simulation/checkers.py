"""All invariants: those checked as records land, and those checked in quiet states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kstash.core.ids import TaskId
from kstash.core.reader import ReaderState
from tests.simulation.online import OnlineCheckers
from tests.simulation.programs import (
    INTERNAL,
    TRANSACTIONAL,
    Emission,
    Stage,
    State,
    Value,
    is_read,
    run_flush,
    run_idle,
    run_record,
    run_tick,
    run_work,
)
from tests.simulation.sim_calls import run_completion
from tests.simulation.sim_kafka import Log
from tests.simulation.timed import Timed
from tests.simulation.truth import (
    COMPLETED,
    FLUSH,
    IDLE,
    RECORD,
    TICK,
    CheckpointInfo,
    Coverage,
    Event,
    Free,
    Inc,
    Task,
    ViolationError,
    seed_of,
)


class Checkers(OnlineCheckers):
    """All invariants over one cluster."""

    def chain(self, task: Task, inc: Inc) -> list[tuple[Inc, int, int]]:
        """Return (incarnation, first position, end) of its history, newest first."""
        pieces: list[tuple[Inc, int, int]] = []
        end = 1 << 60
        at: Inc | None = inc
        while at is not None:
            start = self.starts[task[1], at]
            adopted = start.tasks[task[0]][1]
            if adopted < end:
                pieces.append((at, adopted, end))
                end = adopted
            at = start.parent
        return pieces

    def _free(self, task: Task, inc: Inc) -> Free:
        """Positions of a history that were made without a log."""
        if len(self.stages[task[0]].inputs) > 1:
            return []
        return [
            (first, end)
            for owner, first, end in self.chain(task, inc)
            if not self.starts[task[1], owner].tasks[task[0]][2]
        ]

    def check_start_of_live(self, task: Task, inc: Inc) -> None:
        """A replay has ended: its history must be the one that was adopted (I1)."""
        history = self.histories[task, inc]
        for owner, first, end in self.chain(task, inc)[1:]:
            theirs = self.histories[task, owner]
            for p in range(first, min(end, len(history))):
                if p >= len(theirs) or history[p] != theirs[p]:
                    was = theirs[p] if p < len(theirs) else None
                    raise ViolationError(
                        "I1", f"{task} {inc} replayed event {p} as {history[p]}, it was {was}"
                    )

    def check_all(self, live: Mapping[Task, tuple[Inc, Any]]) -> None:
        """Check everything once the system has caught up; `live` gives final states."""
        for task, (inc, state) in sorted(live.items()):
            self.check_start_of_live(task, inc)
            self._check_effects(task, self.histories[task, inc])
            self._check_inputs(task, self.histories[task, inc])
            self._check_from_scratch(task, inc, state)

    def _check_effects(self, task: Task, history: list[Event]) -> None:
        for (other, position), event in self.effects.items():
            if other == task and history[position : position + 1] != [event]:
                raise ViolationError(
                    "I13", f"{task} did {event} for the outside as {position} of {history}"
                )

    def _check_calls(self, task: Task, inc: Inc, called: Mapping[bytes, int]) -> None:
        """What another system was asked for is what the history has asked for (I13).

        Reads of a history that was given up are no harm, if they ask for the same.
        """
        for (generation, other, name), request in self.outside.asked.items():
            if (generation, other) != (inc[0], task) or called.get(name) == request:
                continue
            if not is_read(name) or name in called:
                raise ViolationError("I13", f"{task} asked for {request} as {name.hex()}")

    def _check_inputs(self, task: Task, history: list[Event]) -> None:
        stage = self.stages[task[0]]
        for i, topic in enumerate(stage.inputs):
            mine = [(e[2], e[3], e[4]) for e in history if e[0] == RECORD and e[1] == i]
            if stage.merges:
                mine = _whole_records(mine)
            if stage.internal[i]:
                want = self.readers[topic, task[1]].accepted
            else:
                records = self.cluster.log(topic, task[1]).records
                want = [(r.offset, 0, (r.value,)) for r in records]
            if mine != want:
                raise ViolationError("I5", f"{task} read {topic} as {mine}, valid: {want}")

    def _check_from_scratch(self, task: Task, inc: Inc, final: Any) -> None:
        stage = self.stages[task[0]]
        history = self.histories[task, inc]
        owners = [(first, seed_of(owner)) for owner, first, _ in self.chain(task, inc)]
        mine = {
            key: info
            for key, info in self.checkpoints.items()
            if info.record.task == task and self._counts(info.record, task, inc)
        }
        at: dict[int, list[CheckpointInfo]] = {}
        for info in mine.values():
            at.setdefault(info.record.position, []).append(info)
        state = State()
        if stage.is_timed:
            tables = {i: ReaderState() for i, internal in enumerate(stage.internal) if internal}
            state.timed = Timed(stage, tables, None, self.groups)
        keys = [(o, p) for o in range(len(stage.outputs)) for p in range(self.groups)]
        outputs: dict[tuple[int, int], list[Value]] = {key: [] for key in keys}
        made_at: dict[tuple[int, int], list[int]] = {key: [] for key in keys}
        called: dict[bytes, int] = {}
        for position, event in enumerate(history):
            if position in at:
                self._check_checkpoints(at[position], state, outputs)
            seed = next(s for first, s in owners if position >= first)
            before = set(state.open)
            if state.timed is not None:
                emitted = self._run_timed(stage, state, task, event)
            else:
                emitted = run_event(
                    stage, state, task, event, seed, self.groups, position, self.answers
                )
            called |= {n: call.request for n, call in state.open.items() if n not in before}
            for output, p, value in emitted:
                outputs[output, p].append(value)
                made_at[output, p].append(position)
        if mine and max(at) > len(history):
            raise ViolationError("I6", f"{task}: checkpoint at {max(at)}, history {len(history)}")
        if len(history) in at:
            self._check_checkpoints(at[len(history)], state, outputs)
        if state.snapshot() != final:
            raise ViolationError(
                "I1", f"{task} ends in state {final}, its history {state.snapshot()}"
            )
        self._check_calls(task, inc, called)
        self._check_timed(task, state, history, outputs)
        for position, key, seen in self.positions.get(task, ()):
            made = sum(1 for at_position in made_at[key] if at_position < position)
            if seen < made:
                raise ViolationError(
                    "I11", f"{task} committed position {position}: {seen} of {made} on {key}"
                )
        for (o, p), values in outputs.items():
            topic, kind = stage.outputs[o]
            if kind != TRANSACTIONAL:
                read = self.readers[topic, p].by_task.get(task, [])
                if read != values:
                    raise ViolationError("I1", f"{topic}[{p}] of {task}: {read}, history: {values}")
            if kind != INTERNAL:
                read = self.plain[topic, p].by_task.get(task, [])
                if read != values:
                    raise ViolationError(
                        "I11", f"{topic}[{p}] of {task}: {read}, history: {values}"
                    )

    def _run_timed(self, stage: Stage, state: State, task: Task, event: Event) -> list[Emission]:
        """Run one event of a history from scratch, in watermark mode."""
        timed, out = state.timed, list[Emission]()
        assert timed is not None
        if event[0] == TICK:
            run_tick(stage, state, event[1], self.groups, out)
            timed.tick(event[1], out)
        elif event[0] == IDLE:
            timed.idle(event[1], event[2])
        else:
            _, source, offset, _, values, _ = event
            writer = None
            if stage.internal[source]:
                meaning = self.readers[stage.inputs[source], task[1]].offsets[offset]
                writer = TaskId(*meaning[1])
            timed.take(source, writer, values, out)
        return out

    def _check_timed(
        self,
        task: Task,
        state: State,
        history: list[Event],
        outputs: dict[tuple[int, int], list[Value]],
    ) -> None:
        """Nothing was late, all that is over is closed, and results are those in order (I14)."""
        if state.timed is None:
            return
        taken = [value for event in history if event[0] == RECORD for value in event[4]]
        for o in range(len(self.stages[task[0]].outputs)):
            made = [value for p in range(self.groups) for value in outputs[o, p]]
            wrong = state.timed.wrong(taken, made)
            if wrong is not None:
                raise ViolationError("I14", f"{task}: {wrong}")

    def _counts(self, record: Any, task: Task, inc: Inc) -> bool:
        """A checkpoint of a branch that was given up does not count (§6.4).

        Only a local or a damaged one can be: a good remote one is adopted by every successor.
        """
        if record.is_remote and (task, record.label) not in self.damaged:
            return True
        end = 1 << 60
        at: Inc | None = inc
        while at is not None and at != record.incarnation:
            start = self.starts[task[1], at]
            end = min(end, start.tasks[task[0]][1])
            at = start.parent
        return at is not None and bool(record.position <= end)

    def _check_checkpoints(
        self,
        infos: list[CheckpointInfo],
        state: State,
        outputs: dict[tuple[int, int], list[Value]],
    ) -> None:
        for info in infos:
            record = info.record
            what = f"checkpoint of {record.task} {record.incarnation} at {record.position}"
            if info.state != state.snapshot():
                raise ViolationError("I6", f"{what}: {info.state}, history: {state.snapshot()}")
            for key, values in outputs.items():
                if record.sequences.get(key, 0) != len(values):
                    raise ViolationError(
                        "I6", f"{what}: {key} {record.sequences}, {len(values)} made"
                    )
                if info.visible[key] < len(values):
                    raise ViolationError(
                        "I6", f"{what}: {info.visible[key]} of {len(values)} outputs on {key} valid"
                    )

    def check_void(self, log: Log, offsets: Iterable[int]) -> None:
        """Checkpoints that somebody counts were not void when they came, and never will be (H6)."""
        for offset in offsets:
            if (log.key, offset) not in self.checkpoints:
                raise ViolationError("void", f"{log}@{offset}: a void checkpoint counts")

    def check_trim(self, task: Task, inc: Inc) -> None:
        """For each retained checkpoint, lineage and inputs from it on are still there (I7)."""
        stage = self.stages[task[0]]
        history = self.histories[task, inc]
        lineage = self.cluster.log(self.lineage_topic, task[1])
        ends = {owner: end for owner, _, end in self.chain(task, inc)}
        # Incarnations of the chain that own no position still restate the history below their x.
        at: Inc | None = inc
        bound = 1 << 60
        while at is not None:
            start = self.starts[task[1], at]
            ends.setdefault(at, bound)
            ends[at] = min(ends[at], bound)
            bound = min(bound, start.tasks[task[0]][1])
            at = start.parent
        pieces, retained = self._retained(lineage, task, ends)
        pieces += self._retained_headers(stage, task, ends)
        free = self._free(task, inc)
        # The two newest ones must be good; what an older one needs may be gone already.
        retained.sort(key=lambda checkpoint: checkpoint.position)
        for checkpoint in retained[-2:]:
            coverage = Coverage(history, checkpoint.position, free=free)
            for owner, entries in pieces:
                coverage.add([e for e in entries if e.position < ends[owner]])
            if coverage.advance() < len(history):
                raise ViolationError(
                    "I7", f"{task} from {checkpoint.position}: lineage ends at {coverage.end}"
                )
            for i, topic in enumerate(stage.inputs):
                log = self.cluster.log(topic, task[1])
                if checkpoint.input_offsets.get(i, 0) < log.start:
                    raise ViolationError("I7", f"{log} purged to {log.start} above {checkpoint}")

    def newest_remote(self, task: Task, inc: Inc) -> set[tuple[int, str]]:
        """Position and label of the two newest remote checkpoints that the cleaner must keep."""
        lineage = self.cluster.log(self.lineage_topic, task[1])
        _, retained = self._retained(lineage, task, {})
        found = {c.position: c.label for c in retained if self._counts(c, task, inc)}
        return {(position, found[position]) for position in sorted(found)[-2:]}

    def check_plan(
        self, task: Task, inc: Inc, position: int, adopted: int, lineage: Iterable[Any]
    ) -> None:
        """A plan from a retained checkpoint reaches what was seen, by true lineage (I7)."""
        seen = self.visible_until.get((task, inc), 0)
        coverage = Coverage(self.histories[task, inc], position, free=self._free(task, inc))
        wrong = coverage.add(lineage)
        if wrong is not None or coverage.advance() < adopted or adopted < seen:
            raise ViolationError(
                "I7",
                f"{task} from {position} adopts {adopted}, covered: {coverage.end}, seen: {seen}, "
                f"wrong: {wrong}",
            )

    def _retained(
        self, lineage: Log, task: Task, ends: dict[Inc, int]
    ) -> tuple[list[tuple[Inc, Any]], list[Any]]:
        """Return what the cleaner must keep: segments of the history, remote checkpoints."""
        newest = {record.key: record for record in lineage.records}
        pieces: list[tuple[Inc, Any]] = []
        checkpoints: list[Any] = []
        for record in newest.values():
            meaning = record.meaning
            if record.value is None or getattr(meaning, "task", None) != task:
                continue
            name = type(meaning).__name__
            if name == "Segment" and meaning.incarnation in ends:
                pieces.append((meaning.incarnation, meaning.entries))
            elif name == "Checkpoint" and (lineage.key, record.offset) in self.checkpoints:
                checkpoints += [meaning] if meaning.is_remote else []
        return pieces, checkpoints

    def _retained_headers(
        self, stage: Stage, task: Task, ends: dict[Inc, int]
    ) -> list[tuple[Inc, Any]]:
        """Return the lineage in accepted headers that were not purged."""
        pieces: list[tuple[Inc, Any]] = []
        for topic, kind in stage.outputs:
            for p in range(self.groups if kind != TRANSACTIONAL else 0):
                log = self.cluster.log(topic, p)
                pieces += [
                    (meaning[2], meaning[6][2])
                    for offset, meaning in self.readers[log.key].offsets.items()
                    if offset >= log.start
                    and meaning[1] == task
                    and meaning[6] is not None
                    and meaning[2] in ends
                ]
        return pieces


def _whole_records(
    events: list[tuple[int, int, tuple[Value, ...]]],
) -> list[tuple[int, int, tuple[Value, ...]]]:
    """Where each logical record is an event: those of one Kafka record together."""
    found: list[tuple[int, int, tuple[Value, ...]]] = []
    for offset, index, values in events:
        if found and found[-1][0] == offset and found[-1][1] + len(found[-1][2]) == index:
            found[-1] = offset, found[-1][1], found[-1][2] + values
        else:
            found.append((offset, index, values))
    return found


def run_event(
    stage: Stage,
    state: State,
    task: Task,
    event: Event,
    seed: int,
    partitions: int,
    position: int,
    answers: Mapping[tuple[Task, Inc, bytes], bytes],
) -> list[Emission]:
    """Run one event of a history from scratch."""
    out: list[Emission] = []
    kind, a, b = event[:3]
    if kind == TICK:
        run_tick(stage, state, a, partitions, out)
        return out
    if kind == FLUSH:
        run_flush(stage, state, a, partitions, out)
        return out
    if kind == IDLE:
        run_idle(stage, state, a, b, partitions, out)
        return out
    if kind == COMPLETED:
        name, inc = event[4]
        if (task, inc, name) not in answers:
            raise ViolationError("I3", f"{task} has an answer of {inc} that was never written")
        run_completion(stage, state, name, answers[task, inc, name], partitions, out)
        return out
    _, source, offset, skip, values, attachments = event
    asked = {(a[0], a[1]): int.from_bytes(a[3], "big") for a in attachments}

    def ask(index: int, k: int, _kind: int) -> int:
        return asked[index, k]

    for i, value in enumerate(values):
        run_record(
            stage,
            state,
            task,
            source,
            offset,
            skip + i,
            value,
            seed,
            ask,
            partitions,
            out,
            position,
        )
        run_work(stage, state, partitions, out)
    return out
