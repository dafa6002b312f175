"""Background jobs without threads: each is done by a `poll`, so that runs repeat themselves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from kstash.ports.process import Job, JobCancelledError

T = TypeVar("T")


class ManualJob:
    """`kstash.ports.process.Job` that `ManualBackground` does; a pause takes no time."""

    def __init__(
        self,
        lane: str,
        work: Callable[[Job], Any],
        on_done: Callable[[Any, Exception | None], None],
    ) -> None:
        self.lane = lane
        self.work = work
        self.on_done = on_done
        self.paused_s = 0.0
        self._is_cancelled = False

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody wants the result any more."""
        return self._is_cancelled

    def cancel(self) -> None:
        """Say so."""
        self._is_cancelled = True

    def pause(self, seconds: float) -> None:
        """Add to `paused_s`."""
        if self._is_cancelled:
            raise JobCancelledError
        self.paused_s += seconds


class ManualBackground:
    """`kstash.ports.process.Background` that does what is waiting inside `poll`.

    Args:
        on_activity: called for every job that is done.

    Attributes:
        held_lanes: jobs of these lanes wait, as if they took long.
        jobs: what is waiting, oldest first.
    """

    def __init__(self, on_activity: Callable[[], None] = lambda: None) -> None:
        self.held_lanes: set[str] = set()
        self.jobs: deque[ManualJob] = deque()
        self._on_activity = on_activity

    def submit(
        self,
        lane: str,
        work: Callable[[Job], T],
        on_done: Callable[[T | None, Exception | None], None],
    ) -> Job:
        """Queue a job."""
        job = ManualJob(lane, work, on_done)
        self.jobs.append(job)
        return job

    def poll(self) -> None:
        """Do the waiting jobs, and report them to their owners."""
        for _ in range(len(self.jobs)):
            job = self.jobs.popleft()
            if job.lane in self.held_lanes:
                self.jobs.append(job)
                continue
            if job.is_cancelled:
                continue
            self._on_activity()
            result: Any = None
            failure: Exception | None = None
            try:
                result = job.work(job)
            except Exception as error:
                failure = error
            if not job.is_cancelled:
                job.on_done(result, failure)

    def close(self) -> None:
        """Forget all jobs."""
        self.jobs.clear()
