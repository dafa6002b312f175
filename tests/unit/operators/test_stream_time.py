"""The stream time of an operator: a running maximum that is state."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kstash.core.watermark import BEFORE_ALL_MS
from kstash.operators.stream_time import StreamTime
from kstash.testing.state import MemoryBackend, MemoryTaskFolder, MemoryTaskState
from kstash.topology.traits import time_store

SPECS = [time_store("w").spec]
TIMES = st.lists(st.integers(-5, 30), max_size=6)


def opened(folder: MemoryTaskFolder, base: str | None = None) -> MemoryTaskState:
    """The state of a task with one operator that has a time."""
    return folder.open(SPECS, base=base)


def new_folder() -> MemoryTaskFolder:
    """Of a task that has no checkpoint."""
    return MemoryBackend().task("w", 0)


def test_there_is_no_time_before_the_first_record() -> None:
    """It is less than any time of a record, and no number that the store cannot keep."""
    state = opened(new_folder())
    time = StreamTime(state, "w")
    assert time.now_ms == BEFORE_ALL_MS < -(2**61)
    assert time.running([]) == []
    assert state.store("w.time").items() == []
    assert time.take(-7) == -7


def test_time_never_goes_back() -> None:
    """Of all that was taken it is the largest, by whichever way."""
    time = StreamTime(opened(new_folder()), "w")
    assert [time.take(5), time.take(3), time.take_all([4, 7, 6]), time.take_all([1])] == [
        5,
        5,
        7,
        7,
    ]
    assert time.running([6, 9, 8, 10]) == [7, 9, 9, 10]
    assert time.now_ms == 10


def test_a_column_in_order_is_its_own_running_maximum() -> None:
    """Nothing is made anew where nothing is out of order; a column before now says one time."""
    time = StreamTime(opened(new_folder()), "w")
    times = [1, 2, 2, 5]
    assert time.running(times) is times
    assert time.running([5, 1, 3]) == [5, 5, 5]
    assert time.running([4, 6, 7]) == [5, 6, 7]


def test_time_survives_a_restart() -> None:
    """It is in the checkpoint; each operator has its own."""
    folder = new_folder()
    state = opened(folder)
    StreamTime(state, "w").take(12)
    state.checkpoint("c", 1)
    StreamTime(state, "w").take(90)  # lost with the crash, and made again by the replay
    assert StreamTime(opened(folder, "c"), "w").running([3, 13]) == [12, 13]
    assert time_store("v").name == "v.time"


@given(TIMES, st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["", "restart"]))), st.data())
def test_where_a_batch_ends_and_what_restarts_changes_nothing(
    times: list[int], cuts: list[tuple[int, str]], data: st.DataObject
) -> None:
    """Against the obvious model: the largest so far, whatever was taken in one call."""
    model = [max(times[: index + 1]) for index in range(len(times))]
    folder, made, start = new_folder(), list[int](), 0
    state = opened(folder)
    for number, (length, what) in enumerate([*cuts, (len(times), "")]):
        part = times[start : start + length]
        start += length
        time = StreamTime(state, "w")
        way = data.draw(st.sampled_from(["each", "column", "last"]))
        if way == "each":
            made += [time.take(at) for at in part]
        elif way == "column":
            made += time.running(part)
        elif part:
            made += model[len(made) : len(made) + len(part) - 1]
            made.append(time.take_all(part))
        if what:
            state.checkpoint(str(number), number)
            state = opened(folder, str(number))
    assert made == model
    assert StreamTime(state, "w").now_ms == max(times, default=BEFORE_ALL_MS)
