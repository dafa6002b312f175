"""One task group on this worker: recovery, then its tasks' life until it is given up.

Everything is driven by `tick`; nothing here waits. The order within a tick: what has arrived, then
replay, then commits, checkpoints and hints, so that a step sees all that came before it.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from typing import Any

import structlog

from kstash.core.group import GroupState
from kstash.core.ids import NO_INCARNATION, Incarnation, TaskId
from kstash.core.reader import ReaderTable
from kstash.core.records import Release
from kstash.core.recovery import TaskPlan
from kstash.core.sink import SinkCommitter
from kstash.core.task import Outgoing, TaskCore
from kstash.failpoints import around
from kstash.ports import Message, Partition, SinkProducer, TaskState
from kstash.runtime.bounded import RunEnd, before_end
from kstash.runtime.checkpoints import Checkpoints
from kstash.runtime.context import Context
from kstash.runtime.emit import Emitter, Target
from kstash.runtime.hints import Hints
from kstash.runtime.lineage import LineageWriter
from kstash.runtime.recovery import Recovery
from kstash.runtime.sinks import Sinks
from kstash.runtime.stateless import NoState
from kstash.runtime.tails import fresh_plans
from kstash.runtime.task import REPLAY_SLICE_EVENTS, Task, TaskInput
from kstash.runtime.trim import Trimmer
from kstash.runtime.waits import Waits
from kstash.topology import Stage

BUFFER_HIGH, BUFFER_LOW = 10_000, 1_000
"""Records buffered for one input during a replay above which it is paused, and resumed below."""

log = structlog.get_logger("kstash.group")


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
        self.lineage = LineageWriter(context, number, self._send)
        self.sinks: Sinks | None = None
        self.recovery: Recovery | None = None
        self._targets: dict[Partition, tuple[Task, int]] = {}
        self._paused: set[Partition] = set()
        self._waits = Waits(context.clock.monotonic())
        self._checkpoints = Checkpoints(context, number, self.lineage)
        self._hints = Hints(context, self.lineage, self.tasks)
        self._run_end: RunEnd | None = None
        self.trimmer: Trimmer | None = None
        self._sink_producers: list[SinkProducer] = []
        if context.has_lineage and context.layout.has_sinks(number):
            self._sink_producers = [context.cluster.sink_producer(number, s) for s in (0, 1)]
        if context.has_recovery:
            self.recovery = Recovery(
                context,
                number,
                self._sink_producers,
                on_recover=self._open,
                before_start=before_start,
            )
        else:
            self._open(fresh_plans(context, number))

    # -- opening the tasks -----------------------------------------------------------------------

    @property
    def incarnation(self) -> Incarnation:
        """Own incarnation; `NO_INCARNATION` where nothing is claimed."""
        return self.recovery.core.incarnation if self.recovery is not None else NO_INCARNATION

    @property
    def _writer(self) -> Incarnation:
        """What outputs are signed with: readers drop nothing of the guarantees without fences."""
        return self.incarnation if self.context.has_lineage else NO_INCARNATION

    def _open(self, plans: dict[TaskId, TaskPlan]) -> None:
        context = self.context
        if self.recovery is not None:
            bases = [plan.base for plan in plans.values()]
            self.trimmer = Trimmer(context, self.lineage, self.recovery.core, self.tasks, bases)
            self.lineage.on_segment = self.trimmer.add_segment
        for stage in context.layout.stages_of(self.number):
            plan = plans[TaskId(stage.index, self.number)]
            task = self.tasks[stage.index] = self._open_task(stage, plan)
            self._checkpoints.add(task, plan.base, self.recovery)
            # Lineage that only headers held goes to the topic before any new output (H29).
            self.lineage.flush(task)
        if self._sink_producers:
            committed = {
                stage: plans[task.core.task].committed
                for stage, task in self.tasks.items()
                if any(not target.is_internal for target in task.targets)
            }
            committer = SinkCommitter(self.incarnation.generation, committed)
            self.sinks = Sinks(context, self._sink_producers, committer, self.tasks)
        if self.run is not None:
            self._run_end = RunEnd(context, self.run, self._writer, self.tasks)
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
        skips = layout.skips_of(self.number, context.config.skipped_records())
        if self.recovery is not None and self.recovery.start is not None:
            initial = self.recovery.start.tasks[stage.index].initial_offsets
            skips = frozenset(self.recovery.start.skips)
        inputs = {}
        for index, partition in layout.inputs_of(stage, self.number).items():
            source = stage.inputs[index]
            table = None
            if source.internal or source.immediate_of is not None:
                table = plan.readers.get(index) or ReaderTable(is_internal=source.internal)
            offset = plan.input_offsets.get(index, initial.get(index, 0))
            skipped = frozenset(o for s, i, o in skips if (s, i) == (stage.index, index))
            inputs[index] = TaskInput(partition, source.internal, offset, table, skipped)
        core = TaskCore(
            plan.task,
            self.incarnation,
            implicit=len(inputs) == 1,
            position=plan.position,
            adopted=plan.adopted,
            stable=plan.stable,
            lineage=plan.lineage,
            sequences=plan.sequences,
            # Without transactions there is no commit to wait for: acknowledged is done.
            sinks=frozenset(
                i for i, o in enumerate(stage.outputs) if context.has_lineage and not o.internal
            ),
            transactional=frozenset(i for i, o in enumerate(stage.outputs) if o.is_transactional),
            header_bytes_max=context.header_bytes_max,
            is_logging=context.has_lineage,
        )
        core.inherit_scan_from(plan.scan_from)
        targets = [Target.of(output, context) for output in stage.outputs]
        task = Task(
            name=name,
            stage=stage,
            plan=plan,
            core=core,
            incarnation=self.incarnation,
            inputs=inputs,
            state=self._open_state(stage, plan) if stage.stores else NoState(),
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

    def _open_state(self, stage: Stage, plan: TaskPlan) -> TaskState:
        return self.context.state.open(
            *(stage.name, self.number, stage.stores), base=plan.base_label, fresh=plan.fresh_stores
        )

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
        if self.recovery is not None and self.phase is Phase.RECOVERING:
            self.recovery.pump()
            if self.tasks:
                self._replay()
            self._waits.look(now, self.recovery, self.tasks)
        if self.sinks is not None:
            self.sinks.tick(now, is_draining=self.phase is Phase.DRAINING)
        else:
            for producer in self._sink_producers:
                producer.poll()
        if self.phase is Phase.LIVE:
            if self.context.has_recovery:
                self._checkpoints.tick(now, may_publish=self._may_publish)
            if self.context.has_lineage:
                self._hints.tick(now)
            if self.trimmer is not None:
                self.trimmer.tick(now, may_publish=self._may_publish)
            if self._run_end is not None:
                self._run_end.tick()
        elif self.phase is Phase.DRAINING:
            self._drain()

    def deliver(self, task: Task, input_index: int, messages: list[Any]) -> None:
        """Give consumed records to a task."""
        if self.phase is Phase.RECOVERING:
            task.offer(input_index, messages)
            return
        if self.phase is not Phase.LIVE:
            return  # draining: what comes now is for the next owner
        if self.context.run_ends:
            partition = task.inputs[input_index].partition
            messages = list(before_end(self.context.run_ends, partition, messages))
            if not messages:
                return
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
        self.lineage.flush(task)

    def see_lineage(self, messages: list[Message]) -> None:
        """Take records from the tail of the lineage partition into account.

        Raises:
            IncarnationFencedError: one of them is a higher CLAIM.
        """
        assert self.recovery is not None
        assert self.trimmer is not None
        for message in messages:
            record = self.trimmer.see(message)
            self.recovery.core.check_fenced()
            if record is not None:
                self._checkpoints.uploads.read_back(record)

    def _replay(self) -> None:
        for task in self.tasks.values():
            # Runs of a merge may be as short as one record: many of them make a slice.
            end = task.core.position + REPLAY_SLICE_EVENTS
            while task.is_replaying and task.core.position < end and task.replay_slice():
                pass
            self.lineage.flush(task)
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
            for source in task.inputs.values():
                # Only now: a replay needs what the lineage says, ends or not.
                source.buffer = deque(
                    before_end(self.context.run_ends, source.partition, source.buffer)
                )
            while task.drain_buffer():
                pass
            self.lineage.flush(task)
        self._tell_live()

    def _tell_live(self) -> None:
        """Say once where the time went."""
        metrics = self.context.metrics
        phases: dict[str, float] = {}
        if self.recovery is not None:
            self.recovery.charge("replay")  # with what had come meanwhile
            phases = {"detect": self.recovery.started - self.started, **self.recovery.phase_s}
        for phase, seconds in phases.items():
            metrics.observe("recovery_phase_seconds", seconds, phase=phase)
        now = self.context.clock.monotonic()
        metrics.observe("recovery_seconds", now - self.started)
        metrics.count("recoveries")
        log.info(
            "task group live",
            group=self.number,
            incarnation=str(self.incarnation),
            replayed=sum(t.replayed for t in self.tasks.values()),
            suppressed=sum(t.suppressed for t in self.tasks.values()),
            seconds=round(now - self.started, 3),
            **{f"{phase}_ms": round(seconds * 1000) for phase, seconds in phases.items()},
        )

    # -- outputs ---------------------------------------------------------------------------------

    def _send(self, task: Task, outgoing: Outgoing) -> None:
        target = task.targets[outgoing.partition[0]]
        if self.sinks is not None and not target.is_internal:
            self.sinks.send(task, outgoing)
            return
        with around("frame.append" if target.is_internal else "sink.append"):
            task.emitter.produce(
                outgoing, target, self.context.producers.data.produce, task.on_delivery(outgoing)
            )

    @property
    def has_outstanding(self) -> bool:
        """Whether acknowledgements or a commit are awaited, so that the loop should look soon."""
        if self.lineage.has_unacked or self.phase is not Phase.LIVE:
            return True
        return self.sinks is not None and self.sinks.is_committing

    @property
    def sink_backlog(self) -> int:
        """Sink records not yet acknowledged, or queued behind a commit."""
        return self.sinks.backlog if self.sinks is not None else 0

    @property
    def _may_publish(self) -> bool:
        return self.sinks is None or not self.sinks.is_fresh

    # -- the end ---------------------------------------------------------------------------------

    @property
    def is_ended(self) -> bool:
        """Whether a bounded run is at its end here."""
        return self._run_end is not None and self._run_end.is_ended

    def begin_drain(self) -> None:
        """Take no more input; finish what was taken, checkpoint, release."""
        if self.phase in (Phase.RECOVERING, Phase.LIVE):
            if self.phase is Phase.RECOVERING or not self.context.has_recovery:
                self.phase = Phase.RELEASED  # nothing of its own to finish
                return
            self.phase = Phase.DRAINING
            self._stop_consuming()
            self._checkpoints.begin_drain()

    def _drain(self) -> None:
        if not self._checkpoints.drain(may_publish=self._may_publish):
            return
        self.phase = Phase.RELEASING
        positions = {stage: task.core.position for stage, task in self.tasks.items()}
        run = self.run if self.is_ended else None
        self.lineage.append(Release(self.incarnation, positions, run), self._released)

    def _released(self) -> None:
        self.phase = Phase.RELEASED

    def close(self) -> None:
        """Give the group up: stop consuming, drop the clients and the state."""
        self.lineage.close()
        self._checkpoints.uploads.close()
        if self.recovery is not None:
            self.recovery.cancel()
        self._stop_consuming()
        for producer in self._sink_producers:
            producer.close()
        for task in self.tasks.values():
            task.close()

    def _stop_consuming(self) -> None:
        for is_uncommitted in (False, True):
            partitions = [
                source.partition
                for task in self.tasks.values()
                for index, source in task.inputs.items()
                if (task.stage.inputs[index].immediate_of is not None) == is_uncommitted
            ]
            if partitions:
                self.context.consumer(is_uncommitted=is_uncommitted).remove(partitions)
