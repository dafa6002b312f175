"""Carries out the effects of `core.group`: one attempt at making one task group live.

Callbacks only queue events; `pump` gives them to the core on the worker's own turn, so that errors
surface there. An attempt that is `cancel`led ignores whatever still arrives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import assert_never

import structlog

from kstash.core import effects, events
from kstash.core.effects import Effect
from kstash.core.events import Event
from kstash.core.group_state import GroupState
from kstash.core.ids import OutPartition, TaskId
from kstash.core.plan import TaskPlan
from kstash.core.records import Checkpoint, Claim, Generation, Start
from kstash.errors import LineageGapError, LocatedError, SkipTooLateError
from kstash.ports.kafka import Headers, Message, Partition, SinkProducer
from kstash.runtime.context import RuntimeContext
from kstash.runtime.lineage_reader import LineageReader, too_slow
from kstash.runtime.recovery import wiring
from kstash.runtime.recovery.first_offsets import first_offsets
from kstash.runtime.recovery.hash_seed import tell_seed
from kstash.runtime.recovery.inputs import locate_error
from kstash.runtime.recovery.phases import PHASES, PhaseTimes
from kstash.runtime.recovery.skips import SkipLocator, place_of_skip
from kstash.runtime.scan import ScanJob
from kstash.runtime.task.stored import StoredRecord

log = structlog.get_logger("kstash.recovery")


class RecoveryAttempt:
    """One attempt at recovering one task group.

    Args:
        context: of the worker.
        group: number of the task group.
        sinks: its transactional producers; none where it has no sinks.
        on_recover: makes the tasks from their plans; is called once, after START.
        before_start: gets the attempt and what appends START, to be called when it may.

    Attributes:
        core: decides what comes next.
        start: the START record, once it is about to be appended; fixed then.
        jobs: its scans, those that are done too.
        stored: scanned output records by sequence, to compare replayed ones with.
        restores: finds the base of each task.
        remote: remote checkpoints of each task on its history, oldest first, once planned.
        phases: where the time went until now.
        started: monotonic seconds at which it began.
    """

    def __init__(
        self,
        context: RuntimeContext,
        group: int,
        sinks: Sequence[SinkProducer],
        *,
        on_recover: Callable[[dict[TaskId, TaskPlan]], None],
        before_start: Callable[[RecoveryAttempt, Callable[[], None]], None],
    ) -> None:
        self._context = context
        self._on_recover = on_recover
        self._before_start = before_start
        # What has arrived since `pump`; an exception ends the attempt. Empty once cancelled.
        self._inbox: deque[Event | Exception] = deque()
        self.jobs: list[ScanJob] = []
        # Once true, it stays, and nothing that arrives counts.
        self._is_cancelled = False
        self._appender = wiring.appender_of(context, group, self._post)
        self._fencing = wiring.fencing_of(context, group, sinks, self._post)
        # The latter: since when the lineage is read, in monotonic seconds; all reads are one (H23).
        self.started = self._read_started = context.services.clock.monotonic()
        self.phases = PhaseTimes(self.started)
        self.stored: dict[TaskId, dict[OutPartition, dict[int, StoredRecord]]] = {}
        self.start: Start | None = None
        self.restores = wiring.restores_of(context, group)
        self.remote: dict[TaskId, list[Checkpoint]] = {}
        # Only while questions about skips have no answer.
        self._locator: SkipLocator | None = None
        self.core = wiring.core_of(context, group)
        context.clients.scans.expect_tails(group)
        self._post(events.Begin())

    @property
    def group(self) -> int:
        """Number of the task group."""
        return self.core.group

    @property
    def state(self) -> GroupState:
        """Where the attempt stands."""
        return self.core.state

    @property
    def scanned(self) -> int:
        """Sum of all scans' positions: changes while any of them gets records."""
        return sum(sum(job.next_offsets.values()) for job in self.jobs)

    def damaged(self, task: TaskId) -> Collection[str]:
        """URIs of a task's stored files that turned out damaged or missing."""
        return self.restores.damaged.get(task, ())

    def pump(self) -> None:
        """Take the events that have arrived and carry out what follows.

        Raises:
            IncarnationFencedError: another owner claimed; begin anew after a while.
            ProducerFailedError: a producer failed.
            KstashError: the group cannot start; the message says why and what to do.
        """
        self._appender.tick(self._context.services.clock.monotonic())
        self.restores.tick(self._context.services.clock.monotonic())
        if self._locator is not None:
            self._locator.pump(self._context.services.clock.monotonic())
        while self._inbox:
            event = self._inbox.popleft()
            if isinstance(event, Exception):
                raise event
            before = self.core.state
            try:
                wanted = self.core.step(event)
            except SkipTooLateError as error:
                raise place_of_skip(error, self._context.layout, self.group) from None
            except LineageGapError as error:
                if error.stage is not None:
                    locate_error(error, self._context.layout, error.stage, error.said_by)
                raise
            self._observe(before)
            for effect in wanted:
                self._perform(effect)

    def replayed(self) -> None:
        """Every task has reached its adopted end."""
        self._post(events.Replayed())

    def charge(self, phase: str) -> float:
        """Put the time since the last such call down to a phase; returns the seconds."""
        return self.phases.charge(phase, self._context.services.clock.monotonic())

    def cancel(self) -> None:
        """Ignore everything that still arrives."""
        self._is_cancelled = True
        self._context.clients.scans.forget_tails(self.group)
        self._inbox.clear()
        self._appender.cancel()
        self.restores.cancel()
        if self._locator is not None:
            self._locator.close()
        for job in self.jobs:
            job.is_cancelled = True

    # -- plumbing --------------------------------------------------------------------------------

    def _post(self, event: Event | Exception) -> None:
        if not self._is_cancelled:
            self._inbox.append(event)

    def _observe(self, before: GroupState) -> None:
        if before is not self.core.state:
            seconds = self.charge(PHASES[before])
            log.debug(
                "recovery step",
                group=self.group,
                step=before.value,
                milliseconds=round(seconds * 1000, 1),
            )

    def _perform(self, effect: Effect) -> None:
        match effect:
            case effects.ReadLineage():
                self._read_lineage(effect)
            case effects.AppendGeneration():
                self._append_generation(effect)
            case effects.AppendClaim():
                self._append_claim(effect)
            case effects.FenceOutputs():
                self._fence(effect)
            case effects.AppendSeal():
                self._append_seal(effect)
            case effects.VerifyCheckpoints():
                self._verify(effect)
            case effects.ScanTails():
                self._scan_tails(effect)
            case effects.LocateSkips():
                self._locate_skips(effect)
            case effects.AppendStart():
                self._append_start(effect)
            case effects.Recover():
                self._recover(effect)
            case effects.GoLive():
                self._go_live()
            case _ as never:
                assert_never(never)

    # -- effects ---------------------------------------------------------------------------------

    def _read_lineage(self, effect: effects.ReadLineage) -> None:
        partition = self._context.layout.lineage_topic, self.group
        if effect.through is not None:
            end = effect.through + 1
        else:
            self._read_started = self._context.services.clock.monotonic()
            end = self._context.clients.admin.end_offsets([partition])[partition]
        reader = LineageReader()

        def done() -> Event | Exception:
            seconds = self._context.services.clock.monotonic() - self._read_started
            longest = self._context.lineage_times.tombstone_s
            if seconds > longest:
                # All reads of an attempt are one: a tombstone may be gone before it was met (H23).
                return too_slow(partition, seconds, longest)
            return events.LineageRead(reader.read())

        job = self._job({partition: (effect.start, end)}, reader.take, done)
        self._context.clients.scans.submit(job)

    def _append_generation(self, effect: effects.AppendGeneration) -> None:
        services = self._context.services
        record = Generation(services.nonce(), services.clock.time_ms())
        self._append_claiming(record, lambda _: events.GenerationAppended(), effect)

    def _append_claim(self, effect: effects.AppendClaim) -> None:
        record = Claim(self._context.services.nonce(), self._context.config.instance_id or "")
        self._append_claiming(record, events.ClaimAppended, effect)

    def _append_claiming(
        self, record: Claim | Generation, event: Callable[[int], Event], effect: Effect
    ) -> None:
        """Append a record; where that failed, the effect is carried out once more."""
        producer = self._context.clients.producers.claims
        self._appender.append(producer, record, event, again=lambda: self._perform(effect))

    def _fence(self, effect: effects.FenceOutputs) -> None:
        self._fencing.begin(effect.marker)

    def _append_seal(self, effect: effects.AppendSeal) -> None:
        markers = self._context.clients.producers.markers
        self._appender.append(markers, effect.record, events.SealAppended)

    def _verify(self, effect: effects.VerifyCheckpoints) -> None:
        self.restores.begin(
            effect.candidates,
            on_done=lambda usable: self._post(events.CheckpointsVerified(usable)),
            on_error=self._post,
        )

    def _scan_tails(self, effect: effects.ScanTails) -> None:
        context = self._context
        initial = first_offsets(
            context.clients.admin,
            context.config,
            context.layout,
            self.group,
            effect.missing_inputs,
        )
        tails = wiring.tail_reader_of(context, effect.scans, self._fencing.offsets)
        self.stored = tails.stored
        job = self._job(tails.ranges(), tails.take, lambda: events.TailsScanned(initial))
        self._context.clients.scans.submit_tails(
            self.group, job, self._context.services.clock.monotonic()
        )

    def _locate_skips(self, effect: effects.LocateSkips) -> None:
        self._locator = SkipLocator(
            self._context.clients,
            self._context.layout,
            core=self.core,
            asked=effect.asked,
            on_done=lambda before: self._post(events.SkipsLocated(before)),
            on_error=self._post,
        )
        self.jobs += self._locator.jobs

    def _append_start(self, effect: effects.AppendStart) -> None:
        if self._locator is not None:
            self._locator.close()
            self._locator = None
        self.start = effect.record
        plans, fences = self.core.plans, self._fencing.offsets
        wiring.input_check_of(self._context, self.group).check(plans, effect.record, fences)
        self._before_start(
            self,
            lambda: self._appender.append(
                self._context.clients.producers.markers,
                effect.record,
                lambda _: events.StartAppended(),
            ),
        )

    def _recover(self, effect: effects.Recover) -> None:
        tell_seed(self.core, effect.plans.values())
        self.remote = {task: self.core.remote_checkpoints(task) for task in effect.plans}
        self._on_recover(dict(effect.plans))
        self.charge("restore")

    def _go_live(self) -> None:
        self.stored = {}

    def _job(
        self,
        ranges: dict[Partition, tuple[int, int]],
        take: Callable[[Message, Headers], None],
        event: Callable[[], Event | Exception],
    ) -> ScanJob:
        def take_safely(message: Message, headers: Headers) -> None:
            try:
                take(message, headers)
            except LocatedError as error:
                self._post(error)

        job = ScanJob(ranges, take_safely, lambda: self._post(event()))
        self.jobs.append(job)
        return job
