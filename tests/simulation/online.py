"""What must hold, whatever happened: I1 to I11 of the protocol, section 10.

The checkers see every append and every end of a transaction, and the *truth*: for each incarnation
of each task, the list of events that it really processed, written down by the world. They know
nothing of how faults are made and share no code with `kstash.core`: records are understood by the
plain data kept beside their bytes.

| invariant | checked |
|---|---|
| I1 one history | at each START, and at the end by running the history from scratch |
| I2 no retraction | what the online reader accepted is adopted by every successor |
| I3 coverage | after every append of an output, and at every commit |
| I4 dense | by the online reader |
| I5 fence | what tasks consumed against what the online reader accepted |
| I6 checkpoint | state, sequences and outputs of every valid checkpoint |
| I7 trim | at the end, over what maximal compaction and purge leave |
| I8 bound | headers and stashes |
| I9 replay identity | every suppressed output against the stored one |
| I10 progress | the world reports it |
| I13 outside | what was done for the outside, against the history at the end |
| I11 plain reader | an online `read_committed` reader of each sink |
"""

from __future__ import annotations

from typing import Any

from tests.simulation.programs import INTERNAL, TRANSACTIONAL, Stage, Value
from tests.simulation.sim_calls import Outside
from tests.simulation.sim_kafka import COMMITTED, Cluster, Log, Record, Transaction
from tests.simulation.truth import (
    UNBOUNDED,
    CheckpointInfo,
    Coverage,
    Event,
    Inc,
    OnlineReader,
    Place,
    PlainReader,
    StartInfo,
    Task,
    ViolationError,
)


