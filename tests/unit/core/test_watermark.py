"""Event time as the smallest over the upstream tasks. Source: protocol, section 3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstash.core.ids import Incarnation, TaskId
from kstash.core.reader import ReaderState
from kstash.core.watermark import (
    AFTER_ALL_MS,
    BEFORE_ALL_MS,
    EventTimes,
    InputTime,
    Quiet,
    SaidTimes,
    TaskEventTime,
    TaskTime,
)
from kstash.core.wire import End, Fence, Identity
from kstash.errors import WireCorruptError

APP = 7
ONE, TWO = TaskId(0, 0), TaskId(0, 1)
OUT = 0, 3


def input_of(reader: ReaderState | None = None) -> InputTime:
    """An input that two tasks write."""
    return InputTime(reader or ReaderState(), APP, [ONE, TWO])


def end_of_run(reader: ReaderState, task: TaskId, run: int) -> None:
    """A task says END without having written anything of a run."""
    incarnation = Incarnation(1, 5)
    reader.mark(Fence(APP, ((task.partition, incarnation),)))
    reader.mark(End(APP, run, task, incarnation, reader.last_seq.get((APP, task), 0), 1))


def test_an_input_is_as_far_as_its_slowest_writer() -> None:
    """Each record has the time that holds at it: its writer's, unless another one is behind."""
    time = input_of()
    assert time.hear(ONE, [5, 9]) == [BEFORE_ALL_MS, BEFORE_ALL_MS]
    assert time.hear(TWO, [3, 7, 20]) == [3, 7, 9]
    assert time.hear(ONE, [15]) == [15]
    assert time.slowest() == (ONE, 15)
    assert time.newest_ms() == 20


def test_a_writer_never_heard_of_holds_back() -> None:
    """It may only be slow: nobody is left out for being silent."""
    time = input_of()
    assert time.newest_ms() == BEFORE_ALL_MS
    assert time.hear(ONE, [100]) == [BEFORE_ALL_MS]
    assert time.slowest() == (TWO, BEFORE_ALL_MS)
    assert time.newest_ms() == 100


def test_the_only_writer_is_the_input() -> None:
    """A stage of one task."""
    time = InputTime(ReaderState(), APP, [ONE])
    assert time.hear(ONE, [1, 4]) == [1, 4]


def test_a_writer_that_is_at_its_end_is_out_until_it_writes_again() -> None:
    """END of a bounded run; what comes of it in the next run counts anew."""
    reader = ReaderState()
    time = input_of(reader)
    time.hear(ONE, [5])
    end_of_run(reader, TWO, 1)
    assert time.hear(ONE, [6, 8]) == [6, 8]
    assert time.newest_ms() == 8
    assert time.hear(TWO, [2]) == [2]
    assert time.hear(ONE, [9]) == [2]
    end_of_run(reader, TWO, 2)
    assert time.hear(ONE, [10]) == [10]
    end_of_run(reader, ONE, 2)
    assert time.newest_ms() == BEFORE_ALL_MS  # all are out


def test_times_are_in_the_reader_table() -> None:
    """They come back from a checkpoint; a table without any is written as it always was."""
    reader = ReaderState()
    assert reader.to_json().keys() == {"internal", "inc", "seq", "end"}
    time = input_of(reader)
    end_of_run(reader, TWO, 1)
    time.hear(TWO, [2])
    time.hear(ONE, [-5])
    again = ReaderState.from_json(reader.to_json())
    assert again == reader == reader.copy()
    assert again.times == {(APP, ONE): -5, (APP, TWO): 2}
    assert not again.is_out((APP, TWO))
    copy = reader.copy()
    input_of(copy).hear(ONE, [50])
    assert reader.times[APP, ONE] == -5
    with pytest.raises(WireCorruptError):
        ReaderState.from_json({**reader.to_json(), "time": [[APP, 0, 0, "soon"]]})


def test_a_lineage_topic_made_anew_begins_times_anew() -> None:
    """Its tasks count from the beginning: what they said before is not theirs any more."""
    reader = ReaderState()
    for generation in (1, 2):
        incarnation = Incarnation(generation, 5)
        reader.mark(Fence(APP, ((0, incarnation),)))
        assert reader.times == {}
        reader.accept(Identity(APP, ONE, incarnation, 1, 1, 1))
        reader.hear((APP, ONE), 10)


def test_a_task_is_as_far_as_its_slowest_input() -> None:
    """Also where one of its inputs has said nothing yet."""
    time = TaskTime([0, 1], {})
    assert time.take(0, [4, 9]) == [BEFORE_ALL_MS, BEFORE_ALL_MS]
    assert time.take(1, [3, 12, 6]) == [3, 9, 9]
    assert (time.now_ms, time.slowest()) == (9, 0)
    assert time.take(0, [11, 10, 13]) == [11, 11, 12]
    assert TaskTime([0, 1], time.times).now_ms == 12


