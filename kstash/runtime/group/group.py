"""One task group on this worker: recovery, then its tasks' life until it is given up.

Everything is driven by `tick`; nothing here waits. The order within a tick: what has arrived, then
replay, then commits, checkpoints and hints, so that a step sees all that came before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import structlog

from kstash.core.group_state import GroupState
from kstash.core.ids import NO_INCARNATION, Incarnation, TaskId
from kstash.core.plan import TaskPlan
from kstash.core.records import Release, Segment
from kstash.ports.kafka import Message, Partition
from kstash.runtime.context import RuntimeContext
from kstash.runtime.group import wiring
from kstash.runtime.group.batches import Batches
from kstash.runtime.group.hints import Hints
from kstash.runtime.group.inputs import GroupInputs
from kstash.runtime.group.phase import Phase
from kstash.runtime.group.recovered import report_live
from kstash.runtime.group.run_end import RunEnd, before_end, keep_before_end
from kstash.runtime.group.sinks import Sinks
from kstash.runtime.group.ticks import GroupTicks
from kstash.runtime.group.trim import Trimmer
from kstash.runtime.recovery.attempt import RecoveryAttempt
from kstash.runtime.recovery.first_offsets import fresh_plans
from kstash.runtime.recovery.watchdog import Watchdog
from kstash.runtime.task.task import Task

IDLE_TICK_S = 1.0
"""How often a group gets its turn at least: what comes from outside, a fence, shows then."""

log = structlog.get_logger("kstash.group")


class TaskGroup:
    """One incarnation (or attempt at one) of a task group.

    Attributes:
        context: of the worker.
        number: of the group, which is that of its partitions.
        phase: goes on only; a group that starts over is another object.
        tasks: by stage index, once recovery has planned them: all, or none before.
        run: id of the bounded run that ends here; None: no such run is known. Fixed at START.
        started: monotonic seconds since when the group has been waiting.
        wakes_at: monotonic time before which a tick would do nothing, if nothing comes.
        lineage: writes to the group's partition of the lineage topic.
        sinks: commits what the tasks write into sinks; None before the tasks are open, under a
            guarantee without transactions, and where no task has a sink.
        recovery: how the group became live; None under a guarantee without recovery.
        inputs: what the tasks read.
        batches: which task has its turn.
        ticks: wakes tasks that go by the wall clock; does nothing before the group is live.
        checkpoints: of the tasks.
        trimmer: takes records out of the lineage topic that no successor needs; None before the
            tasks are open, and where `recovery` is None.
    """

    def __init__(
        self,
        context: RuntimeContext,
        number: int,
        *,
        before_start: Callable[[RecoveryAttempt, Callable[[], None]], None],
        started: float,
    ) -> None:
        self.context = context
        self.number = number
        self.phase = Phase.RECOVERING
        self.tasks: dict[int, Task] = {}
        self.run: int | None = None
        # Where the inputs end for `run`; empty without one, and then nothing is held back.
        self._run_ends: Mapping[Partition, int] = {}
        self.started = started
        self.wakes_at = 0.0
        self.lineage = wiring.lineage_writer_of(context, number, self._on_segment)
        self.sinks: Sinks | None = None
        self.recovery: RecoveryAttempt | None = None
        self.inputs = GroupInputs(context.clients.consumer, context.gate)
        services, load = context.services, context.load
        self.batches = Batches(
            services, load=load, lineage=self.lineage, inputs=self.inputs, tasks=self.tasks
        )
        self.ticks = GroupTicks(services.clock, self.batches, self.tasks)
        self._merges = wiring.merges_of(context, self.batches, self.tasks)
        self._watchdog = Watchdog(context.services.clock.monotonic())
        self.checkpoints = wiring.checkpoints_of(context, number, self.lineage)
        self._hints: Hints  # made with the tasks
        # Of `run`, once the tasks are open.
        self._run_end: RunEnd | None = None
        self.trimmer: Trimmer | None = None
        self._sink_producers = wiring.sink_producers_of(context, number)
        if context.guarantee.recovers:
            self.recovery = RecoveryAttempt(
                context,
                number,
                self._sink_producers,
                on_recover=self._open,
                before_start=before_start,
            )
        else:
            self._open(fresh_plans(context.clients.admin, context.config, context.layout, number))

    # -- opening the tasks -----------------------------------------------------------------------

    @property
    def incarnation(self) -> Incarnation:
        """Own incarnation; `NO_INCARNATION` where nothing is claimed."""
        return self.recovery.core.incarnation if self.recovery is not None else NO_INCARNATION

    def _open(self, plans: dict[TaskId, TaskPlan]) -> None:
        context = self.context
        if self.recovery is not None:
            self.trimmer = Trimmer(
                context.services.metrics,
                lineage=self.lineage,
                core=self.recovery.core,
                tasks=self.tasks,
                plans=plans,
            )
        producers, incarnation = self._sink_producers, self.incarnation
        self.sinks = wiring.sinks_of(
            context, self.number, producers, incarnation=incarnation, plans=plans, tasks=self.tasks
        )
        opener = wiring.opener_of(context, incarnation, self.recovery, self.sinks)
        for stage in context.layout.stages_of(self.number):
            plan = plans[TaskId(stage.index, self.number)]
            task = self.tasks[stage.index] = opener.open(stage, plan)
            self.inputs.add(task)
            self.checkpoints.add(task, plan.base, self.recovery)
            # Lineage that only headers held goes to the topic before any new output (H29).
            self.lineage.flush(task)
            self.batches.wake(task)  # a replay may begin with what needs no record
        self._hints = wiring.hints_of(context, self.lineage, self.tasks)
        if self.run is not None:
            run = self.run, self._run_ends
            self._run_end = wiring.run_end_of(context, run, incarnation, self.tasks, self.batches)
        if self.recovery is not None:
            lineage = context.layout.lineage_topic, self.number
            self.inputs.follow(lineage, self.recovery.core.view.next_offset)
        self.inputs.begin()
        if self.recovery is None:
            self._go_live()

    def _on_segment(self, segment: Segment) -> None:
        if self.trimmer is not None:
            self.trimmer.add_segment(segment)

    def join_run(self, run: int, ends: Mapping[Partition, int]) -> None:
        """Belong to a bounded run with these ends of inputs; before START."""
        self.run = run
        self._run_ends = ends

    # -- one turn --------------------------------------------------------------------------------

    def tick(self, now: float, *, is_urgent: bool = False) -> None:
        """Do what is due; what is sent is committed as soon as possible when that is urgent.

        Raises:
            IncarnationFencedError, ProducerFailedError: this incarnation is over; begin anew.
            KstashError: the worker must stop.
        """
        if self.recovery is not None and self.phase is Phase.RECOVERING:
            self.recovery.pump()
            self._end_replay()
            self._watchdog.look(now, self.recovery, self.tasks)
        if self.sinks is not None:
            self.sinks.tick(now, is_urgent=is_urgent or self.phase is Phase.DRAINING)
        else:
            for producer in self._sink_producers:
                producer.poll()
        if self.phase is Phase.LIVE:
            if self.context.guarantee.recovers:
                self.checkpoints.tick(now, may_publish=self._may_publish)
            if self.context.guarantee.logs_lineage:
                self._hints.tick(now, self.trimmer if self._may_publish else None)
            if self.trimmer is not None:
                self.trimmer.tick()
            if self._run_end is not None:
                self._run_end.tick()
            self.ticks.tick(now)
            self._merges.tick(now)
        elif self.phase is Phase.DRAINING:
            self._drain(now)
        self.wakes_at = self._next_s(now)

    def _next_s(self, now: float) -> float:
        """When the next tick is needed, if nothing comes before."""
        if self.phase is not Phase.LIVE or self._run_end is not None or self.lineage.has_unacked:
            return now
        is_at_rest = self.sinks is None or self.sinks.is_at_rest
        is_trimming = self.trimmer is not None and self.trimmer.is_busy
        if not is_at_rest or is_trimming or self.ticks.is_listing or self._merges.is_waiting:
            return now
        due = [now + IDLE_TICK_S]
        if self.context.guarantee.recovers:
            due.append(self.checkpoints.next_s(now))
        if self.context.guarantee.logs_lineage:
            due.append(self._hints.next_s(now))
        return min(due)

    def deliver(self, task: Task, input_index: int, messages: Sequence[Message]) -> None:
        """Let consumed records wait in a task until `work`."""
        self.wakes_at = 0.0
        if self.phase is Phase.LIVE:
            messages = before_end(self._run_ends, task.inputs[input_index], messages)
        elif self.phase is not Phase.RECOVERING:
            return  # draining: what comes now is for the next owner
        if messages:
            self.inputs.take(task, input_index, messages)
            self.batches.wake(task)

    def note_positions(self) -> None:
        """Have the tasks of a live group know how far their inputs were read."""
        if self.phase is Phase.LIVE:
            self.inputs.note_positions(self.tasks)

    @property
    def is_settled(self) -> bool:
        """Whether no transaction holds outputs."""
        held = any(task.core.held_count for task in self.tasks.values())
        return self.sinks is None or (self.sinks.is_settled and not held)

    def work(self, deadline: float) -> None:
        """Process what waits: batches of each task in turn, at least one, until `deadline`.

        Raises:
            IncarnationFencedError, ProducerFailedError: this incarnation is over; begin anew.
            KstashError: the worker must stop.
        """
        self.wakes_at = 0.0
        waits = self.checkpoints.waits_for_rest or bool(self.sinks and self.sinks.waits_for_rest)
        self.batches.work(deadline, is_replay=self.phase is Phase.RECOVERING, waits_for_rest=waits)

    def see_lineage(self, messages: list[Message]) -> None:
        """Take records from the tail of the lineage partition into account.

        Raises:
            IncarnationFencedError: one of them is a higher CLAIM.
        """
        assert self.recovery is not None
        assert self.trimmer is not None
        self.wakes_at = 0.0
        for message in messages:
            record = self.trimmer.see(message)
            self.recovery.core.check_fenced()
            if record is not None:
                self.checkpoints.read_back(record)

    def _end_replay(self) -> None:
        if not self.tasks or any(task.is_replaying for task in self.tasks.values()):
            return
        assert self.recovery is not None
        if self.recovery.state is GroupState.REPLAYING:
            self.recovery.replayed()
            self.recovery.pump()
            self._go_live()

    def _go_live(self) -> None:
        self.phase = Phase.LIVE
        self._merges.begin(self.context.clients.consumer, self._run_end)
        for task in self.tasks.values():
            # Only now: a replay needs what the lineage says, ends or not.
            keep_before_end(self._run_ends, task)
            self.inputs.balance(task)
            if task.has_waiting:
                self.batches.wake(task)
        self.ticks.begin(self.context.clients, self._run_end, self.context.config.idle_timeout_ms)
        report_live(
            self.context.services,
            self.context.recoveries,
            group=self.number,
            recovery=self.recovery,
            tasks=self.tasks,
            started=self.started,
        )

    # -- outputs ---------------------------------------------------------------------------------

    @property
    def has_outstanding(self) -> bool:
        """Whether acknowledgements or a commit are awaited: the next turn should come soon."""
        if self.lineage.has_unacked or self.phase is not Phase.LIVE:
            return True
        return self.sinks is not None and self.sinks.is_committing

    @property
    def sink_backlog(self) -> int:
        """Sink records not yet acknowledged, or queued until a commit."""
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
        self.wakes_at = 0.0
        self.note_positions()
        if self.phase in (Phase.RECOVERING, Phase.LIVE):
            if self.phase is Phase.RECOVERING or not self.context.guarantee.recovers:
                self.phase = Phase.RELEASED  # nothing of its own to finish
                self.batches.clear()
                return
            self.phase = Phase.DRAINING
            if self.trimmer is not None and self._may_publish:
                for task in self.tasks.values():
                    self.trimmer.say_again(task)
            self.inputs.end()
            self.batches.close()

    def _drain(self, now: float) -> None:
        if not self.checkpoints.drain(now, may_publish=self._may_publish):
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
        self.checkpoints.close()
        if self.recovery is not None:
            self.recovery.cancel()
        self.inputs.close()
        for producer in self._sink_producers:
            producer.close()
        with ExitStack() as stack:  # what a processor raises as it closes keeps no other task open
            for task in self.tasks.values():
                stack.callback(task.close)