class OnlineCheckers:
    """The invariants that are checked as records land."""

    def __init__(
        self,
        cluster: Cluster,
        stages: tuple[Stage, ...],
        *,
        groups: int,
        lineage_topic: str,
        header_bytes_max: int,
        outside: Outside,
    ) -> None:
        self.cluster = cluster
        self.stages = stages
        self.groups = groups
        self.lineage_topic = lineage_topic
        self.header_bytes_max = header_bytes_max
        self.outside = outside
        # Answers by task, incarnation and name of the call: as they landed.
        self.answers: dict[tuple[Task, Inc, bytes], bytes] = {}
        self.kinds = {o.topic: o.kind for stage in stages for o in stage.outputs}
        self.readers: dict[Place, OnlineReader] = {}
        self.plain: dict[Place, PlainReader] = {}
        for topic, kind in self.kinds.items():
            for p in range(groups):
                if kind != TRANSACTIONAL:
                    self.readers[topic, p] = OnlineReader()
                if kind != INTERNAL:
                    self.plain[topic, p] = PlainReader()
        self.histories: dict[tuple[Task, Inc], list[Event]] = {}
        self.coverages: dict[tuple[Task, Inc], Coverage] = {}
        self.starts: dict[tuple[int, Inc], StartInfo] = {}
        self.claims: dict[int, Inc] = {}
        self.generations: dict[int, int] = {}
        self.visible_until: dict[tuple[Task, Inc], int] = {}
        self.given_up: dict[tuple[Task, Inc], int] = {}
        self.checkpoints: dict[tuple[Place, int], CheckpointInfo] = {}
        self.positions: dict[Task, list[tuple[int, tuple[int, int], int]]] = {}
        self.damaged: set[tuple[Task, str]] = set()
        self.store: set[str] = set()
        self.suppressed = 0
        # What was done outside of Kafka: events by task and position.
        self.effects: dict[tuple[Task, int], Event] = {}
        cluster.on_append = self.on_append
        cluster.on_end = self.on_end

    # ---- truth, told by the world

    def begin(self, task: Task, inc: Inc, base: list[Event]) -> list[Event]:
        """An incarnation starts a task from the events of its base; returns the list to extend."""
        history = self.histories.setdefault((task, inc), [])
        history.extend(base)
        return history

    def reset(self) -> None:
        """As `new_life`, and the internal topics are empty too."""
        self.new_life()
        for topic, p in self.readers:
            if self.kinds[topic] == INTERNAL:
                self.readers[topic, p] = OnlineReader()

    def new_life(self) -> None:
        """The lineage topic was made anew: outputs start over, readers of sinks see them again."""
        self.claims.clear()
        self.generations.clear()
        self.checkpoints.clear()
        self.positions.clear()
        self.effects.clear()
        for (topic, _), reader in self.readers.items():
            if self.kinds[topic] != INTERNAL:
                reader.by_task.clear()
        for plain in self.plain.values():
            plain.by_task.clear()

    # ---- what lands

    def on_append(self, log: Log, record: Record) -> None:
        """Look at one record as it lands."""
        meaning = record.meaning
        if meaning is None:
            return
        if log.topic == self.lineage_topic:
            self._on_lineage(log, record, meaning)
        elif meaning[0] == "out":
            self._on_output(log, record, meaning)
        elif meaning[0] == "fence":
            fences = self.readers[log.key].fences
            for group, inc in meaning[1]:
                if group not in fences or inc > fences[group]:
                    self.readers[log.key].raise_fence(group, inc)

    def _on_output(self, log: Log, record: Record, meaning: Any) -> None:
        _, task, inc, first, count, position, chunk, values, header_bytes = meaning
        if header_bytes > self.header_bytes_max:
            raise ViolationError("I8", f"header of {header_bytes} bytes on {log}")
        if self.kinds[log.topic] == TRANSACTIONAL:
            return
        reader = self.readers[log.key]
        group = task[1]
        # In an internal topic only after the FENCE of its very incarnation.
        if self.kinds[log.topic] == INTERNAL and inc > reader.fences.get(group, (0, 0)):
            return
        if group in reader.fences and inc < reader.fences[group]:
            return
        reader.raise_fence(group, inc)
        last = reader.last.get(task, 0)
        if first > last + 1:
            raise ViolationError(
                "I4", f"{log}@{record.offset}: task {task} jumps {last} to {first}"
            )
        skip = last + 1 - first
        if skip >= count:
            return
        reader.last[task] = first + count - 1
        taken = values[skip:]
        reader.accepted.append((record.offset, skip, taken))
        reader.by_task.setdefault(task, []).extend(taken)
        reader.offsets[record.offset] = meaning
        coverage = self._coverage(task, inc, f"output on {log}@{record.offset}")
        if chunk is not None:
            wrong = coverage.add(chunk[2])
            if wrong is not None:
                raise ViolationError("I3", f"{log}@{record.offset} of {task} {inc} says {wrong}")
        self._covered(coverage, task, inc, position, f"{log}@{record.offset}")

    def _covered(self, coverage: Coverage, task: Task, inc: Inc, position: int, what: str) -> None:
        if coverage.advance() < position:
            raise ViolationError(
                "I3", f"{what} of {task} {inc} at {position}: lineage covered to {coverage.end}"
            )
        key = task, inc
        if position > self.given_up.get(key, position):
            raise ViolationError(
                "I2", f"{what} of {task} {inc} at {position}, but {self.given_up[key]} was adopted"
            )
        if position > self.visible_until.get(key, 0):
            self.visible_until[key] = position

    def _coverage(self, task: Task, inc: Inc, what: str) -> Coverage:
        coverage = self.coverages.get((task, inc))
        if coverage is None:
            raise ViolationError("I3", f"{what} of {task} {inc} before its START")
        return coverage

    def _on_lineage(self, log: Log, record: Record, meaning: Any) -> None:
        name = type(meaning).__name__
        if name == "Segment":
            coverage = self.coverages.get((meaning.task, meaning.incarnation))
            if coverage is not None:
                wrong = coverage.add(meaning.entries)
                if wrong is not None:
                    raise ViolationError("I3", f"{log}@{record.offset} {meaning.task} says {wrong}")
        elif name == "Result":
            self.answers[meaning.task, meaning.incarnation, meaning.call.name] = meaning.answer
        elif name == "Generation":
            self.generations.setdefault(log.partition, meaning.generation)
        elif name == "Claim":
            self.claims[log.partition] = (self.generations.get(log.partition, 0), record.offset)
        elif name == "Start":
            self._on_start(log.partition, meaning)
        elif (
            name == "Checkpoint"
            and self._is_of_this_life(log.partition, meaning.incarnation)
            and self.claims[log.partition] <= meaning.incarnation
        ):
            self._on_checkpoint(log, record, meaning)

    def _is_of_this_life(self, group: int, inc: Inc) -> bool:
        return inc[0] == self.generations.get(group)

    def _on_start(self, group: int, start: Any) -> None:
        inc, parent = start.incarnation, start.parent
        tasks = {
            stage: (t.base, t.adopted, t.logs or len(self.stages[stage].inputs) > 1)
            for stage, t in start.tasks.items()
        }
        if (group, inc) in self.starts:
            return
        self.starts[group, inc] = StartInfo(inc, parent, tasks)
        # That of a zombie of before a reset counts for nobody (H46). It may have scanned topics
        # that were made anew meanwhile, and so say anything.
        is_void = not self._is_of_this_life(group, inc)
        for stage, (base, adopted, logs) in tasks.items():
            task = stage, group
            if parent is None:
                if (adopted or base) and not is_void:
                    raise ViolationError("I1", f"first START of {task} adopts [{base}, {adopted})")
            else:
                if parent >= inc:
                    raise ViolationError("I1", f"START of {inc} with parent {parent}")
                before = self.coverages[task, parent]
                if before.advance() < adopted and not is_void:
                    raise ViolationError(
                        "I3", f"{task} {inc} adopts {adopted} of {parent}, covered: {before.end}"
                    )
                if not is_void and self.claims[group] <= inc:
                    seen = self.visible_until.get((task, parent), 0)
                    if adopted < seen:
                        raise ViolationError(
                            "I2", f"{task} {inc} adopts {adopted} of {parent}, visible: {seen}"
                        )
                    self.given_up[task, parent] = adopted
            # The history is filled as the replay goes on; its first `adopted` events are durable.
            history = self.histories.get((task, inc))
            if history is None:
                history = self.histories[task, inc] = []
            free = [] if logs else [(0, UNBOUNDED)]
            prefix = [] if parent is None else self.coverages[task, parent].whole()[:adopted]
            self.coverages[task, inc] = Coverage(history, adopted, free=free, prefix=prefix)
            self.visible_until[task, inc] = adopted if parent is not None else 0

    def _on_checkpoint(self, log: Log, record: Record, meaning: Any) -> None:
        if missing := self._missing_files(meaning):
            raise ViolationError("I7", f"{log}@{record.offset} names what is gone: {missing}")
        stage = self.stages[meaning.task[0]]
        visible: dict[tuple[int, int], int] = {}
        for o, output in enumerate(stage.outputs):
            for p in range(self.groups):
                if output.kind == INTERNAL:
                    seen = self.readers[output.topic, p].last.get(meaning.task, 0)
                else:
                    seen = self._committed(output.topic, p, meaning.task)
                visible[o, p] = seen
        state, history = record.headers
        self.checkpoints[log.key, record.offset] = CheckpointInfo(meaning, state, history, visible)

    def check_files(self, task: Task) -> None:
        """The two newest remote checkpoints that count have their files, after a deletion (I7)."""
        newest = {
            info.record.position: info.record
            for _, info in sorted(self.checkpoints.items(), key=lambda item: item[0])
            if info.record.task == task and info.record.is_remote
        }
        for position in sorted(newest)[-2:]:
            label, missing = newest[position].label, self._missing_files(newest[position])
            if missing and (task, label) not in self.damaged:
                raise ViolationError("I7", f"{label} of {task} needs what is gone: {missing}")

    def _missing_files(self, checkpoint: Any) -> list[str]:
        named = {entry.uri for entry in checkpoint.files}
        return sorted(named - self.store)

    def _committed(self, topic: str, p: int, task: Task) -> int:
        """Count committed outputs, also those after another open transaction."""
        log = self.cluster.log(topic, p)
        position = self.plain[topic, p].position
        found = len(self.plain[topic, p].by_task.get(task, ()))
        for record in log.records:
            if record.offset >= position and record.meaning[1] == task:
                transaction = record.transaction
                if transaction is not None and transaction.state == COMMITTED:
                    found += record.meaning[4]
        return found

    def on_end(self, transaction: Transaction) -> None:
        """A transaction was committed or aborted."""
        if transaction.state == COMMITTED:
            for log, record in transaction.records:
                _, task, inc, _, _, position, _, _, _ = record.meaning
                coverage = self._coverage(task, inc, f"commit on {log}")
                self._covered(coverage, task, inc, position, f"commit of {log}@{record.offset}")
        for log in transaction.logs:
            reader = self.plain[log.key]
            found, reader.position = log.fetch(reader.position, 1 << 30, committed=True)
            for record in found:
                task, first, values = record.meaning[1], record.meaning[3], record.meaning[7]
                seen = reader.by_task.setdefault(task, [])
                if first != len(seen) + 1:
                    raise ViolationError(
                        "I11", f"{log}@{record.offset} of {task}: {first} after {len(seen)}"
                    )
                seen.extend(values)

    def on_position(self, task: Task, inc: Inc, position: int) -> None:
        """A committed position of a task became durable."""
        coverage = self.coverages.get((task, inc))
        if coverage is None or not position:
            return
        self._covered(coverage, task, inc, position, "committed position")
        stage = self.stages[task[0]]
        for o, output in enumerate(stage.outputs):
            if output.kind != INTERNAL:
                for p in range(self.groups):
                    seen = self._committed(output.topic, p, task)
                    self.positions.setdefault(task, []).append((position, (o, p), seen))

    def on_effect(self, task: Task, position: int, event: Event) -> None:
        """Something left for the outside because of an event, which nobody takes back (I13)."""
        before = self.effects.setdefault((task, position), event)
        if before != event:
            raise ViolationError(
                "I13", f"{task} event {position} was {before} for the outside, now {event}"
            )

    def on_suppressed(
        self, topic: str, partition: int, task: Task, seq: int, values: tuple[Value, ...]
    ) -> None:
        """A replay suppressed outputs from `seq` on (I9)."""
        if self.kinds[topic] == TRANSACTIONAL:
            stored = self.plain[topic, partition].by_task.get(task, [])
            # After another open transaction the plain reader sees less than is committed.
            values = values[: max(0, len(stored) - (seq - 1))]
        else:
            stored = self.readers[topic, partition].by_task.get(task, [])
        if tuple(stored[seq - 1 : seq - 1 + len(values)]) != values:
            raise ViolationError(
                "I9", f"{topic}[{partition}] {task} {seq}: {values}, stored {stored[seq - 1 :]}"
            )
        self.suppressed += 1
