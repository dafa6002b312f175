"""Threads for work that waits for disks, stores and brokers, such as uploads and restores.

They are daemon threads: a store that does not answer must not hold up the end of the process.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kstash.ports.process import Job, JobCancelledError

T = TypeVar("T")

LANES = {"restore": 4, "upload": 1, "ask": 1}
"""Threads of each lane. A single one uploads: that keeps the files of a checkpoint together in the
store, and bounds what uploads take from the processing."""

CLOSE_DEADLINE_S = 2.0
"""How long jobs may take to notice that they are cancelled; the others end with the process."""


@dataclass(slots=True)
class ThreadJob:
    """`kstash.ports.process.Job` in a thread."""

    work: Callable[[Job], Any]
    on_done: Callable[[Any, Exception | None], None]
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def is_cancelled(self) -> bool:
        """Whether the result is no longer wanted."""
        return self.cancelled.is_set()

    def cancel(self) -> None:
        """Note that the result is no longer wanted."""
        self.cancelled.set()

    def pause(self, seconds: float) -> None:
        """Wait, unless the job is cancelled: then raise `JobCancelledError`."""
        if self.cancelled.wait(seconds):
            raise JobCancelledError


class Threads:
    """`kstash.ports.process.Background` over daemon threads that start with a lane's first job."""

    def __init__(self) -> None:
        self._lanes: dict[str, queue.SimpleQueue[ThreadJob | None]] = {}
        self._threads: list[threading.Thread] = []
        self._unfinished: list[ThreadJob] = []
        # Appends and pops of a deque are atomic: threads append, the loop pops.
        self._done: deque[tuple[ThreadJob, Any, Exception | None]] = deque()

    def submit(
        self,
        lane: str,
        work: Callable[[Job], T],
        on_done: Callable[[T | None, Exception | None], None],
    ) -> Job:
        """Run `work` in a thread of the lane; `on_done` is called by `poll`."""
        if lane not in self._lanes:
            self._start(lane)
        job = ThreadJob(work, on_done)
        self._unfinished.append(job)
        self._lanes[lane].put(job)
        return job

    def poll(self) -> None:
        """Report finished jobs to their owners; an owner raises errors that it does not handle."""
        while self._done:
            job, result, error = self._done.popleft()
            self._unfinished.remove(job)
            if not job.is_cancelled:
                job.on_done(result, error)

    def close(self) -> None:
        """Cancel everything and wait a little for the threads."""
        for job in self._unfinished:
            job.cancel()
        for lane, jobs in self._lanes.items():
            for _ in range(LANES[lane]):
                jobs.put(None)
        deadline_s = time.monotonic() + CLOSE_DEADLINE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))

    def _start(self, lane: str) -> None:
        jobs: queue.SimpleQueue[ThreadJob | None] = queue.SimpleQueue()
        self._lanes[lane] = jobs
        for number in range(LANES[lane]):
            thread = threading.Thread(
                target=self._run, args=(jobs,), name=f"kstash-{lane}-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _run(self, jobs: queue.SimpleQueue[ThreadJob | None]) -> None:
        while (job := jobs.get()) is not None:
            result: Any = None
            failure: Exception | None = None
            try:
                if not job.is_cancelled:
                    result = job.work(job)
            except Exception as error:
                failure = error  # raised, or handled, by the owner on the loop
            self._done.append((job, result, failure))
