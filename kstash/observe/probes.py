"""Whether a worker is alive and ready, from the status that its loop left last.

Alive is what makes progress, or has no need to: a probe that fails has the process started again,
which helps against what hangs and harms what only takes long. So a restore or replay that goes on
is alive, however long it takes, and while no broker answers nothing counts as standing still.
"""

from __future__ import annotations

from kstash.ports.status import WorkerStatus

AWAY_S = 10.0
"""After so long without an answer the cluster counts as away."""

SILENT_S = 5.0
"""After so long it is said that the cluster does not answer."""

RUNNING = ("live", "stopping")


class Probes:
    """Judges the statuses of one worker.

    Args:
        limit_s: how long nothing may move.
        now: monotonic seconds.
    """

    def __init__(self, limit_s: float, now: float) -> None:
        self._limit_s = limit_s
        self._here_since = now
        self._states: dict[int, str] = {}
        # When each group started over, the last time and the one before.
        self._restarts: dict[int, tuple[float, float]] = {}

    def note(self, status: WorkerStatus, now: float) -> None:
        """See what the loop left; in its thread."""
        if status.silent_seconds > AWAY_S:
            self._here_since = now
        for group in status.groups:
            before = self._states.get(group.number)
            if group.state == "restarting" and before != "restarting":
                last, _ = self._restarts.get(group.number, (float("-inf"), 0.0))
                self._restarts[group.number] = now, last
        self._states = {group.number: group.state for group in status.groups}

    def stalled(self, status: WorkerStatus, now: float, stuck_s: float) -> tuple[str, ...]:
        """What stands still, for people; empty when all is well.

        Args:
            status: what the loop left last.
            now: monotonic seconds.
            stuck_s: since the loop turned.
        """
        if stuck_s > self._limit_s:
            # What it left is old: it would accuse tasks of what the loop does.
            return (f"the loop has not turned for {stuck_s:.0f} s",)
        here_s = now - self._here_since
        reasons = []
        for task in status.tasks:
            seconds = min(task.stalled_seconds, here_s)
            if task.state == "live" and seconds > self._limit_s:
                reasons.append(
                    f"task {task.name} has had work and made no progress for {seconds:.0f} s"
                )
        for group in status.groups:
            waiting_s = min(group.waiting_seconds, here_s)
            if min(group.idle_seconds, here_s) > self._limit_s:
                reasons.append(
                    f"task group {group.number} is {group.state} and nothing has moved for "
                    f"{min(group.idle_seconds, here_s):.0f} s"
                )
            elif waiting_s > self._limit_s and self._starts_over(group.number, now):
                reasons.append(
                    f"task group {group.number} starts over again and again, and has not been "
                    f"live for {waiting_s:.0f} s"
                )
        return tuple(reasons)

    def _starts_over(self, number: int, now: float) -> bool:
        """Whether no attempt lasts for long; one that does may be a long replay."""
        _, before_last = self._restarts.get(number, (0.0, float("-inf")))
        return now - before_last <= self._limit_s


def waiting_for(status: WorkerStatus, reason: str | None) -> str | None:
    """What the worker cannot go on without, for people; None when it can.

    Args:
        status: what the loop left last.
        reason: why the cluster could not be reached, as far as anybody knows.
    """
    if status.silent_seconds < SILENT_S:
        return None
    text = f"Kafka does not answer since {status.silent_seconds:.0f} s"
    return f"{text}: {reason}" if reason else text


def unready(status: WorkerStatus, waits: str | None = None) -> tuple[str, ...]:
    """What does not run, for people; empty when all does.

    Args:
        status: what the loop left last.
        waits: what it waits for (`waiting_for`).
    """
    reasons = [] if status.state == "live" else [f"the worker is {status.state}"]
    if waits is not None:
        # Without its groups it counts as starting, however long it has been up.
        reasons = [waits, *(r for r in reasons if status.state != "starting")]
    reasons += [
        f"task {task.name} is {task.state}" for task in status.tasks if task.state != "live"
    ]
    reasons += [
        f"task group {group.number} is {group.state}"
        for group in status.groups
        if group.state not in RUNNING
    ]
    return tuple(reasons)
