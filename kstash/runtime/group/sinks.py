"""The sinks of one group: its transactional producers, and the commits beside the loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from kstash.core.ids import Incarnation, TaskId
from kstash.core.outputs import Outgoing
from kstash.core.plan import TaskPlan
from kstash.core.sink import CommitState, SinkCommitter
from kstash.core.task import TaskCore
from kstash.ports.kafka import SinkProducer
from kstash.runtime.context import Services
from kstash.runtime.task.sink_outputs import HandOver
from kstash.runtime.task.task import Task
from kstash.topology.model import Stage

POSITIONS_REFRESH_S = 24 * 3600.0
"""Offsets of an idle group expire after seven days: refresh them daily (H33)."""


class Sinks:
    """Produces sink outputs into the open transaction and commits it when due.

    What is made while a transaction is closed waits in a queue until its records are acknowledged,
    a few milliseconds; then the other producer takes over, and this one waits for stable lineage
    and commits (`core.sink`).

    Args:
        services: of the process.
        commit_interval_s: seconds between commits, unless one is urgent.
        producers: two, which take turns.
        committer: decides what may be committed when.
        tasks: of the group, by stage index; they are opened later.

    Attributes:
        waits_for_rest: whether a commit is due, and waits until no event is under way.
    """

    def __init__(
        self,
        services: Services,
        *,
        commit_interval_s: float,
        producers: Sequence[SinkProducer],
        committer: SinkCommitter,
        tasks: Mapping[int, Task],
    ) -> None:
        self._services = services
        self._commit_interval_s = commit_interval_s
        self._producers = producers
        # The one that outputs go to, and the one whose transaction is being committed.
        self._open = self._closing = 0
        self._committer = committer
        self._tasks = tasks
        self._queue: deque[tuple[int, Outgoing, HandOver]] = deque()
        self._queued_records = 0
        self._failure: Exception | None = None
        self.waits_for_rest = False
        now = services.clock.monotonic()
        self._commit_due = self._closed_s = now
        self._refresh_due = now + POSITIONS_REFRESH_S

    @property
    def backlog(self) -> int:
        """Records not yet acknowledged, or queued until a commit."""
        return self._queued_records + sum(map(len, self._producers))

    @property
    def is_committing(self) -> bool:
        """Whether a commit waits or is on its way."""
        return self._committer.state is not CommitState.OPEN

    @property
    def is_fresh(self) -> bool:
        """Whether nothing was committed yet: the first checkpoint waits for it (H33)."""
        return self._committer.is_fresh

    @property
    def is_settled(self) -> bool:
        """Whether all that was made is committed."""
        return self._committer.is_settled and not self._queue

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing waits for an acknowledgement or a commit, and none is due."""
        return not (
            self._queue
            or self._failure
            or self.is_committing
            or self._committer.is_due
            or any(map(len, self._producers))
        )

    def send(self, stage: int, outgoing: Outgoing, hand_over: HandOver) -> None:
        """Have an output of a stage produced, or queue it until the other producer takes over."""
        if not self._committer.admits(stage, outgoing.position):
            self._queue.append((stage, outgoing, hand_over))
            self._queued_records += outgoing.count
            return
        self._committer.on_sent(stage, outgoing.position)
        hand_over(outgoing, self._producers[self._open].produce)

    def tick(self, now: float, *, is_urgent: bool) -> None:
        """Serve callbacks, and commit when due, or as soon as possible when that is urgent.

        Raises:
            ProducerFailedError, IncarnationFencedError: the group must start over.
        """
        for producer in self._producers:
            producer.poll()
        if self._failure is not None:
            raise self._failure
        committer = self._committer
        if now >= self._refresh_due:
            self._refresh_due = now + POSITIONS_REFRESH_S
            committer.refresh()
        cores = {stage: task.core for stage, task in self._tasks.items()}
        is_due = committer.is_due and (now >= self._commit_due or is_urgent)
        self.waits_for_rest = is_due and not committer.may_close(cores)
        if is_due and not self.waits_for_rest:
            self._commit_due = now + self._commit_interval_s
            committer.close()
            self._closed_s = now
            self._closing = self._open
        if committer.state is CommitState.CLOSING:
            self._close(cores)

    def _close(self, cores: Mapping[int, TaskCore]) -> None:
        committer = self._committer
        closing = self._producers[self._closing]
        if committer.may_switch(cores, len(closing)):
            committer.switch()
            self._open = 1 - self._closing
            self._send_queued()
        if committer.may_commit(cores):
            closing.commit(committer.commit(), self._committed)

    def _committed(self, error: Exception | None) -> None:
        if error is not None:
            self._failure = error
            return
        for stage, position in self._committer.on_committed().items():
            self._tasks[stage].core.on_committed(position)
        metrics = self._services.metrics
        metrics.count("commits")
        metrics.observe("commit_seconds", self._services.clock.monotonic() - self._closed_s)
        self._send_queued()

    def _send_queued(self) -> None:
        queue, self._queue = self._queue, deque()
        self._queued_records = 0
        for stage, outgoing, hand_over in queue:
            self.send(stage, outgoing, hand_over)


class SinkRoute:
    """The way of one task's outputs through the transactions of its group."""

    def __init__(self, sinks: Sinks, stage: int) -> None:
        self._sinks = sinks
        self._stage = stage

    def send(self, outgoing: Outgoing, hand_over: HandOver) -> None:
        """Hand it over to the producer whose transaction is open, or when there is one."""
        self._sinks.send(self._stage, outgoing, hand_over)


def committer_of(
    incarnation: Incarnation, group: int, stages: Iterable[Stage], plans: Mapping[TaskId, TaskPlan]
) -> SinkCommitter:
    """The committer of an incarnation, which goes on from where its predecessors came to.

    Args:
        incarnation: of the group.
        group: its number.
        stages: of its tasks.
        plans: of its tasks.
    """
    committed = {
        stage.index: plans[TaskId(stage.index, group)].committed for stage in stages if stage.sinks
    }
    return SinkCommitter(incarnation.generation, committed)
