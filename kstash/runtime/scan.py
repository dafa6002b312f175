"""Reads of lineage partitions and output tails during recovery, by one scan consumer.

Jobs that are submitted together and touch the same partitions share one pass over them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kstash.ports import Message, Partition, Scanner


@dataclass(slots=True)
class ScanJob:
    """Read each partition of `ranges` from its start offset up to its end offset (exclusive).

    `on_message` gets every record of the ranges in order per partition; `on_done` is called once.
    """

    ranges: Mapping[Partition, tuple[int, int]]
    on_message: Callable[[Message], None]
    on_done: Callable[[], None]
    is_cancelled: bool = False
    open: set[Partition] = field(default_factory=set)


class ScanService:
    """Runs scan jobs, a slice at each `pump`."""

    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner
        self._waiting: list[ScanJob] = []
        self._running: dict[Partition, list[ScanJob]] = {}

    @property
    def is_busy(self) -> bool:
        """Whether any job is waiting or running."""
        return bool(self._waiting or self._running)

    def submit(self, job: ScanJob) -> None:
        """Queue a job."""
        job.open = {p for p, (start, end) in job.ranges.items() if start < end}
        self._waiting.append(job)

    def pump(self, timeout_s: float) -> None:
        """Start what can start, then take what is there; calls the jobs' callbacks."""
        self._start_waiting()
        if not self._running:
            return
        for message in self._scanner.poll(timeout_s):
            partition = message.topic(), message.partition()
            offset = message.offset()
            for job in self._running.get(partition, ()):
                start, end = job.ranges[partition]
                if start <= offset < end and not job.is_cancelled:
                    job.on_message(message)
        self._finish()

    def close(self) -> None:
        """Close the scan consumer."""
        self._scanner.close()

    def _start_waiting(self) -> None:
        starting: dict[Partition, list[ScanJob]] = {}
        kept: list[ScanJob] = []
        for job in self._waiting:
            if job.is_cancelled:
                continue
            if not job.open:
                job.on_done()
            elif any(partition in self._running for partition in job.open):
                kept.append(job)  # its partitions are being read further on: wait for the next pass
            else:
                for partition in job.open:
                    starting.setdefault(partition, []).append(job)
        self._waiting = kept
        if starting:
            self._running.update(starting)
            self._scanner.add(
                {p: min(job.ranges[p][0] for job in jobs) for p, jobs in starting.items()}
            )

    def _finish(self) -> None:
        finished: list[Partition] = []
        done: list[ScanJob] = []
        for partition, jobs in self._running.items():
            position = self._scanner.position(partition)
            for job in jobs[:]:
                if position >= job.ranges[partition][1] or job.is_cancelled:
                    jobs.remove(job)
                    job.open.discard(partition)
                    if not job.open and not job.is_cancelled:
                        done.append(job)
            if not jobs:
                finished.append(partition)
        if finished:
            for partition in finished:
                del self._running[partition]
            self._scanner.remove(finished)
        for job in done:
            job.on_done()
