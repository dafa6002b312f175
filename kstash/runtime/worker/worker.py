"""The worker: one loop over one consumer, all tasks of this process.

One turn (`step`): serve callbacks, take what the consumer has, give it to the tasks, let every
group do what is due. Nothing in it waits but the consumer's poll.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import structlog

from kstash.errors import (
    KstashError,
    ProducerFailedError,
    RecordRefusedError,
)
from kstash.ports.kafka import Cluster, Message, Partition, TopicInfo
from kstash.ports.process import Background, Clock, Metrics
from kstash.ports.state import CheckpointStore, StateBackend
from kstash.ports.status import WorkerStatus
from kstash.runtime.context import Producers, Services
from kstash.runtime.group.group import TaskGroup
from kstash.runtime.group.phase import Phase
from kstash.runtime.inputs import take
from kstash.runtime.layout import check_commit_metadata
from kstash.runtime.task.refusals import explain_refusal
from kstash.runtime.worker.bounded import RunFinder
from kstash.runtime.worker.intake import Intake
from kstash.runtime.worker.owners import Owners
from kstash.runtime.worker.purge import Purger
from kstash.runtime.worker.retention_margin import RetentionMargin
from kstash.runtime.worker.topics import TopicWatch
from kstash.runtime.worker.turns import Turns
from kstash.runtime.worker.wiring import context_of, groups_of, reporter_of
from kstash.settings import derived
from kstash.settings.config import Config
from kstash.topology.model import Topology

POLL_BUSY_S = 0.005
"""Longest poll while acknowledgements are outstanding: their callbacks do not wake it."""

POLL_IDLE_S = 0.1
"""Longest poll otherwise: timers are late by this much at most."""

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
        closes_windows: whether open windows close where it ends: with `"end"` only.
        on_ready: called once, when all tasks of this worker are live for the first time.
        nonce: gives 16 fresh random bytes a call, for the keys of CLAIM and CONFIG.
        started: monotonic seconds at which the process began: since then the groups that it is
            given first have been waiting. None: since they are given.
        topics: the application's, when they were just described. None: they are described here.
        beat: called within turns that take long: the loop is alive.
        admit: takes how many task groups the worker has, and raises when it cannot have them.
        hashing: differs between hash seeds of processes; empty: the seed is the pinned one.

    Attributes:
        context: what the task groups are made of.
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
        nonce: Callable[[], bytes],
        until: Literal["end", "drain"] | None = None,
        closes_windows: bool = False,
        on_ready: Callable[[], None] | None = None,
        started: float | None = None,
        topics: Mapping[str, TopicInfo] | None = None,
        beat: Callable[[], None] = lambda: None,
        admit: Callable[[int], None] | None = None,
        hashing: str = "",
    ) -> None:
        if derived.guarantee(config).logs_lineage:
            check_commit_metadata(topology)
        # Producers first: a fresh idempotent one needs up to a second before its first ack.
        producers = Producers.create(cluster)
        admin = cluster.admin()
        topics = topics if topics is not None else admin.describe(topology.topics)
        services = Services(clock, metrics, background, nonce)
        self.context = context_of(
            topology,
            config,
            topics,
            cluster=cluster,
            admin=admin,
            producers=producers,
            services=services,
            state=state,
            store=store,
            beat=beat,
            hashing=hashing,
            closes_windows=closes_windows,
        )
        layout, clients = self.context.layout, self.context.clients
        # None: the run has no end.
        self._bounded = (
            RunFinder(layout, clients, clock, is_drain=until == "drain") if until else None
        )
        self._on_ready = on_ready
        self._intake = Intake(config, clients=clients, gate=self.context.gate, metrics=metrics)
        self._topics = TopicWatch(cluster, layout, services=services, topics=topics)
        self._groups = groups_of(self.context, self._intake, self._bounded, started, admit)
        self._turns = Turns(config, clock, load=self.context.load, groups=self._groups)
        self._owners = Owners(
            clients.membership, config=config, layout=layout, services=services, groups=self._groups
        )
        self._purger = Purger(config, layout, clients=clients, services=services)
        self._margin = RetentionMargin(admin)
        self._reporter = reporter_of(self.context, self._margin)
        self._groups.join(self._reporter.count_last)

    # -- what outsiders ask ----------------------------------------------------------------------

    @property
    def groups(self) -> dict[int, TaskGroup]:
        """The task groups that this worker has, by number."""
        return self._groups.running

    @property
    def is_live(self) -> bool:
        """Whether this worker has groups, and all of them are live."""
        return self._groups.is_live

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
        """Of a bounded run that is over, those that this worker ran to its end.

        Others may have been handed over after its end, and are never started; or they were taken
        from this worker, which has not heard so: what such a one holds is no history.
        """
        enders = self._bounded.enders if self._bounded is not None else ()
        ran = ((n, group) for n, group in self.groups.items() if group.run is not None)
        return {n: group for n, group in ran if group.incarnation in enders}

    @property
    def _has_released_all(self) -> bool:
        return not self._groups.has_restarts and all(
            g.is_ended and g.phase is Phase.RELEASED for g in self.groups.values()
        )

    def status(self) -> WorkerStatus:
        """What the worker and its tasks do now, for people."""
        return self._reporter.status(
            self.groups, is_stopping=self._groups.is_stopping, is_spare=self._owners.is_spare
        )

    # -- the loop --------------------------------------------------------------------------------

    def step(self, timeout_s: float) -> None:
        """Do one turn; waits up to `timeout_s` for records.

        Raises:
            MemberFencedError: another process took this worker's membership: stop at once.
            KstashError: the worker cannot go on; nothing is lost.
        """
        context = self.context
        timeout_s = min(timeout_s, self._poll_timeout())
        # Serving callbacks first frees what waited for acknowledgements before more is taken.
        self._serve_producers()
        context.services.background.poll()
        if context.clients.scans.pump(context.services.clock.monotonic()):
            timeout_s = 0.0
        messages = take(context.clients.membership, context.clients.consumer, timeout_s)
        if messages:
            self._route(messages)
        self._turns.take()
        now = context.services.clock.monotonic()
        is_urgent = self._turns.is_settling
        for number, group in list(self.groups.items()):
            # Of many groups few have something to do.
            if group.wakes_at <= now or is_urgent:
                self._groups.guarded(number, group, partial(group.tick, now, is_urgent=is_urgent))
        self._house_keep(now)

    @property
    def is_busy(self) -> bool:
        """Whether consumed records wait that could be processed at once."""
        return self._turns.is_busy

    def _poll_timeout(self) -> float:
        if self._turns.is_busy and not self._turns.is_settling:
            return 0.0
        if (
            self._groups.has_restarts
            or self.context.clients.scans.is_busy
            or len(self.context.clients.producers)
        ):
            return POLL_BUSY_S
        if self.context.load.is_full:
            return POLL_BUSY_S
        now = self.context.services.clock.monotonic()
        if any(group.wakes_at <= now and group.has_outstanding for group in self.groups.values()):
            return POLL_BUSY_S
        interval = self.context.config.sink_commit_interval_ms / 1000
        idle_s = min(POLL_IDLE_S, max(interval / 4, POLL_BUSY_S))
        return min(idle_s, self._turns.until_tick_s())

    def _serve_producers(self) -> None:
        try:
            self.context.clients.producers.poll()
        except RecordRefusedError as error:
            tasks = [task for group in self.groups.values() for task in group.tasks.values()]
            explain_refusal(error, tasks, self.context.services.clock.time_ms())
            raise
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
            if partition[0] == self.context.layout.lineage_topic:
                self._watch(partition[1], run)
                continue
            # Task group `p` reads partition `p` of every input.
            number = partition[1]
            group = self.groups.get(number)
            target = group.inputs.by_partition.get(partition) if group is not None else None
            if group is not None and target is not None:
                self._groups.guarded(number, group, partial(group.deliver, *target, run))

    def _watch(self, number: int, messages: list[Message]) -> None:
        group = self.groups.get(number)
        if group is not None and group.trimmer is not None:
            self._groups.guarded(number, group, partial(group.see_lineage, messages))

    def _renew_producers(self, error: ProducerFailedError) -> None:
        """A shared producer failed: every group of the worker starts over (protocol, section 6)."""
        log.warning("producers are made anew, all task groups start over", reason=str(error))
        for number in list(self.groups):
            self._groups.restart(number, error)
        self.context.clients.producers.renew(self.context.clients.cluster)

    def _house_keep(self, now: float) -> None:
        self._groups.tick(now)
        self._owners.tick(now)
        if self._bounded is not None:
            self._bounded.tick(now)
            for group in self.groups.values():
                if group.is_ended and group.phase is Phase.LIVE:
                    group.begin_drain()
            if self._has_released_all:
                self._bounded.wait_for_end()
        self.context.ends.tick(now)
        self._topics.tick(now)
        self._intake.tick(now, self.groups)
        if self._on_ready is not None and self.is_live and not self._groups.is_stopping:
            on_ready, self._on_ready = self._on_ready, None
            on_ready()
        self._purger.tick(now, self.groups)
        self._margin.tick(now, self.groups)
        is_stopping = self._groups.is_stopping
        owned: set[int] = set() if is_stopping else self._groups.owned
        self._reporter.tick(
            now, self.groups, owned, is_stopping=is_stopping, is_spare=self._owners.is_spare
        )

    # -- stopping --------------------------------------------------------------------------------

    def _drain(self) -> bool:
        """Finish, checkpoint and release all groups; returns whether all made it in time."""
        context = self.context
        groups = list(self.groups.values())
        self._groups.begin_drain()
        deadline = context.services.clock.monotonic() + context.config.shutdown_timeout_ms / 1000
        while any(group.phase is not Phase.RELEASED for group in self.groups.values()):
            if context.services.clock.monotonic() >= deadline:
                log.warning("not all task groups could be released in time; they will be replayed")
                break
            # What fails here does not matter any more: the groups are given up either way.
            try:
                context.clients.producers.lineage.flush(POLL_BUSY_S)
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
        self._groups.is_stopping = True
        is_released = False
        try:
            if is_graceful:
                is_released = self._drain()
        finally:
            if is_released:
                self._intake.finish(self.groups)
            try:
                self._groups.drop_all()
            finally:
                self._give_up(is_graceful=is_graceful)
        return is_released

    def _give_up(self, *, is_graceful: bool) -> None:
        self.context.services.background.close()
        if self.context.store is not None:
            self.context.store.close()
        config = self.context.config
        leave = config.instance_id is None or config.leave_on_stop
        self.context.clients.close(leave=leave and is_graceful)
