"""Records of one input that a task which merges has read ahead of their turn.

What was read ahead is decoded, after the reader rule, and still waits in the input's buffer: the
input's place, and its reader state, are those of before the Kafka record whose turn is next, until
all of that was taken.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice, takewhile

from kstash.core.determinants import InputPlace
from kstash.core.kinds import InputKind
from kstash.core.reader import ReaderState
from kstash.errors import LocatedError
from kstash.operators.batch import Batch, concatenate
from kstash.operators.slices import slice_of
from kstash.runtime.decode import (
    BATCH_RECORDS,
    Events,
    decode_external,
    decode_ruled,
    read_event,
    record_of,
    records_below,
)
from kstash.runtime.task.inputs import TaskInput
from kstash.topology.record import RecordOrigin

TimesOf = Callable[[Batch], list[int | None]]
"""Unix milliseconds of each record of a batch, by which it is merged; None: it has none."""


@dataclass(slots=True)
class _Piece:
    """Kafka records that were decoded together.

    Attributes:
        events: what they amount to.
        times: of all logical records.
        first: how many of these were taken.
    """

    events: Events
    times: list[int | None]
    first: int

    @property
    def left(self) -> int:
        return len(self.times) - self.first


class ReadAhead:
    """What was read ahead of one input.

    Args:
        source: the input.
        times_of: gives the times of its records.
        dropped: counts records that count for nothing, by why.

    Attributes:
        count: logical records that were read and not taken.
    """

    def __init__(self, source: TaskInput, times_of: TimesOf, dropped: Counter[str]) -> None:
        self.source = source
        self.count = 0
        self._dropped = dropped
        self._times_of = times_of
        self._pieces: deque[_Piece] = deque()
        # Of the buffer's head, which these pieces are made of; and the reader state after them.
        self._messages = 0
        self._reader: ReaderState | None = None

    def read(self, most: int, *, within_bytes: bool = False) -> None:
        """Read on until `most` records are there, or all that waits is.

        Args:
            most: logical records; the last frame may bring more.
            within_bytes: read no more Kafka records than one batch may have by their size.

        Raises:
            WireCorruptError, SequenceGapError, TopicSharedError, RecordUnreadableError: naming
                topic, partition and offset.
        """
        buffer = self.source.buffer
        if not self._messages:
            buffer.drop_before(self.source.next_offset)
        end = buffer.batch(BATCH_RECORDS) if within_bytes and len(buffer) else len(buffer)
        while self.count < most and self._messages < end:
            self._read(min(end - self._messages, BATCH_RECORDS), most - self.count)
        if not self.count:
            self._pass(self._messages)

    @property
    def has_more(self) -> bool:
        """Whether more waits than what was read."""
        return self._messages < len(self.source.buffer)

    def times(self, most: int) -> list[int | None]:
        """Of what was read and not taken, in the order of the log, of `most` records at most."""
        times = (islice(piece.times, piece.first, None) for piece in self._pieces)
        return list(islice(chain.from_iterable(times), most))

    def head(self, count: int) -> Batch:
        """The first `count` records, one or more, as columns."""
        return concatenate(
            [slice_of(piece.events.batch, first, end) for piece, first, end in self._parts(count)]
        )

    def place_after(self, count: int, timestamp_ms: int) -> InputPlace:
        """Where the input goes on after the first `count` records, one or more.

        Args:
            count: at most those that were read.
            timestamp_ms: time of the last of them.
        """
        *_, (piece, _, end) = self._parts(count)
        skips = self.source.skips
        found = record_of(piece.events, end - 1, skips)
        assert found is not None
        offset, index = found
        following = record_of(piece.events, end, skips)
        has_more = following is not None and following[0] == offset
        # What a setting passes over is not at its end yet: more of it may be passed over later.
        if has_more or max(skips.parts.get(offset, (-1,))) > index:
            return InputPlace(offset, index + 1, timestamp_ms)
        return InputPlace(offset + 1, 0, timestamp_ms)

    def take(self, count: int, place: InputPlace) -> None:
        """The first `count` records are processed: the input goes on at `place`."""
        source = self.source
        self.count -= count
        for piece, _, end in list(self._parts(count)):
            piece.first = end
        while self._pieces and not self._pieces[0].left:
            self._pieces.popleft()
        source.next_offset, source.taken = place.offset, place.taken
        source.timestamp_ms = place.timestamp_ms
        waiting = islice(source.buffer, self._messages)
        passed = sum(1 for _ in takewhile(lambda m: m.offset() < place.offset, waiting))
        self._pass(passed if self.count else self._messages)

    def forget(self) -> None:
        """Nothing was read ahead any more: it waits in the buffer, as all else does."""
        self._pieces.clear()
        self.count = self._messages = 0
        self._reader = None

    def origin_of(self, index: int) -> RecordOrigin | None:
        """Where one of the records was read that were read and not taken."""
        piece, at = self._find(index)
        return self.source.origin_of(piece.events, 0, at)

    def add_place(self, error: LocatedError, index: int) -> None:
        """Add to an error the place of one of the records that were read and not taken."""
        piece, at = self._find(index)
        self.source.add_place(error, piece.events, at)

    def _find(self, index: int) -> tuple[_Piece, int]:
        """The piece that a record is in, and its index there."""
        for piece in self._pieces:
            if index < piece.left:
                return piece, piece.first + index
            index -= piece.left
        raise AssertionError("more records than were read")

    def _read(self, records: int, most: int) -> None:
        """Decode some more Kafka records, `records` at most."""
        source = self.source
        messages = islice(source.buffer, self._messages, self._messages + records)
        if source.reader is None:
            events = decode_external(list(islice(messages, most)), source.skips)
        else:
            if self._reader is None:
                self._reader = source.reader.copy()
            events = decode_ruled(
                messages,
                self._reader,
                is_frames=source.kind is InputKind.FRAMES,
                skips=source.skips,
                records_max=most,
            )
        if events.dropped is not None:
            self._dropped.update(events.dropped)
        self._messages += events.taken
        taken = 0
        if source.taken and events.offsets[:1] == [source.next_offset]:
            taken = records_below(events, source.taken, source.skips)
        self._pieces.append(_Piece(events, self._times_of(events.batch), taken))
        self.count += len(events.batch) - taken

    def _pass(self, messages: int) -> None:
        """The first Kafka records are done with: they wait no more, and their writers are known."""
        source = self.source
        taken = source.buffer.take(messages)
        self._messages -= messages
        if source.reader is not None:
            for message in taken:
                is_frames = source.kind is InputKind.FRAMES
                read_event(message, source.reader, is_frames=is_frames, skips=source.skips)
        if not self._messages:
            self._pieces.clear()
            self._reader = None
            if taken:
                source.next_offset, source.taken = taken[-1].offset() + 1, 0

    def _parts(self, count: int) -> Iterator[tuple[_Piece, int, int]]:
        """Which records of each piece are the first `count` that were not taken: from, to."""
        for piece in self._pieces:
            if not count:
                return
            size = min(count, piece.left)
            if size:
                yield piece, piece.first, piece.first + size
            count -= size
        assert not count, "more records than were read"
