"""Reads of lineage partitions and output tails during recovery, by one scan consumer.

Jobs that are submitted together and touch the same partitions share one pass over them. So tail
scans wait for those of the other task groups that recover, for a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kstash.ports.kafka import Consumer, Headers, Message, Partition
from kstash.runtime.headers import readable_headers

GATHER_S = 0.2
"""How long the first tail scan waits for others at the most. Groups that were claimed together come
to their scans within some 50 ms, as fast as the coordinators answer their sinks; one pass over the
tails takes as long or longer, and reads of lineage would wait for it."""


@dataclass(slots=True)
class ScanJob:
    """Read each partition of `ranges` from its start offset up to its end offset (exclusive).

    `on_message` gets every record of the ranges with its headers, in order per partition; `on_done`
    is called once.
    """

    ranges: Mapping[Partition, tuple[int, int]]
    on_message: Callable[[Message, Headers], None]
    on_done: Callable[[], None]
    is_cancelled: bool = False
    next_offsets: dict[Partition, int] = field(default_factory=dict)


class ScanService:
    """Runs scan jobs, a slice at each `pump`.

    Args:
        scanner: reads.
        gaps: (first, last) offsets by partition of what cannot be read, and is passed over.
    """

    def __init__(
        self, scanner: Consumer, gaps: Mapping[Partition, Sequence[tuple[int, int]]] | None = None
    ) -> None:
        self._scanner = scanner
        self._scanner.pass_over(gaps or {})
        self._waiting: list[ScanJob] = []
        self._expected: set[int] = set()
        self._gathered: list[ScanJob] = []
        self._gathers_until = 0.0
        self._running: dict[Partition, list[ScanJob]] = {}

    @property
    def is_busy(self) -> bool:
        """Whether any job is waiting or running."""
        return bool(self._waiting or self._gathered or self._running)

    def expect_tails(self, group: int) -> None:
        """A task group begins to recover, and will scan its tails unless it is forgotten."""
        self._expected.add(group)

    def forget_tails(self, group: int) -> None:
        """A task group will not scan its tails, or not again."""
        self._expected.discard(group)

    def submit_tails(self, group: int, job: ScanJob, now: float) -> None:
        """Queue the tail scan of a group; it begins with those that are expected soon.

        Args:
            group: which is not expected any more.
            job: what to read.
            now: monotonic seconds.
        """
        self._expected.discard(group)
        if not self._gathered:
            self._gathers_until = now + GATHER_S
        self._gathered.append(job)

    def submit(self, job: ScanJob) -> None:
        """Queue a job."""
        job.next_offsets = {p: start for p, (start, end) in job.ranges.items() if start < end}
        self._waiting.append(job)

    def pump(self, now: float) -> bool:
        """Start what is waiting, then take what is there; calls the jobs' callbacks.

        Args:
            now: monotonic seconds.

        Returns:
            Whether there was anything: then there may be more at once.
        """
        if self._gathered and (not self._expected or now >= self._gathers_until):
            gathered, self._gathered = self._gathered, []
            for job in gathered:
                self.submit(job)
        self._start_waiting()
        if not self._running:
            return False
        messages = self._scanner.poll(0.0)
        for message in messages:
            partition = message.topic(), message.partition()
            offset = message.offset()
            # Decoded once for all jobs: the dearest part of a scan.
            headers = readable_headers(message)
            for job in self._running.get(partition, ()):
                if job.next_offsets[partition] <= offset < job.ranges[partition][1]:
                    job.next_offsets[partition] = offset + 1
                    if not job.is_cancelled:
                        job.on_message(message, headers)
        self._finish()
        return bool(messages)

    def close(self) -> None:
        """Close the scan consumer."""
        self._scanner.close()

    def _start_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        starts: dict[Partition, int] = {}
        for job in waiting:
            if job.is_cancelled:
                continue
            if not job.next_offsets:
                job.on_done()
            for partition, start in job.next_offsets.items():
                if partition not in self._running:
                    self._running[partition] = []
                else:
                    # A partition that another job of this turn begins has no position yet.
                    at = starts.get(partition)
                    if start >= (self._scanner.position(partition) if at is None else at):
                        self._running[partition].append(job)
                        continue
                # A partition that is read further on goes back; the other jobs skip what they had.
                self._running[partition].append(job)
                starts[partition] = min(start, starts.get(partition, start))
        if starts:
            self._scanner.add(starts)

    def _finish(self) -> None:
        finished: list[Partition] = []
        done: list[ScanJob] = []
        for partition, jobs in self._running.items():
            position = self._scanner.position(partition)
            for job in jobs[:]:
                if position >= job.ranges[partition][1] or job.is_cancelled:
                    jobs.remove(job)
                    del job.next_offsets[partition]
                    if not job.next_offsets and not job.is_cancelled:
                        done.append(job)
            if not jobs:
                finished.append(partition)
        if finished:
            for partition in finished:
                del self._running[partition]
            self._scanner.remove(finished)
        for job in done:
            job.on_done()
