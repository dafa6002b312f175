"""One task group on this worker: recovery, then its tasks' life until it is given up.

Everything is driven by `tick`; nothing here waits. The order within a tick: what has arrived, then
replay, then lineage, commits, checkpoints and hints, so that a step sees all that came before it.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from kstash.core.group import GroupState
from kstash.core.ids import NO_INCARNATION, Incarnation, OutPartition, TaskId
from kstash.core.reader import ReaderTable
from kstash.core.records import Checkpoint, LineageRecord, Release, encode_key, encode_value
from kstash.core.recovery import TaskPlan
from kstash.core.sink import CommitState, SinkCommitter
from kstash.core.task import Outgoing, TaskCore
from kstash.core.wire import MARKER_HEADER, End, encode_marker
from kstash.ports import DeliveredMessage, Partition, SinkProducer
from kstash.runtime.context import Context
from kstash.runtime.emit import Emitter, Target
from kstash.runtime.recovery import Recovery
from kstash.runtime.task import Task, TaskInput
from kstash.topology import Stage

HINT_INTERVAL_S = 1.0
"""A HINT at most once a second (protocol, section 4)."""

POSITIONS_REFRESH_S = 24 * 3600.0
"""Offsets of an idle group expire after seven days: refresh them daily (H33)."""

BUFFER_HIGH, BUFFER_LOW = 10_000, 1_000
"""Records buffered for one input during a replay above which it is paused, and resumed below."""

log = structlog.get_logger("kstash.group")


_IdleQuestion = tuple[
    Callable[[], dict[Partition, int] | None],
    dict[Partition, list[tuple[Task, OutPartition, int]]],
]


class Phase(enum.Enum):
    """Life of a group on this worker."""

    RECOVERING = "recovering"
    LIVE = "live"
    DRAINING = "draining"
    RELEASING = "releasing"
    RELEASED = "released"


class TaskGroup:
    """One incarnation (or attempt at one) of a task group.

    Attributes:
        tasks: by stage index, once recovery has planned them.
        run: id of the bounded run that ends here, set by the worker before START.
    """

    def __init__(
        self,
        context: Context,
        number: int,
        *,
        before_start: Callable[[Recovery, Callable[[], None]], None],
        started: float,
    ) -> None:
        self.context = context
        self.number = number
        self.phase = Phase.RECOVERING
        self.tasks: dict[int, Task] = {}
        self.run: int | None = None
        self.started = started
        self.is_ended = False
        self._is_alive = True
        self._targets: dict[Partition, tuple[Task, int]] = {}
        self._failure: Exception | None = None
        self._lineage_sent: deque[tuple[float, int, int]] = deque()
        self.lineage_bytes = 0
        self._sink: SinkProducer | None = None
        self._committer: SinkCommitter | None = None
        self._queue: deque[tuple[Task, Outgoing]] = deque()
        self.queued_records = 0
        self._paused: set[Partition] = set()
        now = context.clock.monotonic()
        self._commit_due = self._hint_due = now
        self._refresh_due = now + POSITIONS_REFRESH_S
        self._checkpoint_due: dict[int, float] = {}
        self._checkpoint_lineage: dict[int, int] = {}
        self._published: dict[int, Checkpoint] = {}
        self._idle: _IdleQuestion | None = None
        self._ends_sent: set[int] = set()
        self._ends_missing = 0
        self.recovery: Recovery | None = None
        if context.has_lineage and context.layout.has_sinks(number):
            self._sink = context.cluster.sink_producer(number)
        if context.has_recovery:
            self.recovery = Recovery(
                context, number, self._sink, on_recover=self._open, before_start=before_start
            )
        else:
            self._open(self._fresh_plans())

    # -- opening the tasks -----------------------------------------------------------------------

    @property
    def incarnation(self) -> Incarnation:
        """Own incarnation; `NO_INCARNATION` where nothing is claimed."""
        return self.recovery.core.incarnation if self.recovery is not None else NO_INCARNATION

    @property
    def _writer(self) -> Incarnation:
        """What outputs are signed with: readers drop nothing of the guarantees without fences."""
        return self.incarnation if self.context.has_lineage else NO_INCARNATION

    def _fresh_plans(self) -> dict[TaskId, TaskPlan]:
        """Plans for the guarantee `none`: empty state, inputs from where new ones start."""
        plans = {}
        context = self.context
        earliest = context.config.auto_offset_reset == "earliest"
        look_up = context.admin.start_offsets if earliest else context.admin.end_offsets
        for stage in context.layout.stages_of(self.number):
            task = TaskId(stage.index, self.number)
            inputs = context.layout.inputs_of(stage, self.number)
            known = look_up(list(inputs.values()))
            offsets = {index: known[partition] for index, partition in inputs.items()}
            plans[task] = TaskPlan(task, None, 0, 0, 0, (), (), {}, {}, 0, offsets, {}, {})
        return plans

    def _open(self, plans: dict[TaskId, TaskPlan]) -> None:
        context = self.context
        now = context.clock.monotonic()
        interval = context.config.checkpoint_interval_ms / 1000
        for stage in context.layout.stages_of(self.number):
            plan = plans[TaskId(stage.index, self.number)]
            task = self._open_task(stage, plan)
            self.tasks[stage.index] = task
            # Spread over the interval, so that tasks do not all checkpoint at once.
            share = (self.number * 7 + stage.index * 3) % 10 / 20
            self._checkpoint_due[stage.index] = now + interval * (0.5 + share)
            self._checkpoint_lineage[stage.index] = 0
            if plan.base is not None:
                self._published[stage.index] = plan.base
            # Lineage that only headers held goes to the topic before any new output (H29).
            self._flush_lineage(task)
        if self._sink is not None:
            sinks = {
                stage: task
                for stage, task in self.tasks.items()
                if any(not target.is_internal for target in task.targets)
            }
            committed = {s: plans[t.core.task].committed for s, t in sinks.items()}
            self._committer = SinkCommitter(self.incarnation.generation, committed)
        if self.recovery is not None:
            context.member.follow(self.number, self.recovery.core.view.next_offset)
        self._consume()
        if self.recovery is None:
            self._go_live()

    def _open_task(self, stage: Stage, plan: TaskPlan) -> Task:
        context = self.context
        layout = context.layout
        name = f"{stage.name}_{self.number}"
        initial = {}
        if self.recovery is not None and self.recovery.start is not None:
            initial = self.recovery.start.tasks[stage.index].initial_offsets
        inputs = {}
        for index, partition in layout.inputs_of(stage, self.number).items():
            source = stage.inputs[index]
            table = None
            if source.internal or source.immediate_of is not None:
                table = plan.readers.get(index) or ReaderTable(is_internal=source.internal)
            offset = plan.input_offsets.get(index, initial.get(index, 0))
            inputs[index] = TaskInput(partition, source.internal, offset, table)
        core = TaskCore(
            plan.task,
            self.incarnation,
            implicit=len(inputs) == 1,
            position=plan.position,
            adopted=plan.adopted,
            stable=plan.stable,
            lineage=plan.lineage,
            sequences=plan.sequences,
            sinks=frozenset(i for i, o in enumerate(stage.outputs) if not o.internal),
            header_bytes_max=context.header_bytes_max,
            is_logging=context.has_lineage,
        )
        core.inherit_scan_from(plan.scan_from)
        targets = [
            Target(o.topic, context.partitioners[o.topic], o.internal, o.value is not None)
            for o in stage.outputs
        ]
        base = plan.base.label if plan.base is not None else None
        task = Task(
            name=name,
            stage=stage,
            plan=plan,
            core=core,
            incarnation=self.incarnation,
            inputs=inputs,
            state=context.state.open(stage.name, self.number, stage.stores, base=base),
            targets=targets,
            emitter=Emitter(
                context.application, plan.task, self._writer, context.config.frame_bytes_max
            ),
            stored=self.recovery.stored.get(plan.task, {}) if self.recovery is not None else {},
            send=self._send,
        )
        for index, task_input in inputs.items():
            self._targets[task_input.partition] = (task, index)
        if plan.adopted > plan.position:
            log.info(
                "replaying", task=name, events=plan.adopted - plan.position, base=plan.position
            )
        return task

    def _consume(self) -> None:
        offsets: dict[bool, dict[Partition, int]] = {False: {}, True: {}}
        for task in self.tasks.values():
            for index, source in task.inputs.items():
                is_uncommitted = task.stage.inputs[index].immediate_of is not None
                offsets[is_uncommitted][source.partition] = source.next_offset
        for is_uncommitted, wanted in offsets.items():
            if wanted:
                self.context.consumer(is_uncommitted=is_uncommitted).add(wanted)

    def inputs(self) -> dict[Partition, tuple[Task, int]]:
        """Input partitions of the group's tasks, as (task, input index)."""
        return self._targets

    # -- one turn --------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Do what is due.

        Raises:
            IncarnationFencedError, ProducerFailedError: this incarnation is over; begin anew.
            KstashError: the worker must stop.
        """
        if self._failure is not None:
            raise self._failure
        if self.recovery is not None and self.phase is Phase.RECOVERING:
            self.recovery.pump()
            if self.tasks:
                self._replay()
        if self._sink is not None:
            self._sink.poll()
            self._commit(now)
        if self.phase is Phase.LIVE:
            if self.context.has_recovery:
                self._checkpoint(now)
            if self.context.has_lineage and now >= self._hint_due:
                self._hint_due = now + HINT_INTERVAL_S
                self._hint()
            self._take_idle_ends()
            if self.run is not None:
                self._end_run()
        elif self.phase is Phase.DRAINING:
            self._drain()

    def deliver(self, task: Task, input_index: int, messages: list[Any]) -> None:
        """Give consumed records to a task."""
        if self.phase is Phase.RECOVERING:
            task.offer(input_index, messages)
            return
        if self.phase is not Phase.LIVE:
            return  # draining: what comes now is for the next owner
        clock = self.context.clock
        started = clock.monotonic()
        if task.inputs[input_index].buffer:
            task.offer(input_index, messages)
            while task.drain_buffer():
                pass
        else:
            task.process(input_index, messages)
        metrics = self.context.metrics
        stage = task.stage.name
        metrics.observe("process_seconds", clock.monotonic() - started, stage=stage)
        if task.newest_timestamp:
            age_ms = max(0, clock.time_ms() - task.newest_timestamp)
            metrics.observe("end_to_end_seconds", age_ms / 1000, stage=stage)
        self._flush_lineage(task)

    def see_claim(self, offset: int) -> None:
        """The tail of the lineage partition shows a CLAIM."""
        assert self.recovery is not None
        view = self.recovery.core.view
        view.claim = max(view.claim, offset)
        self.recovery.core.check_fenced()

    def _replay(self) -> None:
        for task in self.tasks.values():
            if task.is_replaying:
                task.replay_slice()
            self._flush_lineage(task)
        self._balance_buffers()
        if not any(task.is_replaying for task in self.tasks.values()):
            assert self.recovery is not None
            if self.recovery.state is GroupState.REPLAYING:
                self.recovery.replayed()
                self.recovery.pump()
                self._go_live()

    def _balance_buffers(self) -> None:
        """Pause inputs that run ahead of a replay, and resume them when it catches up."""
        for task in self.tasks.values():
            wanted = task.wanted_input()
            for index, source in task.inputs.items():
                if source.table is not None and not source.is_internal:
                    continue  # the uncommitted consumer knows no pause; its buffers may grow
                waiting = len(source.buffer)
                if source.partition in self._paused:
                    if waiting < BUFFER_LOW or wanted == index:
                        self._paused.discard(source.partition)
                        self.context.member.resume([source.partition])
                elif waiting > BUFFER_HIGH and wanted != index:
                    self._paused.add(source.partition)
                    self.context.member.pause([source.partition])

    def _go_live(self) -> None:
        self.phase = Phase.LIVE
        if self._paused:
            self.context.member.resume(sorted(self._paused))
            self._paused.clear()
        for task in self.tasks.values():
            while task.drain_buffer():
                pass
            self._flush_lineage(task)
        now = self.context.clock.monotonic()
        self.context.metrics.observe("recovery_seconds", now - self.started)
        self.context.metrics.count("recoveries")
        log.info(
            "task group live",
            group=self.number,
            incarnation=str(self.incarnation),
            replayed=sum(t.replayed for t in self.tasks.values()),
            suppressed=sum(t.suppressed for t in self.tasks.values()),
            seconds=round(now - self.started, 3),
        )

    # -- outputs and lineage ---------------------------------------------------------------------

    def _send(self, task: Task, outgoing: Outgoing) -> None:
        target = task.targets[outgoing.partition[0]]
        if target.is_internal or self._sink is None:
            produce = self.context.producers.data.produce
        else:
            assert self._committer is not None
            stage = task.stage.index
            if not self._committer.admits(stage, outgoing.position):
                self._queue.append((task, outgoing))
                self.queued_records += outgoing.count
                return
            self._committer.on_sent(stage, outgoing.position)
            produce = self._sink.produce
        task.emitter.produce(outgoing, target, produce, task.on_delivery(outgoing))

    def _flush_lineage(self, task: Task) -> None:
        if not self.context.has_lineage:
            return
        for segment in task.core.take_segments():
            value = encode_value(segment)
            self.lineage_bytes += len(value)
            self._checkpoint_lineage[task.stage.index] += len(value)
            now = self.context.clock.monotonic()
            self._lineage_sent.append((now, len(segment.entries), len(value)))
            self.context.metrics.count("lineage_appended_entries", len(segment.entries))
            self.context.metrics.count("lineage_appended_bytes", len(value))
            self.context.producers.lineage.produce(
                self.context.lineage_topic,
                value,
                encode_key(segment),
                self.number,
                partial(self._segment_acked, task, segment.end),
                self.context.clock.time_ms(),
                None,
            )

    def _segment_acked(self, task: Task, end: int, error: Any, *_: Any) -> None:
        if error is not None or not self._is_alive:
            return  # the producer's own poll reports the failure
        sent, entries, size = self._lineage_sent.popleft()
        self.lineage_bytes -= size
        self.context.metrics.count("lineage_acked_entries", entries)
        self.context.metrics.count("lineage_acked_bytes", size)
        self.context.metrics.observe("lineage_ack_seconds", self.context.clock.monotonic() - sent)
        for outgoing in task.core.on_segment_acked(end):
            self._send(task, outgoing)

    def oldest_lineage_age(self, now: float) -> float:
        """Seconds since the oldest unacknowledged segment was handed over; 0 when none is."""
        return now - self._lineage_sent[0][0] if self._lineage_sent else 0.0

    @property
    def unacked_entries(self) -> int:
        """Determinants handed to the lineage topic and not acknowledged."""
        return sum(entry[1] for entry in self._lineage_sent)

    def _append(self, record: LineageRecord, on_acked: Callable[[int], None]) -> None:
        def delivered(error: Any, message: DeliveredMessage) -> None:
            if self._is_alive and error is None:
                on_acked(message.offset())

        self.context.producers.lineage.produce(
            self.context.lineage_topic,
            encode_value(record),
            encode_key(record),
            self.number,
            delivered,
            self.context.clock.time_ms(),
            None,
        )

    # -- sinks -----------------------------------------------------------------------------------

    def _commit(self, now: float) -> None:
        committer = self._committer
        if committer is None or self._sink is None:
            return
        if now >= self._refresh_due:
            self._refresh_due = now + POSITIONS_REFRESH_S
            committer.refresh()
        if committer.is_due and (now >= self._commit_due or self.phase is Phase.DRAINING):
            self._commit_due = now + self.context.config.sink_commit_interval_ms / 1000
            committer.close()
        if committer.state is CommitState.CLOSING:
            cores = {stage: task.core for stage, task in self.tasks.items()}
            if committer.is_stable(cores):
                self._sink.commit(committer.commit(), self._committed)

    def _committed(self, error: Exception | None) -> None:
        if not self._is_alive:
            return
        if error is not None:
            self._failure = error
            return
        assert self._committer is not None
        for stage, position in self._committer.on_committed().items():
            self.tasks[stage].core.on_committed(position)
        self.context.metrics.count("commits")
        queue, self._queue = self._queue, deque()
        self.queued_records = 0
        for task, outgoing in queue:
            self._send(task, outgoing)

    @property
    def has_outstanding(self) -> bool:
        """Whether acknowledgements or a commit are awaited, so that the loop should look soon."""
        if self._lineage_sent or self.phase is not Phase.LIVE:
            return True
        return self._committer is not None and self._committer.state is not CommitState.OPEN

    @property
    def sink_backlog(self) -> int:
        """Sink records not yet acknowledged, or queued behind a commit."""
        return self.queued_records + (len(self._sink) if self._sink is not None else 0)

    # -- checkpoints and hints -------------------------------------------------------------------

    def _checkpoint(self, now: float) -> None:
        config = self.context.config
        for stage, task in self.tasks.items():
            if task.pending is None and self._is_checkpoint_due(task, now):
                self._checkpoint_due[stage] = now + config.checkpoint_interval_ms / 1000
                self._checkpoint_lineage[stage] = 0
                self._freeze(task)
            self._publish(task)

    def _is_checkpoint_due(self, task: Task, now: float) -> bool:
        config = self.context.config
        stage = task.stage.index
        events = task.core.position - task.checkpointed_position
        if not events:
            return False
        return (
            now >= self._checkpoint_due[stage]
            or events >= config.checkpoint_events_max
            or self._checkpoint_lineage[stage] >= config.checkpoint_lineage_bytes_max
        )

    def _freeze(self, task: Task) -> None:
        started = self.context.clock.monotonic()
        task.freeze()
        self.context.metrics.observe("checkpoint_seconds", self.context.clock.monotonic() - started)

    def _publish(self, task: Task) -> None:
        if self._committer is not None and self._committer.is_fresh:
            return  # the first checkpoint waits for the first committed position (H33)
        record = task.publishable()
        if record is not None:
            task.pending = None
            task.publishing = record
            self._append(record, partial(self._checkpoint_published, task, record))

    def _checkpoint_published(self, task: Task, record: Checkpoint, _: int) -> None:
        stage = task.stage
        previous = self._published.get(stage.index)
        self._published[stage.index] = record
        task.publishing = None
        labels = {record.label}
        if previous is not None:
            labels.add(previous.label)
        if task.pending is not None:
            labels.add(task.pending.label)
        self.context.state.retain(stage.name, self.number, labels)
        self.context.metrics.count("checkpoints")
        self.context.metrics.count("checkpoint_bytes", sum(file.size for file in record.files))

    def _hint(self) -> None:
        """Append hints, and ask where the outputs end that tasks have nothing unstable in (H40)."""
        for task in self.tasks.values():
            hint = task.core.take_hint()
            if hint is not None:
                self._append(hint, lambda _: None)
        if self._idle is not None:
            return  # the last answer is not there yet
        asked: dict[Partition, list[tuple[Task, OutPartition, int]]] = {}
        for task in self.tasks.values():
            for internal in (True, False):
                for out in self.context.layout.output_partitions(task.stage, internal=internal):
                    if task.core.is_idle_at(out):
                        partition = self.context.layout.kafka_partition(task.stage, out)
                        next_sequence = task.core.next_sequence(out)
                        asked.setdefault(partition, []).append((task, out, next_sequence))
        if asked:
            self._idle = self.context.admin.ask_end_offsets(list(asked)), asked

    def _take_idle_ends(self) -> None:
        if self._idle is None:
            return
        answer, asked = self._idle
        ends = answer()
        if ends is None:
            return
        self._idle = None
        for partition, end in ends.items():
            for task, out, next_sequence in asked[partition]:
                # Void when an output went out after the question.
                if task.core.next_sequence(out) == next_sequence:
                    task.core.on_idle_end(out, end)

    # -- the end ---------------------------------------------------------------------------------

    def _end_run(self) -> None:
        """Append END behind the outputs of each task whose inputs are at their ends."""
        assert self.run is not None
        for stage, task in self.tasks.items():
            if stage in self._ends_sent or not self._is_at_end(task):
                continue
            if not task.core.may_publish_checkpoint(task.core.position):
                continue  # a successor must not find another history behind a counted END
            self._ends_sent.add(stage)
            self._append_ends(task)
        if len(self._ends_sent) == len(self.tasks) and not self._ends_missing:
            self.is_ended = True

    def _is_at_end(self, task: Task) -> bool:
        for index, source in task.inputs.items():
            if source.is_internal:
                assert source.table is not None
                for writer in self.context.layout.writers_of(source.partition[0]):
                    if source.table.ends.get((self.context.application, writer)) != self.run:
                        return False
            else:
                is_uncommitted = task.stage.inputs[index].immediate_of is not None
                consumer = self.context.consumer(is_uncommitted=is_uncommitted)
                reached = max(consumer.position(source.partition), source.next_offset)
                if reached < self.context.run_ends.get(source.partition, 0):
                    return False
        return True

    def _append_ends(self, task: Task) -> None:
        assert self.run is not None
        sequences = task.core.sequences()
        for out in self.context.layout.output_partitions(task.stage, internal=True):
            marker = End(
                self.context.application,
                self.run,
                task.core.task,
                self._writer,
                sequences.get(out, 0),
            )
            topic, partition = self.context.layout.kafka_partition(task.stage, out)
            self._ends_missing += 1
            self.context.producers.data.produce(
                topic,
                None,
                None,
                partition,
                self._end_acked,
                self.context.clock.time_ms(),
                [(MARKER_HEADER, encode_marker(marker))],
            )

    def _end_acked(self, error: Any, _: DeliveredMessage) -> None:
        if error is None:
            self._ends_missing -= 1

    def begin_drain(self) -> None:
        """Take no more input; finish what was taken, checkpoint, release."""
        if self.phase in (Phase.RECOVERING, Phase.LIVE):
            if self.phase is Phase.RECOVERING or not self.context.has_recovery:
                self.phase = Phase.RELEASED  # nothing of its own to finish
                return
            self.phase = Phase.DRAINING
            for task in self.tasks.values():
                is_new = task.core.position > task.checkpointed_position
                if task.pending is None and (is_new or task.stage.index not in self._published):
                    self._freeze(task)

    def _drain(self) -> None:
        for task in self.tasks.values():
            if task.pending is None and task.core.position > task.checkpointed_position:
                self._freeze(task)  # one frozen before the drain began was of an older position
            self._publish(task)
        if any(t.pending is not None or t.publishing is not None for t in self.tasks.values()):
            return
        self.phase = Phase.RELEASING
        assert self.recovery is not None
        positions = {stage: task.core.position for stage, task in self.tasks.items()}
        release = Release(
            self.recovery.core.incarnation, positions, self.run if self.is_ended else None
        )
        self._append(release, self._released)

    def _released(self, _: int) -> None:
        self.phase = Phase.RELEASED

    def close(self) -> None:
        """Give the group up: stop consuming, drop the clients and the state."""
        self._is_alive = False
        if self.recovery is not None:
            self.recovery.cancel()
        for is_uncommitted in (False, True):
            partitions = [
                source.partition
                for task in self.tasks.values()
                for index, source in task.inputs.items()
                if (task.stage.inputs[index].immediate_of is not None) == is_uncommitted
            ]
            if partitions:
                self.context.consumer(is_uncommitted=is_uncommitted).remove(partitions)
        if self._sink is not None:
            self._sink.close()
        for task in self.tasks.values():
            task.close()
