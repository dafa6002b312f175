"""Whether a worker is alive and ready, from the last status that its loop has left.

A worker is alive when it makes progress, or has nothing to do. A failed probe restarts the process,
which helps one that hangs and harms one that only takes long. So a worker is alive during a restore
or replay that goes on, however long it takes; and while no broker answers, nothing counts as
standing still.
"""

from __future__ import annotations

from kstash.ports.status import WorkerStatus

AWAY_S = 10.0
"""After so long without an answer the cluster counts as unreachable."""

SILENT_S = 5.0
"""After so long without an answer the status names it as the reason."""

RUNNING = ("live", "stopping")


class Probes:
    """Judges the statuses of one worker.

    Args:
        limit_s: how long a task or group may make no progress.
        now: monotonic seconds.
    """

    def __init__(self, limit_s: float, now: float) -> None:
        self._limit_s = limit_s
        self._here_since = now
        self._states: dict[int, str] = {}
        # When each group last started over, and the time before.
        self._restarts: dict[int, tuple[float, float]] = {}

    def note(self, status: WorkerStatus, now: float) -> None:
        """Take the loop's status; called in the loop's thread."""
        if status.silent_seconds > AWAY_S:
            self._here_since = now
        for group in status.groups:
            before = self._states.get(group.number)
            if group.state == "restarting" and before != "restarting":
                last, _ = self._restarts.get(group.number, (float("-inf"), 0.0))
                self._restarts[group.number] = now, last
        self._states = {group.number: group.state for group in status.groups}

    def stalled(self, status: WorkerStatus, now: float, stuck_s: float) -> tuple[str, ...]:
        """What makes no progress, for people; empty when all is well.

        Args:
            status: the loop's last one.
            now: monotonic seconds.
            stuck_s: seconds since the last turn of the loop.
        """
        if stuck_s > self._limit_s:
            # The status is old: it would blame tasks for a loop that does not turn.
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
        """Whether attempts end soon, again and again; one that lasts may be a long replay."""
        _, before_last = self._restarts.get(number, (0.0, float("-inf")))
        return now - before_last <= self._limit_s


def waiting_for(status: WorkerStatus, reason: str | None) -> str | None:
    """What the worker waits for and cannot work without, for people; None when it can.

    Args:
        status: the loop's last one.
        reason: why the cluster could not be reached, where that is known.
    """
    if status.silent_seconds < SILENT_S:
        return None
    text = f"Kafka does not answer since {status.silent_seconds:.0f} s"
    return f"{text}: {reason}" if reason else text


def unready(status: WorkerStatus, waits: str | None = None) -> tuple[str, ...]:
    """What is not live, for people; empty when everything is.

    Args:
        status: the loop's last one.
        waits: what the worker waits for (`waiting_for`).
    """
    reasons = [] if status.state == "live" else [f"the worker is {status.state}"]
    if waits is not None:
        # A worker without its groups counts as starting, however long it has been up.
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
