"""Scans that share a pass, and tail scans that wait for each other."""

from __future__ import annotations

from collections.abc import Mapping

from kstash.ports.kafka import Headers, Message, Partition
from kstash.runtime.scan import GATHER_S, ScanJob, ScanService
from kstash.testing import ManualClock, MemoryCluster, MemoryKafka
from kstash.testing.kafka.consumers import MemoryConsumer

TAIL: Partition = ("out", 0)
RECORDS = 5


class CountingScanner(MemoryConsumer):
    """Counts the passes that are begun."""

    passes = 0

    def add(self, offsets: Mapping[Partition, int]) -> None:
        """Begin one."""
        self.passes += 1
        super().add(offsets)


class Tails:
    """Two task groups that recover and scan the same partition; notes what each has had."""

    def __init__(self) -> None:
        self.kafka = MemoryKafka(ManualClock(start_ms=0))
        self.kafka.create_topic("out", 1)
        producer = MemoryCluster(self.kafka, "app").marker_producer()
        for number in range(RECORDS):
            producer.produce("out", b"%d" % number, None, 0, None, 0, None)
            producer.poll()
        self.seen: dict[int, int] = {0: 0, 1: 0}
        self.done: list[int] = []
        self.scanner = CountingScanner(self.kafka)
        self.service = ScanService(self.scanner)
        for group in (0, 1):
            self.service.expect_tails(group)

    def submit(self, group: int, now: float) -> None:
        """A group comes to its scan."""

        def take(_message: Message, _headers: Headers) -> None:
            self.seen[group] += 1

        job = ScanJob({TAIL: (0, RECORDS)}, take, lambda: self.done.append(group))
        self.service.submit_tails(group, job, now)

    def pump(self, now: float) -> None:
        """Turn until nothing comes any more."""
        while self.service.pump(now):
            pass


def test_tail_scans_of_groups_that_recover_together_are_one_pass() -> None:
    """The first waits for the second; then both get every record of a single pass."""
    tails = Tails()
    tails.submit(0, 10.0)
    tails.pump(10.0 + GATHER_S / 2)
    assert tails.scanner.passes == 0
    assert tails.service.is_busy  # the loop does not sleep over it
    tails.submit(1, 10.0 + GATHER_S / 2)
    tails.pump(10.0 + GATHER_S / 2)
    assert tails.done == [0, 1]
    assert tails.seen == {0: RECORDS, 1: RECORDS}
    assert tails.scanner.passes == 1
    assert not tails.service.is_busy


def test_a_tail_scan_waits_for_others_for_a_moment_only() -> None:
    """A group whose predecessor holds up its fence holds up no other group's scan."""
    tails = Tails()
    tails.submit(0, 10.0)
    tails.pump(10.0 + GATHER_S)
    assert tails.done == [0]
    tails.submit(1, 20.0)
    tails.pump(20.0)
    assert tails.done == [0, 1]


def test_a_group_that_is_given_up_is_not_waited_for() -> None:
    """Nor is one that is alone."""
    tails = Tails()
    tails.submit(0, 10.0)
    tails.service.forget_tails(1)
    tails.pump(10.0)
    assert tails.done == [0]
