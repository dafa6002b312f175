"""The worker: one loop over one consumer, all tasks of this process.

One turn (`step`): serve callbacks, take what the consumer has, give it to the tasks, let every
group do what is due. Nothing in it waits but the consumer's poll.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial

import structlog

from kstash.config import Config
from kstash.core.partitioner import partitioners
from kstash.core.records import Run
from kstash.core.wire import application_tag
from kstash.errors import (
    IncarnationFencedError,
    KafkaUnavailableError,
    KstashError,
    ProducerFailedError,
)
from kstash.ports import (
    Background,
    CheckpointStore,
    Clock,
    Cluster,
    Message,
    Metrics,
    Partition,
    StateBackend,
    TopicInfo,
    WorkerStatus,
)
from kstash.runtime.bounded import BoundedRun
from kstash.runtime.context import Context, LineageTimes, Producers
from kstash.runtime.group import Phase, TaskGroup
from kstash.runtime.intake import Intake
from kstash.runtime.layout import Layout, check_commit_metadata
from kstash.runtime.margin import Margin
from kstash.runtime.program import start_settings
from kstash.runtime.purge import Purger
from kstash.runtime.recovery import Recovery
from kstash.runtime.report import Reporter
from kstash.runtime.scan import ScanService
from kstash.topology import Topology

POLL_BUSY_S = 0.005
"""Longest poll while acknowledgements are outstanding: their callbacks do not wake it."""

POLL_IDLE_S = 0.1
"""Longest poll otherwise: timers are late by this much at most."""

RESTART_BACKOFF_S = 0.5
RESTART_BACKOFF_MAX_S = 5.0
"""Pause before a fenced or failed group claims again, doubled each time (I10)."""

MOVE_S_MAX = 240.0
"""Longest drain of groups that move. A member that does not join again within the client's
`max.poll.interval.ms`, 300 s, is put out of the group when others come or go meanwhile."""

log = structlog.get_logger("kstash.worker")


class Worker:
    """Runs a topology's tasks, as many groups as the membership gives this process.

    Args:
        topology: the compiled application; its topics exist.
        config: settings.
        cluster: factory of Kafka clients.
        state: where the tasks' states live.
        store: where remote checkpoints go; None: they stay on this disk.
        background: runs what waits for disks and stores.
        clock: time.
        metrics: what is counted.
        until: None runs for ever; `"end"` to the end offsets found at the start; `"drain"` until
            what is in flight is finished.
        on_ready: called once, when all tasks of this worker are live for the first time.
        nonce: gives 16 fresh random bytes a call, for the keys of CLAIM and CONFIG.
        started: monotonic seconds at which the process began: since then the groups that it is
            given first have been waiting. None: since they are given.
        topics: the application's, when they were just looked at. None: they are looked at.
    """

    def __init__(
        self,
        topology: Topology,
        config: Config,
        *,
        cluster: Cluster,
        state: StateBackend,
        store: CheckpointStore | None,
        background: Background,
        clock: Clock,
        metrics: Metrics,
        until: str | None = None,
        on_ready: Callable[[], None] | None = None,
        nonce: Callable[[], bytes] | None = None,
        started: float | None = None,
        topics: Mapping[str, TopicInfo] | None = None,
    ) -> None:
        if config.guarantee in ("exactly_once", "write_first"):
            check_commit_metadata(topology)
        # Producers first: a fresh idempotent one needs up to a second before its first ack.
        producers = Producers.create(cluster)
        admin = cluster.admin()
        topics = topics if topics is not None else admin.describe(topology.topics)
        layout = Layout.of(topology, topics)
        has_uncommitted = any(i.immediate_of for s in topology.stages for i in s.inputs)
        self.context = Context(
            config=config,
            layout=layout,
            cluster=cluster,
            admin=admin,
            member=cluster.member(),
            uncommitted=cluster.uncommitted_member() if has_uncommitted else None,
            scans=ScanService(cluster.scanner()),
            producers=producers,
            state=state,
            store=store,
            background=background,
            clock=clock,
            metrics=metrics,
            nonce=nonce or partial(os.urandom, 16),
            application=application_tag(topology.application_id),
            partitioners=partitioners(layout.partition_counts),
            start_settings=start_settings(layout, config),
            lineage_times=LineageTimes.of(topics.get(topology.lineage_topic)),
        )
        self.groups: dict[int, TaskGroup] = {}
        self.is_stopping = False
        is_drain = until == "drain"
        self._bounded = BoundedRun(self.context, is_drain=is_drain) if until else None
        self._on_ready = on_ready
        # Due time and since when, of groups that will claim again.
        self._restarts: dict[int, tuple[float, float]] = {}
        # Groups that move to another worker, and when they are given up at the latest.
        self._leaving: dict[int, float] = {}
        self._attempts: dict[int, int] = {}
        self._waiting_since = started
        self._intake = Intake(self.context)
        self._reporter = Reporter(self.context)
        self._purger = Purger(self.context)
        self._margin = Margin(self.context)
        self.context.member.subscribe(
            on_assigned=self._assigned, on_revoked=self._revoked, on_lost=self._lost
        )

    # -- what outsiders ask ----------------------------------------------------------------------

    @property
    def is_live(self) -> bool:
        """Whether this worker has groups, and all of them are live."""
        if not self.groups or self._restarts:
            return False
        return all(g.phase in (Phase.LIVE, Phase.DRAINING) for g in self.groups.values())

    @property
    def is_done(self) -> bool:
        """Whether a bounded run is over, for all groups of the application."""
        return (
            self._bounded is not None
            and self._bounded.is_over
            and all(group.phase is Phase.RELEASED for group in self.ended_groups.values())
        )

    @property
    def ended_groups(self) -> dict[int, TaskGroup]:
        """Of a bounded run that is over, those that this worker ran.

        Others may have been handed over behind its end; they are never started.
        """
        return {n: group for n, group in self.groups.items() if group.run is not None}

    @property
    def _has_released_all(self) -> bool:
        return not self._restarts and all(
            g.is_ended and g.phase is Phase.RELEASED for g in self.groups.values()
        )

    def status(self) -> WorkerStatus:
        """What the worker and its tasks do now, for people."""
        return self._reporter.status(self.groups, is_stopping=self.is_stopping)

    # -- the loop --------------------------------------------------------------------------------

    def step(self, timeout_s: float) -> None:
        """Do one turn; waits up to `timeout_s` for records.

        Raises:
            MemberFencedError: another process took this worker's place: stop at once.
            KstashError: the worker cannot go on; nothing is lost.
        """
        context = self.context
        timeout_s = min(timeout_s, self._poll_timeout())
        # Serving callbacks first frees what waited for acknowledgements before more is taken.
        self._serve_producers()
        context.background.poll()
        if context.scans.pump(context.clock.monotonic()):
            timeout_s = 0.0
        messages = context.member.poll(timeout_s)
        if context.uncommitted is not None:
            messages = [*messages, *context.uncommitted.poll(0)]
        if messages:
            self._route(messages)
        now = context.clock.monotonic()
        for number, group in list(self.groups.items()):
            self._guarded(number, group, partial(group.tick, now))
        self._house_keep(now)

    def _poll_timeout(self) -> float:
        if self._restarts or self.context.scans.is_busy or len(self.context.producers):
            return POLL_BUSY_S
        if self.context.uncommitted is not None:
            return POLL_BUSY_S  # its records do not wake the poll of the other consumer
        if any(group.has_outstanding for group in self.groups.values()):
            return POLL_BUSY_S
        interval = self.context.config.sink_commit_interval_ms / 1000
        return min(POLL_IDLE_S, max(interval / 4, POLL_BUSY_S))

    def _serve_producers(self) -> None:
        try:
            self.context.producers.poll()
        except ProducerFailedError as error:
            self._renew_producers(error)

    def _route(self, messages: list[Message]) -> None:
        runs: dict[Partition, list[Message]] = {}
        for message in messages:
            partition = message.topic(), message.partition()
            run = runs.get(partition)
            if run is None:
                runs[partition] = [message]
            else:
                run.append(message)
        for partition, run in runs.items():
            if partition[0] == self.context.lineage_topic:
                self._watch(partition[1], run)
                continue
            # Task group `p` reads partition `p` of every input.
            number = partition[1]
            group = self.groups.get(number)
            target = group.inputs().get(partition) if group is not None else None
            if group is not None and target is not None:
                self._guarded(number, group, partial(group.deliver, *target, run))

    def _watch(self, number: int, messages: list[Message]) -> None:
        group = self.groups.get(number)
        if group is not None and group.trimmer is not None:
            self._guarded(number, group, partial(group.see_lineage, messages))

    def _guarded(self, number: int, group: TaskGroup, action: Callable[[], None]) -> None:
        """Run a group's action; an incarnation that is over claims again after a pause."""
        if self.groups.get(number) is not group:
            return
        try:
            action()
        except IncarnationFencedError as error:
            self.context.metrics.count("fenced")
            self._restart(number, error)
        except (ProducerFailedError, KafkaUnavailableError) as error:
            self._restart(number, error)

    def _restart(self, number: int, error: Exception) -> None:
        if self.is_stopping or number in self._leaving:
            log.warning("task group not released", group=number, reason=str(error))
            self._drop(number)
            self._give_up([number])
            return
        if isinstance(error, IncarnationFencedError):
            # The place in the group may be lost, which the client tells only behind the answer.
            self._give_up(list(self._leaving))
        attempt = self._attempts.get(number, 0)
        self._attempts[number] = attempt + 1
        pause = min(RESTART_BACKOFF_S * 2**attempt, RESTART_BACKOFF_MAX_S)
        # Contenders that claim in turn must not do so in step.
        pause *= 1 + self.context.nonce()[0] / 255
        log.warning(
            "task group starts over", group=number, pause_s=round(pause, 2), reason=str(error)
        )
        now = self.context.clock.monotonic()
        self._drop(number)
        self._restarts[number] = (now + pause, now)

    def _renew_producers(self, error: ProducerFailedError) -> None:
        """A shared producer failed: every group of the worker starts over (protocol, section 6)."""
        log.warning("producers are made anew, all task groups start over", reason=str(error))
        for number in list(self.groups):
            self._restart(number, error)
        self.context.producers.close()
        self.context.producers = Producers.create(self.context.cluster)

    def _house_keep(self, now: float) -> None:
        for number, (due, since) in list(self._restarts.items()):
            if now >= due:
                del self._restarts[number]
                self._begin(number, since)
        self._release_drained(now)
        if self._bounded is not None:
            self._bounded.tick(now)
            for group in self.groups.values():
                if group.is_ended and group.phase is Phase.LIVE:
                    group.begin_drain()
            if self._has_released_all:
                self._bounded.wait_for_end()
        self._intake.tick(now, self.groups)
        if self._attempts and self.is_live:
            self._attempts.clear()
        if self._on_ready is not None and self.is_live and not self.is_stopping:
            on_ready, self._on_ready = self._on_ready, None
            on_ready()
        self._purger.tick(now, self.groups)
        self._margin.tick(now, self.groups)
        self._reporter.tick(now, self.groups, is_stopping=self.is_stopping)

    # -- membership ------------------------------------------------------------------------------

    def _assigned(self, numbers: list[int]) -> None:
        if self.is_stopping:
            return
        since, self._waiting_since = self._waiting_since, None
        if since is None:
            since = self.context.clock.monotonic()
        for number in numbers:
            if number not in self.groups and number not in self._restarts:
                self._begin(number, since)

    def _revoked(self, numbers: list[int]) -> None:
        """Begin to finish what moves; the other groups go on meanwhile."""
        log.info("task groups move to another worker", groups=sorted(numbers))
        now = self.context.clock.monotonic()
        deadline = now + min(self.context.config.shutdown_timeout_ms / 1000, MOVE_S_MAX)
        for number in numbers:
            self._restarts.pop(number, None)
            self._leaving[number] = deadline
            if number in self.groups:
                self.groups[number].begin_drain()
        self._release_drained(now)

    def _release_drained(self, now: float) -> None:
        """Give up the groups that move and are finished, or should be."""
        for number, deadline in list(self._leaving.items()):
            group = self.groups.get(number)
            if group is not None and group.phase is not Phase.RELEASED:
                if now < deadline:
                    continue
                log.warning("task group not released", group=number, reason="shutdown_timeout_ms")
            self._give_up([number])

    def _give_up(self, numbers: list[int]) -> None:
        """Let the next owner have groups, as far as they move; it replays what is not finished."""
        moving = [number for number in numbers if self._leaving.pop(number, None) is not None]
        for number in moving:
            self._drop(number)
        if moving:
            self.context.member.release(moving)

    def _lost(self, numbers: list[int]) -> None:
        log.warning("task groups were taken by another worker", groups=sorted(numbers))
        self.context.metrics.count("fenced", len(numbers))
        for number in numbers:
            self._restarts.pop(number, None)
            self._leaving.pop(number, None)
            self._drop(number)

    def _begin(self, number: int, since: float) -> None:
        if number >= self.context.layout.group_count:
            return
        try:
            self.groups[number] = TaskGroup(
                self.context, number, before_start=self._before_start, started=since
            )
        except KafkaUnavailableError as error:
            self._restart(number, error)
            return
        self._intake.look_anew(self.groups)

    def _before_start(self, recovery: Recovery, go_on: Callable[[], None]) -> None:
        if self._bounded is None:
            go_on()
            return

        def known(run: Run) -> None:
            group = self.groups.get(recovery.group)
            if group is not None and group.recovery is recovery:
                group.run = run.run
                go_on()

        self._bounded.wait(recovery, known)

    def _drop(self, number: int) -> None:
        group = self.groups.pop(number, None)
        if group is not None:
            group.close()

    # -- stopping --------------------------------------------------------------------------------

    def _drain(self) -> bool:
        """Finish, checkpoint and release all groups; returns whether all made it in time."""
        context = self.context
        self._restarts.clear()
        groups = list(self.groups.values())
        for group in groups:
            group.begin_drain()
        deadline = context.clock.monotonic() + context.config.shutdown_timeout_ms / 1000
        while any(group.phase is not Phase.RELEASED for group in self.groups.values()):
            if context.clock.monotonic() >= deadline:
                log.warning("not all task groups could be released in time; they will be replayed")
                break
            # What fails here does not matter any more: the groups are given up either way.
            try:
                context.producers.lineage.flush(POLL_BUSY_S)
                self.step(POLL_BUSY_S)
            except KstashError as error:
                log.warning("task groups not released; they will be replayed", reason=str(error))
                break
        return all(group.phase is Phase.RELEASED for group in groups)

    def close(self, *, is_graceful: bool = True) -> bool:
        """Stop: drain and release what is owned, leave the group, close all clients.

        Returns:
            Whether everything was released; if not, the next owner replays.
        """
        self.is_stopping = True
        is_released = False
        try:
            if is_graceful:
                is_released = self._drain()
        finally:
            for number in list(self.groups):
                self._drop(number)
            self.context.background.close()
            if self.context.store is not None:
                self.context.store.close()
            config = self.context.config
            leave = config.instance_id is None or config.leave_on_stop
            self.context.member.close(leave=leave and is_graceful)
            if self.context.uncommitted is not None:
                self.context.uncommitted.close()
            self.context.scans.close()
            self.context.producers.close()
            self.context.admin.close()
        return is_released
