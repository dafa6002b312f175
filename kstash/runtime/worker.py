"""The worker: one loop over one consumer, all tasks of this process.

One turn (`step`): serve callbacks, take what the consumer has, give it to the tasks, let every
group do what is due. Nothing in it waits but the consumer's poll.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import structlog

from kstash.config import Config
from kstash.core.partitioner import Partitioner
from kstash.core.records import CLAIM, Run, key_incarnation
from kstash.core.wire import application_tag
from kstash.errors import (
    IncarnationFencedError,
    KafkaUnavailableError,
    ProducerFailedError,
    TopicMissingError,
)
from kstash.ports import (
    Admin,
    Clock,
    Cluster,
    Message,
    Metrics,
    Partition,
    StateBackend,
    WorkerStatus,
)
from kstash.runtime.bounded import BoundedRun
from kstash.runtime.context import Context, Producers
from kstash.runtime.group import Phase, TaskGroup
from kstash.runtime.layout import Layout
from kstash.runtime.recovery import Recovery
from kstash.runtime.report import Reporter
from kstash.runtime.scan import ScanService
from kstash.topology import Topology

POLL_BUSY_S = 0.005
"""Longest poll while acknowledgements are outstanding: their callbacks do not wake it."""

POLL_IDLE_S = 0.1
"""Longest poll otherwise: timers are late by this much at most."""

BACKLOG_RECORDS_MAX = 200_000
"""Unacknowledged or queued records at which the inputs are paused; resumed at half of it."""

RESTART_BACKOFF_S = 0.5
RESTART_BACKOFF_MAX_S = 5.0
"""Pause before a fenced or failed group claims again, doubled each time (I10)."""

log = structlog.get_logger("kstash.worker")


class Worker:
    """Runs a topology's tasks, as many groups as the membership gives this process.

    Args:
        topology: the compiled application; its topics exist.
        config: settings.
        cluster: factory of Kafka clients.
        state: where the tasks' states live.
        clock: time.
        metrics: what is counted.
        until: None runs for ever; `"end"` to the end offsets found at the start.
        on_ready: called once, when all tasks of this worker are live for the first time.
        nonce: gives 16 fresh random bytes a call, for the keys of CLAIM and CONFIG.
        started: monotonic seconds at which the process began: since then the groups that it is
            given first have been waiting. None: since they are given.
    """

    def __init__(
        self,
        topology: Topology,
        config: Config,
        *,
        cluster: Cluster,
        state: StateBackend,
        clock: Clock,
        metrics: Metrics,
        until: str | None = None,
        on_ready: Callable[[], None] | None = None,
        nonce: Callable[[], bytes] | None = None,
        started: float | None = None,
    ) -> None:
        # Producers first: a fresh idempotent one needs up to a second before its first ack.
        producers = Producers.create(cluster)
        admin = cluster.admin()
        layout = Layout(topology, _partition_counts(topology, admin))
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
            clock=clock,
            metrics=metrics,
            nonce=nonce or partial(os.urandom, 16),
            application=application_tag(topology.application_id),
            partitioners={
                topic: Partitioner(count) for topic, count in layout.partition_counts.items()
            },
        )
        self.groups: dict[int, TaskGroup] = {}
        self.is_stopping = False
        self._bounded = BoundedRun(self.context) if until == "end" else None
        self._on_ready = on_ready
        # Due time and since when, of groups that will claim again.
        self._restarts: dict[int, tuple[float, float]] = {}
        self._attempts: dict[int, int] = {}
        self._waiting_since = started
        self._is_paused = False
        self._commit_due = 0.0
        self._reporter = Reporter(self.context)
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
        return self._bounded is not None and self._bounded.is_over and self._has_released_all

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
        if context.scans.pump():
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
        if group is None or group.recovery is None or not group.tasks:
            return
        for message in messages:
            key = message.key()
            if key is not None and key_incarnation(key)[1] == CLAIM:
                self._guarded(number, group, partial(group.see_claim, message.offset()))

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
        if self._bounded is not None:
            self._bounded.tick(now)
            for group in self.groups.values():
                if group.is_ended and group.phase is Phase.LIVE:
                    group.begin_drain()
            if self._has_released_all:
                self._bounded.wait_for_end()
        self._balance(now)
        if now >= self._commit_due:
            self._commit_due = now + 1.0
            self._commit_inputs()
        if self._attempts and self.is_live:
            self._attempts.clear()
        if self._on_ready is not None and self.is_live:
            on_ready, self._on_ready = self._on_ready, None
            on_ready()
        self._reporter.tick(now, self.groups, is_stopping=self.is_stopping)

    def _balance(self, now: float) -> None:
        """Pause all inputs while too much is unacknowledged; resume when it has drained."""
        context = self.context
        config = context.config
        backlog = len(context.producers.data)
        backlog += sum(group.sink_backlog for group in self.groups.values())
        lineage = max((g.lineage.unacked_bytes for g in self.groups.values()), default=0)
        age = max((g.lineage.oldest_age_s(now) for g in self.groups.values()), default=0.0)
        share = max(
            backlog / BACKLOG_RECORDS_MAX,
            lineage / config.stash_bytes_max,
            age * 1000 / config.lineage_ack_timeout_ms,
        )
        if not self._is_paused and share >= 1:
            self._is_paused = True
            context.metrics.count("stalls")
            log.warning(
                "inputs paused until outputs and lineage are acknowledged",
                unacked_records=backlog,
                lineage_bytes=lineage,
                lineage_age_s=round(age, 1),
            )
            context.member.pause(self._consumed())
        elif self._is_paused and share < 0.5:
            self._is_paused = False
            log.info("inputs resumed")
            context.member.resume(self._consumed())

    def _consumed(self) -> list[Partition]:
        return [
            source.partition
            for group in self.groups.values()
            for task in group.tasks.values()
            for index, source in task.inputs.items()
            if task.stage.inputs[index].immediate_of is None
        ]

    def _commit_inputs(self) -> None:
        offsets = {
            source.partition: source.next_offset
            for group in self.groups.values()
            if group.phase is Phase.LIVE
            for task in group.tasks.values()
            for index, source in task.inputs.items()
            if task.stage.inputs[index].immediate_of is None
        }
        if offsets:
            self.context.member.commit(offsets)

    # -- membership ------------------------------------------------------------------------------

    def _assigned(self, numbers: list[int]) -> None:
        since, self._waiting_since = self._waiting_since, None
        if since is None:
            since = self.context.clock.monotonic()
        for number in numbers:
            if number not in self.groups and number not in self._restarts:
                self._begin(number, since)

    def _revoked(self, numbers: list[int]) -> None:
        log.info("task groups move to another worker", groups=sorted(numbers))
        for number in numbers:
            self._restarts.pop(number, None)
        self._drain([n for n in numbers if n in self.groups])
        for number in numbers:
            self._drop(number)

    def _lost(self, numbers: list[int]) -> None:
        log.warning("task groups were taken by another worker", groups=sorted(numbers))
        self.context.metrics.count("fenced", len(numbers))
        for number in numbers:
            self._restarts.pop(number, None)
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
        if self._is_paused:
            self._is_paused = False  # looked at anew, with what the new group consumes
            self.context.member.resume(self._consumed())

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

    def _drain(self, numbers: list[int]) -> bool:
        """Finish, checkpoint and release groups; returns whether all made it in time."""
        context = self.context
        groups = {n: self.groups[n] for n in numbers}
        for group in groups.values():
            group.begin_drain()
        deadline = context.clock.monotonic() + context.config.shutdown_timeout_ms / 1000
        is_released = True
        while any(g.phase is not Phase.RELEASED for g in groups.values()):
            now = context.clock.monotonic()
            if now >= deadline:
                log.warning("not all task groups could be released in time; they will be replayed")
                return False
            # What fails here may not end the worker: the group is given up either way, and a shared
            # producer is made anew by the next step.
            try:
                context.producers.poll()
                context.producers.lineage.flush(POLL_BUSY_S)
            except ProducerFailedError as error:
                log.warning("task groups not released; they will be replayed", reason=str(error))
                return False
            for number, group in list(groups.items()):
                try:
                    group.tick(now)
                except (IncarnationFencedError, ProducerFailedError) as error:
                    log.warning("task group not released", group=number, reason=str(error))
                    del groups[number]
                    is_released = False
        return is_released

    def close(self, *, is_graceful: bool = True) -> bool:
        """Stop: drain and release what is owned, leave the group, close all clients.

        Returns:
            Whether everything was released; if not, the next owner replays.
        """
        self.is_stopping = True
        is_released = False
        try:
            if is_graceful:
                is_released = self._drain(list(self.groups))
        finally:
            for number in list(self.groups):
                self._drop(number)
            config = self.context.config
            leave = config.instance_id is None or config.leave_on_stop
            self.context.member.close(leave=leave and is_graceful)
            if self.context.uncommitted is not None:
                self.context.uncommitted.close()
            self.context.scans.close()
            self.context.producers.close()
            self.context.admin.close()
        return is_released


def _partition_counts(topology: Topology, admin: Admin) -> dict[str, int]:
    wanted = [*topology.input_topics, *topology.internal_topics, *topology.output_topics]
    found = admin.describe(wanted)
    missing = [topic for topic in wanted if topic not in found]
    if missing:
        raise TopicMissingError(missing)
    return {topic: found[topic].partition_count for topic in wanted}
