"""How much a task takes at once, so that a batch is short and small whatever the functions do.

Between batches outputs leave, transactions are committed, the membership is kept and signals are
heard; within one none of it happens. And what a batch makes is in memory at once. So a batch is
bounded by time and by bytes. How many records that are is known from the batches before.
"""

from __future__ import annotations

import structlog

from kstash.runtime.decode import BATCH_RECORDS
from kstash.settings import derived
from kstash.settings.config import Config

BATCH_S = 0.05
"""What a batch may take: long against what a batch costs by itself, short for all who wait."""

MADE_BYTES = 8 * 1024 * 1024
"""What a batch may make: many requests' worth, and little against what a worker takes anyway."""

FORGET_S = 60.0
"""Time in which half of the longest batch is forgotten."""

SLOW_RECORD_S = 0.02
"""Seconds a record from which on a function is called slow: a worker does 50 a second of them."""

WARN_INTERVAL_S = 600.0
"""Pause between two warnings about one operator."""

log = structlog.get_logger("kstash.pace")


class Pace:
    """The next batch of one input of one task, sized by what the last ones took.

    It begins with a single record and doubles while batches are quick: what is slow from the
    beginning never takes more at once than it can do, and what is quick is at full size after
    eleven batches.

    Attributes:
        size: logical records that the next batch should hold, 1 to `BATCH_RECORDS`.
    """

    def __init__(self) -> None:
        self.size = 1
        self._longest_s = self._longest_at = 0.0

    def took(self, records: int, seconds: float) -> None:
        """Take note of records that were processed at once."""
        if seconds > BATCH_S:
            self.size = max(1, min(self.size, int(records * BATCH_S / seconds)))
        elif seconds <= BATCH_S / 2 and records >= self.size:
            self.size = min(2 * self.size, BATCH_RECORDS)

    def made(self, records: int, size_bytes: int) -> None:
        """Take note of what a batch of so many records has made, after `took`."""
        if self.size * size_bytes > MADE_BYTES * records:
            self.size = max(1, records * MADE_BYTES // size_bytes)

    def lasted(self, seconds: float, now: float) -> None:
        """Take note of a whole batch, which ended at `now`."""
        if seconds > BATCH_S and seconds >= self.longest_s(now):
            self._longest_s, self._longest_at = seconds, now

    def longest_s(self, now: float) -> float:
        """Seconds that the next batch may take: as the longest one of late, which fades."""
        if not self._longest_s:
            return 0.0
        return float(self._longest_s * 0.5 ** ((now - self._longest_at) / FORGET_S))


class Paces:
    """The paces of a worker, which outlive incarnations: a group that starts over knows them.

    Args:
        config: of the worker.
    """

    def __init__(self, config: Config) -> None:
        self._limit_s = derived.poll_interval_s(config)
        self._paces: dict[tuple[int, int, int], Pace] = {}
        self._warn_due: dict[str, float] = {}

    def of(self, stage: int, partition: int, input_index: int) -> Pace:
        """That of one input of a task."""
        return self._paces.setdefault((stage, partition, input_index), Pace())

    def look(self, operator: str, records: int, seconds: float, now: float) -> None:
        """Warn about an operator that is slow, once in a while.

        Args:
            operator: its name and place in the program.
            records: those that it was given.
            seconds: what it took for them.
            now: monotonic seconds.
        """
        record_s = seconds / max(records, 1)
        if record_s < SLOW_RECORD_S or seconds < BATCH_S or now < self._warn_due.get(operator, now):
            return
        self._warn_due[operator] = now + WARN_INTERVAL_S
        log.warning(
            "a function is slow",
            operator=operator,
            seconds_a_record=float(f"{record_s:.2g}"),
            records=records,
            longest_allowed_s=self._limit_s,
        )
