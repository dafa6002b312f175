"""Frames with event times as batches: the input's time at each record, and no control records."""

from __future__ import annotations

from collections.abc import Sequence

from kstash.core.frames import encode_frame
from kstash.core.ids import Incarnation, TaskId
from kstash.core.reader import ReaderState
from kstash.core.skips import InputSkips
from kstash.core.watermark import BEFORE_ALL_MS, InputTime
from kstash.core.wire import IDENTITY_HEADER
from kstash.runtime.decode import Events, decode_ruled
from kstash.testing.kafka.log import MemoryRecord
from tests.unit.core_cases import APP, identity

INC = Incarnation(1, 1)
ONE, TWO = TaskId(0, 0), TaskId(0, 1)
NO_SKIPS = InputSkips(frozenset())


def table() -> ReaderState:
    """A reader that knows both writers."""
    return ReaderState(max_incarnation={(APP, 0): INC, (APP, 1): INC})


def frame(
    offset: int,
    task: TaskId,
    first: int,
    times: Sequence[int] | None,
    controls: Sequence[int] = (),
    count: int | None = None,
) -> MemoryRecord:
    """A frame of a writer."""
    count = len(times) if times is not None else count or 1
    keys: list[bytes | None] = [
        None if i in controls else b"k%d" % (first + i) for i in range(count)
    ]
    value = encode_frame(keys, None, [1] * count, None, times, controls)
    header = identity(INC, first, count, task=task).encode()
    return MemoryRecord(
        "t", 0, offset, key=None, value=value, headers=[(IDENTITY_HEADER, header)], timestamp_ms=0
    )


def decoded(
    *frames: MemoryRecord, reader: ReaderState | None = None, skips: InputSkips = NO_SKIPS
) -> Events:
    """As one batch."""
    reader = reader or table()
    time = InputTime(reader, APP, [ONE, TWO])
    return decode_ruled(frames, reader, is_frames=True, skips=skips, time=time)


def test_each_record_has_the_time_of_its_input() -> None:
    """The smallest over its writers, with what its own frame has said up to it."""
    events = decoded(frame(0, ONE, 1, [5, 9]), frame(1, TWO, 1, [3, 12]), frame(2, ONE, 3, [20]))
    assert events.batch.times == [BEFORE_ALL_MS, BEFORE_ALL_MS, 3, 9, 12]
    assert events.end_time == 12


def test_control_records_are_events_and_no_records() -> None:
    """What they say counts all the same, also where nothing follows."""
    events = decoded(
        frame(0, ONE, 1, [5]), frame(1, TWO, 1, [30], [0]), frame(2, ONE, 2, [7, 8], [1])
    )
    assert (events.count, events.sizes) == (3, [1, 0, 1])
    assert events.batch.keys == [b"k1", b"k2"]
    assert events.batch.times == [BEFORE_ALL_MS, 7]
    assert events.end_time == 8


def test_what_came_before_says_nothing() -> None:
    """A repeat at the head of a frame, and a frame that is dropped."""
    reader = table()
    decoded(frame(0, ONE, 1, [5]), frame(1, TWO, 1, [50]), reader=reader)
    events = decoded(frame(2, ONE, 1, [4, 60]), frame(3, ONE, 1, [99]), reader=reader)
    assert (events.batch.keys, events.batch.times, events.end_time) == ([b"k2"], [50], 50)
    assert reader.times == {(APP, ONE): 60, (APP, TWO): 50}


def test_without_the_mode_control_records_are_left_out_too() -> None:
    """A drain may leave them, for a program that knows no times of writers."""
    reader = table()
    frames = [frame(0, ONE, 1, [5, 6], [1])]
    events = decode_ruled(frames, reader, is_frames=True)
    assert (events.batch.keys, events.batch.times, events.end_time) == ([b"k1"], None, None)
    assert reader.times == {}


def test_a_frame_without_times_holds_its_writer_back() -> None:
    """One that was written before the mode."""
    events = decoded(frame(0, TWO, 1, [5]), frame(1, ONE, 1, None, count=2))
    assert events.batch.times == [BEFORE_ALL_MS] * 3


def test_a_skipped_record_of_a_frame_takes_no_other_ones_time() -> None:
    """Times stay with their records."""
    skips = InputSkips(frozenset(), parts={1: frozenset({0})})
    events = decoded(frame(0, TWO, 1, [50]), frame(1, ONE, 1, [5, 7]), skips=skips)
    assert (events.batch.keys[1:], events.batch.times) == ([b"k2"], [BEFORE_ALL_MS, 7])
