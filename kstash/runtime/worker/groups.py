"""The task groups of this process: as its membership gives them, begun, restarted, given up.

A group that is revoked finishes first, while the others go on; one whose incarnation is over begins
again after a pause.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Protocol

import structlog

from kstash.core.records import BoundedRun
from kstash.errors import (
    IncarnationFencedError,
    KafkaUnavailableError,
    ProducerFailedError,
    RecordRefusedError,
)
from kstash.ports.kafka import Membership
from kstash.runtime.context import Services
from kstash.runtime.group.group import TaskGroup
from kstash.runtime.group.phase import Phase
from kstash.runtime.recovery.attempt import RecoveryAttempt
from kstash.runtime.task.refusals import explain_refusal
from kstash.runtime.task.task import Task
from kstash.runtime.worker.bounded import RunFinder
from kstash.runtime.worker.failures import Failures
from kstash.runtime.worker.intake import Intake
from kstash.settings import derived
from kstash.settings.config import Config

MOVE_SHARE = 0.8
"""Longest drain of groups that move, of `max.poll.interval.ms`: a member that does not join again
within that is put out of the group when others come or go meanwhile."""

log = structlog.get_logger("kstash.worker")


class BeginGroup(Protocol):
    """Makes a task group, at the first step of its recovery."""

    def __call__(
        self,
        number: int,
        *,
        before_start: Callable[[RecoveryAttempt, Callable[[], None]], None],
        started: float,
    ) -> TaskGroup:
        """Make it; the arguments are those of `TaskGroup`."""


class Groups:
    """Begins, restarts, moves and gives up the task groups of one worker.

    Args:
        begin: makes a group.
        membership: gives groups to the worker, and takes them.
        config: settings.
        services: of the process.
        group_count: how many groups the application has.
        intake: lets all inputs flow when a group begins.
        bounded: says when a group of a bounded run may start; None: at once.
        started: monotonic seconds at which the process began: since then the groups that it is
            given first have been waiting. None: since they are given.
        admit: takes how many groups the worker has, and raises when it cannot have them.

    Attributes:
        running: the groups by number, from their first read of the lineage until they are given up.
        is_stopping: whether the worker stops: nothing begins any more.
    """

    def __init__(
        self,
        begin: BeginGroup,
        membership: Membership,
        *,
        config: Config,
        services: Services,
        group_count: int,
        intake: Intake,
        bounded: RunFinder | None = None,
        started: float | None = None,
        admit: Callable[[int], None] | None = None,
    ) -> None:
        self.running: dict[int, TaskGroup] = {}
        self.is_stopping = False
        self._begin_group = begin  # makes one; it may raise, and is tried again then
        self._membership = membership
        self._config = config
        self._services = services
        self._group_count = group_count
        self._intake = intake
        self._bounded = bounded
        # Taken by the first groups that are given; None from then on.
        self._waiting_since = started
        # Due time and since when, of groups that will claim again.
        self._restarts: dict[int, tuple[float, float]] = {}
        # Groups that move to another worker, and when they are given up at the latest.
        self._leaving: dict[int, float] = {}
        self._failures = Failures(services.nonce)
        self._admit = admit
        # Given by `join`, before there is any group.
        self._before_close: Callable[[Collection[Task]], None] = lambda _tasks: None
        # The most groups that `admit` was asked about.
        self._admitted = 0

    def join(self, before_close: Callable[[Collection[Task]], None]) -> None:
        """Become a member; from now on the membership gives groups and takes them.

        Args:
            before_close: is given the tasks of each group that is given up or starts over, while
                they are still open.
        """
        self._before_close = before_close
        self._membership.subscribe(
            on_assigned=self._assigned, on_revoked=self._revoked, on_lost=self._lost
        )

    @property
    def owned(self) -> set[int]:
        """Those that the membership gave, and did not ask back."""
        return {*self.running, *self._restarts} - self.leaving

    @property
    def leaving(self) -> set[int]:
        """Those that move to another worker, and are not given up yet."""
        return set(self._leaving)

    @property
    def has_restarts(self) -> bool:
        """Whether a group waits for its next attempt."""
        return bool(self._restarts)

    @property
    def is_live(self) -> bool:
        """Whether there are groups, and all of them are live."""
        if not self.running or self._restarts:
            return False
        return all(g.phase in (Phase.LIVE, Phase.DRAINING) for g in self.running.values())

    def tick(self, now: float) -> None:
        """Begin again and give up what is due.

        Raises:
            OpenFilesError: the worker cannot have as many groups as it was given.
        """
        count = len(self.running) + len(self._restarts)
        if self._admit is not None and count > self._admitted:
            self._admit(count)
            self._admitted = count
        for number, (due, since) in list(self._restarts.items()):
            if now >= due:
                del self._restarts[number]
                self._begin(number, since)
        self._release_drained(now)
        self._failures.look(self.running, now)

    def guarded(self, number: int, group: TaskGroup, action: Callable[[], None]) -> None:
        """Run a group's action; an incarnation that is over claims again after a pause.

        Raises:
            RecordRefusedError: no other attempt would do better.
            ProducerRefusedError: a refusal that has lasted too long (`Failures.pause_s`).
        """
        if self.running.get(number) is not group:
            return
        try:
            action()
        except IncarnationFencedError as error:
            self._services.metrics.count("fenced")
            self.restart(number, error)
        except RecordRefusedError as error:
            explain_refusal(error, group.tasks.values(), self._services.clock.time_ms())
            raise
        except (ProducerFailedError, KafkaUnavailableError) as error:
            self.restart(number, error)

    def restart(self, number: int, error: Exception) -> None:
        """End a group's incarnation and begin another one after a pause."""
        if self.is_stopping or number in self._leaving:
            log.warning("task group not released", group=number, reason=str(error))
            self._drop(number)
            self._give_up([number])
            return
        if isinstance(error, IncarnationFencedError):
            # The membership may be lost, which the client reports only after the answer.
            self._give_up(list(self._leaving))
        now = self._services.clock.monotonic()
        pause = self._failures.pause_s(number, error, now)
        log.warning(
            "task group starts over", group=number, pause_s=round(pause, 2), reason=str(error)
        )
        self._services.metrics.count("group_restarts", group=str(number))
        self._drop(number)
        self._restarts[number] = (now + pause, now)

    def begin_drain(self) -> None:
        """Stop: nothing begins any more, and all finish what they have."""
        self._restarts.clear()
        for group in list(self.running.values()):
            group.begin_drain()

    def drop_all(self) -> None:
        """Close all groups, finished or not."""
        with ExitStack() as stack:
            for number in list(self.running):
                stack.callback(self._drop, number)

    # -- membership ------------------------------------------------------------------------------

    def _assigned(self, numbers: list[int]) -> None:
        if self.is_stopping:
            return
        self._services.metrics.count("rebalances")
        since, self._waiting_since = self._waiting_since, None
        if since is None:
            since = self._services.clock.monotonic()
        for number in numbers:
            if number not in self.running and number not in self._restarts:
                self._begin(number, since)

    def _revoked(self, numbers: list[int]) -> None:
        """Begin to finish what moves; the other groups go on meanwhile."""
        log.info("task groups move to another worker", groups=sorted(numbers))
        self._services.metrics.count("rebalances")
        now = self._services.clock.monotonic()
        config = self._config
        poll_s = derived.poll_interval_s(config)
        deadline = now + min(config.shutdown_timeout_ms / 1000, poll_s * MOVE_SHARE)
        for number in numbers:
            self._restarts.pop(number, None)
            self._leaving[number] = deadline
            if number in self.running:
                self.running[number].begin_drain()
        self._release_drained(now)

    def _release_drained(self, now: float) -> None:
        """Give up the groups that move and are finished, or should be."""
        for number, deadline in list(self._leaving.items()):
            group = self.running.get(number)
            if group is not None and group.phase is not Phase.RELEASED:
                if now < deadline:
                    continue
                log.warning("task group not released", group=number, reason="shutdown_timeout_ms")
            self._give_up([number])

    def _give_up(self, numbers: list[int]) -> None:
        """Give up those of the groups that move; the next owner replays what is not finished."""
        moving = [number for number in numbers if self._leaving.pop(number, None) is not None]
        for number in moving:
            self._drop(number)
        if moving:
            self._membership.release(moving)

    def _lost(self, numbers: list[int]) -> None:
        log.warning("task groups lost with the membership", groups=sorted(numbers))
        self._services.metrics.count("fenced", len(numbers))
        self._services.metrics.count("rebalances")
        for number in numbers:
            self._restarts.pop(number, None)
            self._leaving.pop(number, None)
            self._drop(number)

    def _begin(self, number: int, since: float) -> None:
        if number >= self._group_count:
            return
        try:
            self.running[number] = self._begin_group(
                number, before_start=self._before_start, started=since
            )
        except KafkaUnavailableError as error:
            self.restart(number, error)
            return
        self._intake.look_anew(self.running)

    def _before_start(self, recovery: RecoveryAttempt, go_on: Callable[[], None]) -> None:
        bounded = self._bounded
        if bounded is None:
            go_on()
            return

        def known(run: BoundedRun) -> None:
            group = self.running.get(recovery.group)
            if group is not None and group.recovery is recovery:
                group.join_run(run.run, bounded.ends)
                go_on()

        bounded.wait(recovery, known)

    def _drop(self, number: int) -> None:
        group = self.running.pop(number, None)
        if group is not None:
            self._before_close(group.tasks.values())
            group.close()
