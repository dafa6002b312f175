"""Reports what a recovery waits for when nothing moves, and restarts it after a deadline.

Every wait of a recovery ends by itself (acknowledgements by the producers' deadlines, requests by
those of the admin) but two: a scan or a replay whose records do not come, and the restore of files
by a store that hangs. So the first two start over with clients that ask anew; a restore has its own
progress lines and may take as long as it takes.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from kstash.core.group_state import GroupState
from kstash.errors import KafkaUnavailableError
from kstash.runtime.recovery.attempt import RecoveryAttempt
from kstash.runtime.task.task import Task

WAIT_SHOWN_S = 10.0
"""Time without progress after which each further one of these is logged."""

WAIT_MAX_S = 120.0
"""Time without progress after which a scan or replay starts over: brokers elect leaders, and
clients find them anew, within a fraction of it."""

GIVES_UP = frozenset(
    {
        GroupState.READING,
        GroupState.READING_CLAIM,
        GroupState.READING_SEAL,
        GroupState.READING_CONFIG,
        GroupState.SCANNING,
        GroupState.LOCATING,
        GroupState.REPLAYING,
    }
)

log = structlog.get_logger("kstash.recovery")


class Watchdog:
    """Watches one recovery."""

    def __init__(self, now: float) -> None:
        self._seen: object = None
        self._since = self._shown = self._looked = now

    def look(self, now: float, recovery: RecoveryAttempt, tasks: Mapping[int, Task]) -> None:
        """See whether anything has moved since the last check.

        Time in which the worker did something else, a long batch, does not count.

        Raises:
            KafkaUnavailableError: a scan or replay got nothing for `WAIT_MAX_S`.
        """
        missed_s, self._looked = now - self._looked, now
        if missed_s > WAIT_SHOWN_S:
            self._since += missed_s
            self._shown += missed_s
        replayed = [
            (task.parts, *(s.next_offset + len(s.buffer) for s in task.inputs.values()))
            for task in tasks.values()
        ]
        seen = recovery.state, recovery.scanned, replayed
        if seen != self._seen:
            self._seen = seen
            self._since = self._shown = now
            return
        if now - self._shown < WAIT_SHOWN_S:
            return
        self._shown = now
        waited_s = round(now - self._since, 1)
        what = waits_for(recovery, tasks)
        log.warning(
            "a recovery makes no progress",
            group=recovery.group,
            step=recovery.state.value,
            seconds=waited_s,
            waits_for=what,
        )
        if waited_s >= WAIT_MAX_S and recovery.state in GIVES_UP:
            raise KafkaUnavailableError(
                f"the recovery of task group {recovery.group} got nothing for {waited_s:g} s, "
                f"{recovery.state.value}; it waits for {what}"
            )


def waits_for(recovery: RecoveryAttempt, tasks: Mapping[int, Task]) -> str:
    """What a recovery needs next, for people."""
    if recovery.state is GroupState.REPLAYING:
        return ", ".join(
            "record {2} of {0}[{1}] for task {3}".format(
                *task.inputs[index].partition, task.inputs[index].next_offset, task.name
            )
            for task in tasks.values()
            for index in task.wanted_inputs()
        )
    scans = [
        f"records {at} to {job.ranges[topic, number][1]} of {topic}[{number}]"
        for job in recovery.jobs
        for (topic, number), at in job.next_offsets.items()
    ]
    return ", ".join(scans) or "the end of this step"
