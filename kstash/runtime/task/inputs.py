"""What a task keeps of each input partition."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice

from kstash.core.determinants import InputPlace
from kstash.core.kinds import InputKind
from kstash.core.reader import ReaderState
from kstash.core.skips import NO_SKIPS, InputSkips
from kstash.core.watermark import InputTime
from kstash.errors import LocatedError
from kstash.ports.kafka import Partition
from kstash.runtime.decode import (
    BATCH_RECORDS,
    Events,
    add_place,
    decode_external,
    decode_ruled,
    record_of,
    without_head,
)
from kstash.runtime.pace import Pace
from kstash.runtime.task.waiting import Waiting
from kstash.topology.record import RecordOrigin


@dataclass(slots=True)
class TaskInput:
    """One input partition of a task.

    Attributes:
        partition: topic and number; fixed.
        kind: how the records are read.
        next_offset: the task's position: where the next record that it takes may be. That is after
            the last one that it has taken, and after what holds no record for it
            (`kstash.runtime.task.positions`).
        taken: where a merged batch has ended within the frame there, the index in it of the logical
            record to go on with; else 0.
        timestamp_ms: where it merges, the time of the last record taken; 0 before it.
        reader: the reader rule's state before `next_offset`; None for plain topics.
        skips: records that count and do nothing (H17), and what holds no events.
        buffer: consumed records that wait to be processed.
        time: how far event time has come in it; None: nobody says it with its records.
        pace: how many of them are taken at once.
        is_full: whether so many wait that the input is paused.
        left_from: of a bounded run, the first record that came and belongs to the next one.
        records: logical records that were processed.
        newest_timestamp: Unix milliseconds, of the last of them; 0 when there is none.
    """

    partition: Partition
    kind: InputKind
    next_offset: int
    reader: ReaderState | None
    skips: InputSkips = NO_SKIPS
    buffer: Waiting = field(default_factory=Waiting)
    time: InputTime | None = None
    pace: Pace = field(default_factory=Pace)
    is_full: bool = False
    left_from: int | None = None
    records: int = 0
    newest_timestamp: int = 0
    taken: int = 0
    timestamp_ms: int = 0

    @property
    def place(self) -> InputPlace:
        """Where it goes on, where the task merges."""
        return InputPlace(self.next_offset, self.taken, self.timestamp_ms)

    def take(self, count: int) -> Events:
        """Take buffered records that are at most `count` events, one or more records."""
        if self.reader is None:
            count = self.buffer.batch(min(count, self.pace.size))
            return decode_external(self.buffer.take(count), self.skips)
        # Dropped records and markers are no events: they do not count.
        events = decode_ruled(
            islice(self.buffer, self.buffer.batch(BATCH_RECORDS)),
            self.reader,
            is_frames=self.kind is InputKind.FRAMES,
            skips=self.skips,
            events_max=count,
            records_max=self.pace.size + self.taken,
            time=self.time,
        )
        self.buffer.take(events.taken)
        if self.taken and events.count:
            events, self.taken = without_head(events, self.taken, self.skips), 0
        return events

    def origin_of(self, events: Events, start: int, index: int) -> RecordOrigin | None:
        """Where a logical record was read that was `index` after record `start` of a batch."""
        found = record_of(events, start + index, self.skips)
        return None if found is None else RecordOrigin(*self.partition, *found)

    def add_place(self, error: LocatedError, events: Events, record_index: int) -> None:
        """Add to an error the place of a logical record of a batch of this input."""
        is_frames = self.kind is InputKind.FRAMES
        add_place(
            error, self.partition, events, record_index, skips=self.skips, is_frames=is_frames
        )
