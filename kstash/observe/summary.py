"""A line of the log each minute, for those who have only the log."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from kstash.observe.history import Counted
from kstash.ports.status import WorkerStatus

INTERVAL_S = 60.0
SHARE = 0.99

log = structlog.get_logger("kstash")


class Summary:
    """Logs what was done since the last line, and what is left.

    Args:
        metrics: of the worker.
        now: monotonic seconds.
    """

    def __init__(self, metrics: Counted, now: float) -> None:
        self._metrics = metrics
        self._since = now
        self._read = self._written = 0.0
        self._ages: dict[float, float] = {}

    def log_when_due(self, now: float, status: Callable[[], WorkerStatus]) -> None:
        """Log the line when a minute has passed; only then `status` is called."""
        passed_s = now - self._since
        if passed_s < INTERVAL_S:
            return
        self._since = now
        read, written = self._metrics.total("records_in"), self._metrics.total("records_out")
        ages = self._metrics.buckets("end_to_end_seconds")
        new = {bound: count - self._ages.get(bound, 0.0) for bound, count in ages.items()}
        found = status()
        lags = [task.lag for task in found.tasks if task.lag is not None]
        lags_s = [task.lag_seconds for task in found.tasks if task.lag_seconds is not None]
        checkpoints = [
            task.checkpoint_age_seconds
            for task in found.tasks
            if task.checkpoint_age_seconds is not None
        ]
        log.info(
            "the last minute",
            state=found.state,
            tasks=len(found.tasks),
            records_in_per_s=round((read - self._read) / passed_s, 1),
            records_out_per_s=round((written - self._written) / passed_s, 1),
            end_to_end_p99_s=quantile(new, SHARE),
            lag_records=sum(lags) if lags else None,
            lag_s=round(max(lags_s), 1) if lags_s else None,
            lineage_unacked_bytes=int(self._metrics.total("lineage_unacked_bytes")),
            checkpoint_age_s=round(max(checkpoints), 1) if checkpoints else None,
        )
        self._read, self._written, self._ages = read, written, ages


def quantile(buckets: dict[float, float], share: float) -> float | None:
    """The least bucket bound that so large a share of all durations is within.

    Args:
        buckets: how many were at most that long, by seconds; the last bound is infinity.
        share: 0 to 1.

    Returns:
        Seconds; None where there was none. Beyond the last finite bound it is that bound.
    """
    bounds = sorted(buckets)
    if not bounds or buckets[bounds[-1]] <= 0:
        return None
    wanted = share * buckets[bounds[-1]]
    first = next(bound for bound in bounds if buckets[bound] >= wanted)
    return first if first != float("inf") else max(bounds[:-1], default=None)