def test_an_idle_input_is_as_far_as_the_clock() -> None:
    """Less the timeout, and never back; the other input goes on to hold back."""
    time = TaskTime([0, 1], {0: 100, 1: 5_000})
    assert time.idle(0, 2_000, 500) == 1_500
    assert time.idle(0, 1_000, 500) == 1_500
    assert time.times == {0: 1_500, 1: 5_000}


@given(st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 30), min_size=1))))
def test_columns_are_as_records_one_by_one(columns: list[tuple[int, list[int]]]) -> None:
    """Whatever the times and inputs are: a column is its records in turn, and time never falls."""
    time, alone = TaskTime(range(3), {}), TaskTime(range(3), {})
    known = [BEFORE_ALL_MS] * 3
    for source, times in columns:
        made = time.take(source, times)
        assert made == [alone.take(source, [each])[0] for each in times]
        for each, result in zip(times, made, strict=True):
            known[source] = max(known[source], each)
            assert result == min(known)
        assert time.times == alone.times == dict(enumerate(known))


@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 5), min_size=1))))
def test_frames_are_as_records_one_by_one(frames: list[tuple[bool, list[int]]]) -> None:
    """It is the same how the records of a writer lie in frames."""
    whole, alone = input_of(), input_of()
    known = {ONE: BEFORE_ALL_MS, TWO: BEFORE_ALL_MS}
    for is_first, steps in frames:
        task = ONE if is_first else TWO
        times, time = [], max(known[task], 0)
        for step in steps:
            time += step
            times.append(time)
        expected = []
        for time in times:
            known[task] = time
            expected.append(min(known.values()))
        assert whole.hear(task, times) == expected
        assert [alone.hear(task, [time])[0] for time in times] == expected


def test_what_is_said_to_a_partition_rises() -> None:
    """A branch that holds more back does not take back what another one has said."""
    said = SaidTimes({})
    assert said.is_news(OUT, 4)
    assert said.say(OUT, [4, 2, 6]) == [4, 4, 6]
    assert said.say(OUT, [5]) == [6]
    assert not said.is_news(OUT, 6)
    assert said.is_news((0, 4), 6)
    assert SaidTimes(said.times).is_news(OUT, 7)


def test_an_input_is_said_to_be_idle_after_the_timeout_and_again() -> None:
    """Once it is at its end for so long, and then every half of that, until something comes."""
    quiet = Quiet(100)
    assert quiet.due_ms(0) is None
    quiet.see(0, 1_000, is_at_end=True)
    quiet.see(0, 1_050, is_at_end=True)
    assert quiet.due_ms(0) == 1_100
    quiet.say(0, 1_120)
    assert quiet.due_ms(0) == 1_170
    quiet.see(0, 1_130, is_at_end=False)
    assert quiet.due_ms(0) is None
    quiet.see(0, 1_140, is_at_end=True)
    assert quiet.due_ms(0) == 1_240


def test_bounds_are_far_from_times() -> None:
    """Lengths of windows may be taken off, and 64 bits hold them."""
    assert -(2**63) < BEFORE_ALL_MS - 2**61 < BEFORE_ALL_MS < 0 < AFTER_ALL_MS < 2**63


def event_time(saved: EventTimes | None = None) -> TaskEventTime:
    """Of a task with one input."""
    return TaskEventTime([0], saved, interval_ms=10, idle_timeout_ms=30)


def test_time_passes_on_when_it_has_moved_an_interval_after_the_last_tick() -> None:
    """Nothing is wanted while it stands still."""
    task = event_time()
    assert task.next_ms() is None
    task.time.take(0, [5])
    assert task.next_ms() == 10
    assert task.pass_on(12) == task.passed_ms == 5
    assert task.next_ms() is None
    task.time.take(0, [6])
    assert task.next_ms() == 22


def test_an_idle_input_has_what_is_of_now_less_the_timeout() -> None:
    """Its time is logged, and passed on by the next tick only."""
    task = event_time()
    task.idle(0, 100)
    assert (task.time.now_ms, task.passed_ms, task.last_ms()) == (70, BEFORE_ALL_MS, 100)
    assert task.pass_on(90) == 70
    assert task.last_ms() == 100


def test_a_checkpoint_keeps_all_of_event_time() -> None:
    """Who goes on from it wants the same ticks, and says the same to the same partitions."""
    task = event_time()
    task.time.take(0, [5])
    task.pass_on(12)
    task.said.say(OUT, [5])
    task.time.take(0, [8])
    again = event_time(task.saved())
    assert again.saved() == task.saved() == EventTimes({0: 8}, {OUT: 5}, 5, 12)
    assert again.next_ms() == task.next_ms() == 22
    assert not again.said.is_news(OUT, 5)
