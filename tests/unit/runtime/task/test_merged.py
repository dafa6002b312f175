"""Merged batches: whatever waits when, wherever it breaks off, the order is that of one merge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstash
from kstash import App
from kstash.core.determinants import InputPlace, MergedBatch, MergedInput
from kstash.core.frames import encode_frame
from kstash.core.ids import TaskId
from kstash.core.kinds import InputKind
from kstash.core.merge import MergeOrder
from kstash.core.reader import ReaderState
from kstash.core.skips import NO_SKIPS, InputSkips
from kstash.core.wire import IDENTITY_HEADER, MARKER_HEADER, Fence, encode_marker
from kstash.errors import OperatorError
from kstash.operators.batch import Batch
from kstash.operators.program import StageProgram
from kstash.ports.kafka import Headers
from kstash.runtime.pace import Pace
from kstash.runtime.task.inputs import TaskInput
from kstash.runtime.task.merged import MergedRecords, Merger
from kstash.runtime.task.merging import MergedUnderWay
from kstash.runtime.task.under_way import Watch
from kstash.testing.kafka.log import MemoryRecord
from kstash.testing.state import MemoryBackend
from tests.unit.core_cases import APP, identity, inc

WRITER = TaskId(0, 0)
NONE_MS = -1


@dataclass(frozen=True)
class Log:
    """One input: what lies in its log, and what of it counts as (time, value)."""

    kind: InputKind
    messages: Sequence[MemoryRecord]
    records: Sequence[tuple[int | None, bytes]]
    skips: InputSkips = NO_SKIPS

    def source(self, place: InputPlace, reader: ReaderState | None) -> TaskInput:
        """The input of a task that goes on at a place."""
        source = TaskInput(
            (self.messages[0].topic() if self.messages else "t", 0),
            self.kind,
            place.offset,
            reader,
            self.skips,
        )
        source.taken, source.timestamp_ms = place.taken, place.timestamp_ms
        return source


def times_of(batch: Batch) -> list[int | None]:
    """As a source without a function says them."""
    return [None if time == NONE_MS else time for time in batch.timestamps]


def plain(number: int, times: Sequence[int | None], skipped: frozenset[int] = frozenset()) -> Log:
    """A user topic, of which every third offset holds no record."""
    messages, records = [], []
    for index, time in enumerate(times):
        offset, value = index + index // 2, b"%d.%d" % (number, index)
        stamp = NONE_MS if time is None else time
        messages.append(
            MemoryRecord(
                f"in-{number}", 0, offset, key=None, value=value, headers=None, timestamp_ms=stamp
            )
        )
        if offset not in skipped:
            records.append((time, value))
    return Log(InputKind.PLAIN, messages, records, InputSkips(whole=skipped))


def frame(
    number: int, offset: int, first: int, times: Sequence[int], *, claim: int = 2
) -> MemoryRecord:
    """One frame of the writer, with sequences from `first` on."""
    values = [b"%d.%d" % (number, first + index) for index in range(len(times))]
    content = encode_frame(list[bytes | None](values), list[bytes | None](values), times, None)
    headers: Headers = [
        (IDENTITY_HEADER, identity(inc(claim), first, len(times), task=WRITER).encode())
    ]
    return MemoryRecord(
        f"app-{number}-repartition",
        0,
        offset,
        key=None,
        value=content,
        headers=headers,
        timestamp_ms=0,
    )


def framed(number: int, times: Sequence[int], rng: Random) -> Log:
    """An internal topic: frames of any size, some of which come again in part or of a zombie."""
    fence = encode_marker(Fence(APP, ((WRITER.partition, inc(2)),)))
    marker: Headers = [(MARKER_HEADER, fence)]
    messages = [
        MemoryRecord(
            f"app-{number}-repartition", 0, 0, key=None, value=None, headers=marker, timestamp_ms=0
        )
    ]
    done = 0
    while done < len(times):
        offset = messages[-1].offset() + 1 + rng.randrange(2)
        if rng.random() < 0.2:
            messages.append(frame(number, offset, done + 1, [9, 9], claim=1))
            offset += 1
        back = min(done, rng.randrange(3))
        end = min(len(times), done + 1 + rng.randrange(5))
        messages.append(frame(number, offset, done - back + 1, times[done - back : end]))
        done = end
        if rng.random() < 0.3:
            messages.append(frame(number, offset + 1, max(1, done), times[max(0, done - 1) : done]))
        if rng.random() < 0.2:
            at = messages[-1].offset() + 1
            messages.append(
                MemoryRecord(
                    messages[0].topic(), 0, at, key=None, value=None, headers=marker, timestamp_ms=0
                )
            )
    records = [(time, b"%d.%d" % (number, index + 1)) for index, time in enumerate(times)]
    return Log(InputKind.FRAMES, messages, records)


class OneTask:
    """A task that merges: only what it does with its inputs."""

    def __init__(self, logs: Sequence[Log]) -> None:
        self.logs = logs
        self.done: list[bytes] = []
        self.entries: list[MergedBatch] = []
        self.saved = [
            (InputPlace(0, 0, 0), ReaderState() if log.kind is InputKind.FRAMES else None)
            for log in logs
        ]
        self.begin()

    @property
    def position(self) -> int:
        """Events done."""
        return len(self.done)

    def begin(self) -> None:
        """Come back where the last checkpoint was."""
        self.sources = {}
        self.delivered = []
        for index, (log, (place, reader)) in enumerate(zip(self.logs, self.saved, strict=True)):
            self.sources[index] = log.source(place, reader.copy() if reader is not None else None)
            below = sum(message.offset() < place.offset for message in log.messages)
            self.delivered.append(below)
        self.merge = Merger(self.sources, [times_of] * len(self.logs), Counter())

    def deliver(self, index: int, count: int) -> None:
        """The consumer hands out some more records."""
        log, first = self.logs[index], self.delivered[index]
        messages = log.messages[first : first + count]
        self.sources[index].buffer.extend(messages)
        self.delivered[index] += len(messages)

    def will_have(self, index: int) -> bool:
        """Whether the log holds more than what was handed out."""
        return self.delivered[index] < len(self.logs[index].messages)

    def live(self, most: int) -> bool:
        """One live batch, unless an input is waited for; returns whether there was one."""
        empty = self.merge.read()
        if any(map(self.will_have, empty)) or len(empty) == len(self.logs):
            return False
        merged = self.merge.live(self.position, most, self.will_have)
        self.entries.append(merged.entry)
        self._run(merged)
        return True

    def again(self, entry: MergedBatch, rng: Random) -> None:
        """One batch of the history, as soon as all is there that it took."""
        while lacking := self.merge.lacking(entry):
            assert all(map(self.will_have, lacking))
            self.deliver(rng.choice(lacking), 1 + rng.randrange(3))
        merged = self.merge.again(entry)
        assert merged.entry == entry
        self._run(merged)

    def _run(self, merged: MergedRecords) -> None:
        middle = merged.count // 2
        for start, end in ((0, middle), (middle, merged.count)):
            whole = dict[int, bytes]()
            for source, batch, places in merged.shares(start, end) if end > start else ():
                assert all(value.startswith(b"%d." % source) for value in batch.values)
                taken = range(end - start) if places is None else places
                whole |= zip(taken, batch.values, strict=True)
            self.done += [whole[place] for place in range(end - start)]
        merged.finish()

    def checkpoint(self) -> None:
        """Save what a checkpoint has of the inputs."""
        self.saved = [
            (
                InputPlace(source.next_offset, source.taken, source.timestamp_ms),
                source.reader.copy() if source.reader is not None else None,
            )
            for source in self.sources.values()
        ]

    def crash(self, position: int, rng: Random) -> None:
        """Begin at the checkpoint, which is at a position, and do what the lineage says."""
        self.begin()
        expected, self.done = self.done, self.done[:position]
        for entry in self.entries:
            if entry.position >= position:
                self.again(entry, rng)
        assert self.done == expected


def model(logs: Sequence[Log]) -> list[bytes]:
    """One merge of all that the logs hold."""
    order = MergeOrder({i: [time for time, _ in log.records] for i, log in enumerate(logs)}, {})
    ends = [0] * len(logs)
    made = []
    for source in order.take(1_000):
        made.append(logs[source].records[ends[source]][1])
        ends[source] += 1
    return made


@given(
    st.lists(st.lists(st.none() | st.integers(1, 12), max_size=12), min_size=1, max_size=2),
    st.lists(st.lists(st.integers(1, 12), max_size=16), min_size=1, max_size=2),
    st.integers(0, 1 << 32).map(Random),
)
def test_the_order_is_that_of_one_merge(
    plains: list[list[int | None]], frames: list[list[int]], rng: Random
) -> None:
    """However records come, batches end, checkpoints lie and the task crashes."""
    skipped = frozenset(rng.sample(range(6), 2)) if rng.random() < 0.3 else frozenset[int]()
    logs = [plain(number, times, skipped) for number, times in enumerate(plains)]
    logs += [framed(len(logs) + n, times, rng) for n, times in enumerate(frames)]
    task = OneTask(logs)
    saved_at = 0
    while True:
        waiting = [index for index in range(len(logs)) if task.will_have(index)]
        if waiting:
            task.deliver(rng.choice(waiting), rng.randrange(1, 5))
        worked = False
        for _ in range(rng.randrange(1, 4)):
            worked = task.live(rng.randrange(1, 9)) or worked
        if rng.random() < 0.3:
            task.checkpoint()
            saved_at = task.position
        if rng.random() < 0.3:
            task.crash(saved_at, rng)
        if not worked and not any(map(task.will_have, task.sources)):
            break
    assert not task.live(1)
    assert task.done == model(logs)
    # Nothing waits, and the readers know of every marker and every frame.
    for index, source in task.sources.items():
        assert not source.buffer
        assert source.taken == 0
        if source.reader is not None and logs[index].records:
            assert set(source.reader.last_seq.values()) == {len(logs[index].records)}


def test_one_input_may_be_read_far_ahead_of_the_other() -> None:
    """A batch ends where the other input is used up, though the log there holds more."""
    logs = [plain(0, [1, 2, 3]), plain(1, [1, 2, 3])]
    task = OneTask(logs)
    task.deliver(1, 3)
    assert not task.live(100)
    task.deliver(0, 1)
    assert task.live(100)
    assert task.done == [b"0.0"]  # not the first of the other: what comes may be as early
    assert not task.live(100)
    task.deliver(0, 2)
    while task.live(100):
        pass
    assert task.done == model(logs)


def test_a_place_lies_within_a_frame() -> None:
    """The frame is read again from its start, with the reader state as before it."""
    log = framed(0, [1, 2, 3, 4], Random(0))
    rest = frame(0, 1, 1, [1, 2, 3, 4])
    log = Log(log.kind, [log.messages[0], rest, frame(0, 2, 5, [9])], log.records)
    task = OneTask([log, plain(1, [2])])
    task.deliver(0, 3)
    task.deliver(1, 1)
    assert task.live(3)
    places = {0: InputPlace(1, 2, 2), 1: InputPlace(1, 0, 2)}
    assert task.entries == [
        MergedBatch(0, (MergedInput(0, 2, places[0]), MergedInput(1, 1, places[1])))
    ]
    source = task.sources[0]
    assert (source.next_offset, source.taken, len(source.buffer)) == (1, 2, 2)
    assert source.reader is not None
    assert source.reader.last_seq == {}
    # Who does not merge takes what is left of the frame as one event.
    task.merge.inputs[0].forget()
    events = source.take(1)
    assert (events.batch.values, events.sizes, events.cuts) == ([b"0.3", b"0.4"], [2], [2])
    assert source.taken == 0
    assert source.take(1).batch.values == [b"0.5"]


def test_an_error_names_the_record_of_its_input() -> None:
    """By its own topic, offset and index in the frame."""
    log = framed(1, [2, 4], Random(0))
    log = Log(log.kind, [log.messages[0], frame(1, 5, 1, [2, 4])], log.records)
    task = OneTask([plain(0, [1, 3]), log])
    for index in (0, 1):
        task.deliver(index, 9)
    assert task.merge.read() == []
    merged = task.merge.live(0, 9, lambda _: False)
    found = []
    for index in range(4):
        error = OperatorError("map", index, cause=ValueError())
        merged.add_place(error, index)
        found.append((error.topic, error.offset, error.index))
    origins = [merged.origin_of(*at) for at in [(0, 0), (1, 0), (0, 2), (2, 1)]]
    assert [(o.topic, o.offset, o.number) for o in origins if o is not None] == [
        (topic, offset, index or 0) for topic, offset, index in found
    ]
    internal = "app-1-repartition"
    assert found == [("in-0", 0, None), (internal, 5, 0), ("in-0", 1, None), (internal, 5, 1)]


def test_an_error_in_a_later_slice_names_its_record() -> None:
    """A batch of the history may be larger than what is taken at once now."""
    app = App("app")
    left, right = (app.stream(topic, value=kstash.text) for topic in ("in-0", "in-1"))
    left.merge(right).map(lambda value: 1 // int(value != "1.2")).to("out", value=kstash.int_text)
    (stage,) = app.topology().stages
    state = MemoryBackend().task(stage.name, 0).open(stage.stores, base=None)
    task = OneTask([plain(0, [1, 3, 5]), plain(1, [2, 4, 6])])
    for index in (0, 1):
        task.deliver(index, 9)
    task.merge.read()
    merged = task.merge.live(0, 9, lambda _: False)
    pulses: list[None] = []
    watch = Watch(lambda: 0.0, lambda: pulses.append(None), lambda *_: None)
    events = MergedUnderWay(merged, task.sources, Pace(), is_new=False)
    with pytest.raises(OperatorError) as caught:
        events.go_on(StageProgram(stage, state), watch)
    # Slices of one, two, and what is left.
    assert (caught.value.topic, caught.value.offset, len(pulses)) == ("in-1", 3, 2)


def test_a_merge_goes_on_within_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an input with large records a part is read, and the batch ends where that does."""
    monkeypatch.setattr("kstash.runtime.task.waiting.BATCH_BYTES", 8)
    task = OneTask([plain(0, [1, 2, 3, 4, 5]), plain(1, [6])])
    for index in (0, 1):
        task.deliver(index, 9)
    assert task.live(100)
    assert task.done == [b"0.0", b"0.1"]
    while task.live(100):
        pass
    assert len(task.done) == 6
