"""A world of its own for event time as the smallest over the upstream tasks (watermark mode).

A few upstream tasks read a partition each, in order of time: a backlog, then records as they
happen. Readers with tumbling windows take what they write, and send final results to one task with
larger windows. Tasks crash with some of a batch's frames out, stay down, come back with other cuts,
from a checkpoint or from the start; zombies write after the FENCE. Nothing is late in truth: no
record may be dropped as late, all windows that are over close once the sources are silent, and
results do not depend on where frames end.

Times are those of the core: `InputTime`, `TaskTime`, `SaidTimes`, `Quiet`, the reader state, and
frames as bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from kstash.core.determinants import Consumed, Idle, Tick
from kstash.core.frames import Columns, decode_frame, encode_frame
from kstash.core.ids import Incarnation, TaskId
from kstash.core.reader import ReaderState
from kstash.core.watermark import (
    AFTER_ALL_MS,
    BEFORE_ALL_MS,
    InputTime,
    Quiet,
    SaidTimes,
    TaskTime,
)
from kstash.core.wire import End, Fence, Identity

APPLICATION = 7
SIZE, GRACE, SIZE_2, GRACE_2 = 10, 2, 40, 0
INTERVAL, IDLE_TIMEOUT = 5, 25
HELD = SIZE + GRACE
FAR = 10**6
SILENT = 150
"""Steps at the end in which nothing happens: all is read, and all idle."""

Event = Consumed | Tick | Idle


class FoundOutError(Exception):
    """The rules were broken."""


@dataclass
class Weakened:
    """Where the world disobeys; all off in the complete rules."""

    no_controls: bool = False
    idle_by_readers: bool = False
    idle_said_once: bool = False
    all_idle_stays: bool = False
    nothing_held: bool = False
    not_stepped: bool = False
    times_not_kept: bool = False
    said_not_kept: bool = False


class Out(NamedTuple):
    """One output of an event: a result of a window, a record, or a control record."""

    partition: int
    key: int | None
    amount: int
    timestamp: int
    time: int


class Written(NamedTuple):
    """One record of an internal partition; its lineage is the first `known` events of `history`."""

    head: Identity | Fence | End
    value: bytes | None
    history: list[Event]
    known: int


class Log(list[Written]):
    """One internal partition."""


def logical(columns: Columns, index: int) -> tuple[Any, ...]:
    """One logical record of a frame, as it is compared."""
    assert columns.times is not None
    is_control = index in columns.controls
    record = columns.keys[index], columns.values[index], columns.timestamps[index]
    return *record, columns.times[index], is_control


class Writer:
    """What tasks of all stages have in common: identities, sequences, what they say of time."""

    def __init__(self, task: TaskId, logs: list[Log]) -> None:
        self.task = task
        self.logs = logs
        self.number = 0
        self.begin([], [0] * len(logs), {})
        self.stored: list[dict[int, tuple[Any, ...]]] = [{} for _ in logs]

    def begin(
        self, history: list[Event], sequences: list[int], said: dict[tuple[int, int], int]
    ) -> None:
        """Go on from a checkpoint."""
        self.history = list(history)
        self.sequences = list(sequences)
        self.said = SaidTimes(said)

    def claim(self) -> tuple[list[Event], list[int]]:
        """A new incarnation: FENCEs, and the history that valid frames tell."""
        self.number += 1
        history: list[Event] = []
        known = 0
        last = []
        self.stored = []
        for log in self.logs:
            fence = Fence(APPLICATION, ((self.task.partition, Incarnation(1, self.number)),))
            log.append(Written(fence, None, [], 0))
            table = ReaderState(is_internal=True)
            stored: dict[int, tuple[Any, ...]] = {}
            for record in log:
                if not isinstance(record.head, Identity):
                    table.mark(record.head)
                elif record.head.task == self.task:
                    cut = table.accept(record.head)
                    if cut == record.head.count:
                        continue
                    if record.known > known:
                        history, known = record.history, record.known
                    columns = decode_frame(record.value, record.head.count)
                    for index in range(cut, record.head.count):
                        stored[record.head.first_seq + index] = logical(columns, index)
            last.append(table.last_seq.get((APPLICATION, self.task), 0))
            self.stored.append(stored)
        return history[:known], last

    def send(self, outs: Sequence[Out], last: Sequence[int] = (), lost: Any = None) -> None:
        """Number outputs, and write those that are not there yet, a frame for each partition."""
        if not self.logs:
            return
        for partition in sorted({out.partition for out in outs}):
            mine = [out for out in outs if out.partition == partition]
            first = self.sequences[partition] + 1
            self.sequences[partition] += len(mine)
            columns = Columns(
                [None if out.key is None else b"%d" % out.key for out in mine],
                [b"%d" % out.amount for out in mine],
                [out.timestamp for out in mine],
                None,
                [out.time for out in mine],
                tuple(i for i, out in enumerate(mine) if out.key is None),
            )
            for index in range(len(mine)):
                there = self.stored[partition].get(first + index)
                if there is not None and there != logical(columns, index):
                    raise FoundOutError(f"I9: {logical(columns, index)} was {there}")
            cut = max(0, last[partition] + 1 - first) if last else 0
            if cut < len(mine) and not (lost is not None and lost()):
                self._write(partition, first + cut, _from(columns, cut))

    def _write(self, partition: int, first: int, columns: Columns) -> None:
        count = len(columns.keys)
        incarnation = Incarnation(1, self.number)
        identity = Identity(APPLICATION, self.task, incarnation, len(self.history), count, first)
        self.logs[partition].append(
            Written(identity, encode_frame(*columns), self.history, len(self.history))
        )

    def write_late(self, partition: int, sequence: int) -> None:
        """What a zombie writes after its successor's FENCE: a time far ahead."""
        identity = Identity(
            APPLICATION, self.task, Incarnation(1, self.number - 1), 99, 1, sequence
        )
        value = encode_frame([None], [b"0"], [FAR], None, [FAR], (0,))
        self.logs[partition].append(Written(identity, value, [], 0))

    def say(self, outs: Sequence[Out]) -> list[Out]:
        """What an event makes, with the times that it says: of each event before the next one."""
        said = []
        for out in outs:
            (time,) = self.said.say((0, out.partition), [out.time])
            said.append(out._replace(time=time))
        return said

    def controls(self, time: int) -> list[Out]:
        """Control records to the partitions that have not heard a time."""
        return [
            Out(p, None, 0, time, time)
            for p in range(len(self.logs))
            if self.said.is_news((0, p), time)
        ]


def _from(columns: Columns, cut: int) -> Columns:
    assert columns.times is not None
    return Columns(
        columns.keys[cut:],
        columns.values[cut:],
        columns.timestamps[cut:],
        None,
        columns.times[cut:],
        tuple(i - cut for i in columns.controls if i >= cut),
    )


class Upstream(Writer):
    """A task that reads a partition of a source."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(TaskId(0, number), world.logs)
        self.world = world
        self.source = world.sources[number]
        self.saved = Saved(sequences=[0] * len(world.logs))
        self.claim()
        self._reset()

    def _reset(self) -> None:
        saved, kept = self.saved, self.saved.times
        self.begin(saved.history, saved.sequences, saved.said)
        self.offset = saved.offset
        self.time = TaskTime([0], {} if self.world.weakened.times_not_kept else kept)
        self.quiet = Quiet(IDLE_TIMEOUT)
        self.ticked = saved.time
        self.is_left_out = False

    def checkpoint(self) -> None:
        """Keep all that a replay from here on needs."""
        self.saved = Saved(
            self.offset, list(self.history), {}, dict(self.time.times),
            dict(self.said.times), list(self.sequences), self.ticked,
        )  # fmt: skip

    def run_event(self, event: Event) -> list[Out]:
        """What an event makes, live and again."""
        if isinstance(event, Tick):
            self.ticked = event.now_ms
            return [] if self.world.weakened.no_controls else self.controls(self.time.now_ms)
        if isinstance(event, Idle):
            if self.world.weakened.idle_said_once:
                self.is_left_out = True
                return []
            self.time.idle(0, event.now_ms, IDLE_TIMEOUT)
            return []
        timestamp, key = self.source[self.offset]
        self.offset += 1
        (time,) = self.time.take(0, [timestamp])
        back = self._come_back(key)
        if key is None:
            return back
        return [*back, Out(key % len(self.logs), key, 1, timestamp, time)]

    def _leave(self) -> None:
        # The weakened rule: it says that it is out, once, and comes back with its next record.
        incarnation = Incarnation(1, self.number)
        for log, last in zip(self.logs, self.sequences, strict=True):
            head = End(APPLICATION, self.world.now, self.task, incarnation, last, 0)
            log.append(Written(head, None, [], 0))

    def _come_back(self, key: int | None) -> list[Out]:
        if not self.is_left_out:
            return []
        self.is_left_out = False
        time = self.time.now_ms
        own = None if key is None else key % len(self.logs)
        return [Out(p, None, 0, time, time) for p in range(len(self.logs)) if p != own]

    def turn(self, *, is_crashing: bool) -> None:
        """Make a batch live."""
        world, now, outs = self.world, self.world.now, []
        events: list[Event] = []
        position = len(self.history)
        is_at_end = self.offset == len(self.source)
        self.quiet.see(0, now, is_at_end=is_at_end)
        due = self.quiet.due_ms(0)
        once = world.weakened.idle_said_once
        if due is not None and due <= now and not (once and self.is_left_out):
            if not world.weakened.idle_by_readers:
                events.append(Idle(position, 0, now))
                if once:
                    self._leave()
            self.quiet.say(0, now)
        left = min(world.rng.randint(1, 6), len(self.source) - self.offset)
        for n in range(left):
            events.append(Consumed(position + len(events), 0, 1, self.offset + n + 1))
        if now - self.ticked >= INTERVAL:
            events.append(Tick(position + len(events), now))
        for event in events:
            self.history.append(event)
            outs += self.say(self.run_event(event))
        chance = world.rng.random()
        self.send(outs, lost=(lambda: world.rng.random() > chance) if is_crashing else None)

    def tick(self) -> None:
        """Say the present time everywhere."""
        event = Tick(len(self.history), self.world.now)
        self.history.append(event)
        self.send(self.say(self.run_event(event)))

    def recover(self) -> None:
        """A successor runs the history again, cut elsewhere."""
        rng, reached = self.world.rng, list(self.sequences)
        history, last = self.claim()
        if rng.random() < 0.5:
            partition = rng.randrange(len(self.logs))
            self.write_late(partition, reached[partition] + 1)
        self._reset()
        history, at = max(history, self.history, key=len), len(self.history)
        while at < len(history):
            end = at + rng.randint(1, 8)
            self.history = history[:end]
            outs = [out for event in history[at:end] for out in self.say(self.run_event(event))]
            self.send(outs, last)
            at = end


class Windows:
    """Tumbling windows with final results."""

    def __init__(self, size: int, grace: int, weakened: Weakened) -> None:
        self.size, self.grace, self.weakened = size, grace, weakened
        self.time = BEFORE_ALL_MS
        self.open: dict[tuple[int, int], tuple[int, int]] = {}
        self.late: list[tuple[int, int, int]] = []
        self.closed: list[tuple[int, int, int]] = []

    def move(self, time: int) -> list[Out]:
        """Time has come so far: results of the windows that close, with the time of each."""
        if time <= self.time:
            return []
        outs, length = [], self.size + self.grace
        due = sorted((start, key) for key, start in self.open if start + length <= time)
        for start, key in due:
            count, latest = self.open.pop((key, start))
            said = time - length if self.weakened.not_stepped else start
            outs.append(Out(0, key, count, latest, time if self.weakened.nothing_held else said))
            self.closed.append((latest, key, count))
        self.time = time
        return outs

    def take(self, timestamp: int, key: int, count: int) -> None:
        """A record; it is late when its window is closed."""
        start = timestamp - timestamp % self.size
        if start + self.size + self.grace <= self.time:
            self.late.append((timestamp, key, self.time))
            return
        before, latest = self.open.get((key, start), (0, BEFORE_ALL_MS))
        self.open[key, start] = before + count, max(latest, timestamp)


@dataclass
class Saved:
    """A checkpoint."""

    offset: int = 0
    history: list[Event] = field(default_factory=list)
    table: dict[str, Any] = field(default_factory=lambda: ReaderState().to_json())
    times: dict[int, int] = field(default_factory=dict)
    said: dict[tuple[int, int], int] = field(default_factory=dict)
    sequences: list[int] = field(default_factory=lambda: [0])
    time: int = BEFORE_ALL_MS
    open: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    closed: list[tuple[int, int, int]] = field(default_factory=list)
    late: list[tuple[int, int, int]] = field(default_factory=list)


class Reader(Writer):
    """A task with windows: reads what tasks of the stage before write to one partition."""

    def __init__(
        self, task: TaskId, log: Log, writers: list[TaskId], out: list[Log], weakened: Weakened
    ) -> None:
        super().__init__(task, out)
        self.log = log
        self.writers = writers
        self.weakened = weakened
        self.size, self.grace = (SIZE, GRACE) if task.stage == 1 else (SIZE_2, GRACE_2)
        self.saved = Saved()
        # Only for a weakened rule: when something of each writer came.
        self.heard: dict[TaskId, int] = {}
        self.claim()
        self._restore()

    def _restore(self) -> None:
        saved = self.saved
        self.offset = saved.offset
        self.table = ReaderState.from_json(saved.table)
        self.input = InputTime(self.table, APPLICATION, self.writers)
        self.event_time = TaskTime([0], {} if self.weakened.times_not_kept else saved.times)
        self.begin(
            saved.history, saved.sequences, {} if self.weakened.said_not_kept else saved.said
        )
        self.windows = Windows(self.size, self.grace, self.weakened)
        self.windows.time = saved.time
        self.windows.open = dict(saved.open)
        self.windows.closed = list(saved.closed)
        self.windows.late = list(saved.late)

    def checkpoint(self) -> None:
        """Keep all that a replay from here on needs."""
        windows = self.windows
        self.saved = Saved(
            self.offset, list(self.history), self.table.to_json(), dict(self.event_time.times),
            dict(self.said.times), list(self.sequences), windows.time, dict(windows.open),
            list(windows.closed), list(windows.late),
        )  # fmt: skip

    def next_frame(self) -> tuple[TaskId, Columns | None, int] | None:
        """Read up to the next frame that is an event."""
        while self.offset < len(self.log):
            record = self.log[self.offset]
            self.offset += 1
            if not isinstance(record.head, Identity):
                self.table.mark(record.head)
                if isinstance(record.head, End):
                    return record.head.task, None, 0
                continue
            cut = self.table.accept(record.head)
            if cut < record.head.count:
                columns = decode_frame(record.value, record.head.count)
                return record.head.task, columns, cut
        return None

    def run_frame(self, writer: TaskId, columns: Columns | None, cut: int) -> list[Out]:
        """Apply the times of a frame, each in front of its record, and take the records."""
        if columns is None:
            return self.run_left_out()
        assert columns.times is not None
        columns, outs = _from(columns, cut), []
        assert columns.times is not None
        times = self.event_time.take(0, self.input.hear(writer, columns.times))
        for index, time in enumerate(times):
            outs += self.windows.move(time)
            if index not in columns.controls:
                key, value = columns.keys[index], columns.values[index]
                assert key is not None
                assert value is not None
                self.windows.take(columns.timestamps[index], int(key), int(value))
        return outs

    def read(self, most: int, now: int = 0) -> int:
        """Take frames live; returns how many."""
        taken = 0
        while taken < most and (frame := self.next_frame()) is not None:
            taken += 1
            self.heard[frame[0]] = now
            self.history.append(Consumed(len(self.history), 0, 1, self.offset))
            self.send(self.say(self.run_frame(*frame)))
        return taken

    def run_left_out(self) -> list[Out]:
        """The weakened rules: a writer was left out of the smallest."""
        writers = [(APPLICATION, task) for task in self.writers]
        time = min(self.input.said(writer) for writer in writers)
        if time == AFTER_ALL_MS:
            if self.weakened.all_idle_stays:
                return []
            time = max(self.table.times.get(writer, BEFORE_ALL_MS) for writer in writers)
        return self.windows.move(self.event_time.take(0, [time])[0])

    def leave_out(self, now: int) -> None:
        """The weakened rule that readers decide who is idle."""
        for number, task in enumerate(self.writers):
            is_quiet = now - self.heard.get(task, now) >= IDLE_TIMEOUT
            if is_quiet and not self.table.is_out((APPLICATION, task)):
                event = Idle(len(self.history), number, now)
                self.history.append(event)
                self.send(self.say(self.run_idle(event)))

    def run_idle(self, event: Idle) -> list[Out]:
        """Again, as it was logged."""
        writer = APPLICATION, self.writers[event.input]
        self.table.ends[writer] = event.now_ms
        return self.run_left_out()

    def run_tick(self) -> list[Out]:
        """Say how far results have come: what the windows hold back is not over."""
        held = 0 if self.weakened.nothing_held else HELD
        if self.weakened.no_controls or self.windows.time == BEFORE_ALL_MS:
            return []
        return self.controls(self.windows.time - held)

    def tick(self) -> None:
        """Do so live."""
        if self.logs:
            self.history.append(Tick(len(self.history), 0))
            self.send(self.say(self.run_tick()))

    def recover(self) -> None:
        """A successor goes on from the checkpoint, and runs what came after it again."""
        history, last = self.claim()
        self._restore()
        known = len(self.history)
        history = max(history, self.saved.history, key=len)
        for event in history[known:]:
            self.history.append(event)
            if isinstance(event, Tick):
                self.send(self.say(self.run_tick()), last)
                continue
            if isinstance(event, Idle):
                self.send(self.say(self.run_idle(event)), last)
                continue
            frame = self.next_frame()
            if frame is None or self.offset != event.end_offset:
                raise FoundOutError(f"I5: {event} ends at {self.offset}")
            self.send(self.say(self.run_frame(*frame)), last)


class World:
    """All tasks of one run."""

    def __init__(self, rng: Random, weakened: Weakened) -> None:
        self.rng, self.weakened = rng, weakened
        self.now = rng.choice([0, 100, 300])
        self.disorder = rng.choice([2, 2, 12])
        upstream, self.partitions = rng.randint(1, 3), rng.randint(1, 3)
        self.rates = [rng.choice([0, 0.02, 0.2, 0.5]) for _ in range(upstream)]
        self.sources = [self._backlog(number) for number in range(upstream)]
        self.logs = [Log() for _ in range(self.partitions)]
        self.last = Log()
        self.upstream = [Upstream(self, number) for number in range(upstream)]
        writers = [up.task for up in self.upstream]
        self.readers = [
            Reader(TaskId(1, p), self.logs[p], writers, [self.last], weakened)
            for p in range(self.partitions)
        ]
        tasks = [reader.task for reader in self.readers]
        self.second = Reader(TaskId(2, 0), self.last, tasks, [], weakened)

    def _backlog(self, number: int) -> list[tuple[int, int | None]]:
        found: list[tuple[int, int | None]] = []
        time = 0
        while time < self.now:
            time += self.rng.randint(1, 8)
            if time <= self.now:
                found.append((max(0, time - self.rng.randint(0, self.disorder)), self._key(number)))
            if self.rng.random() < 0.02:
                break
        return found

    def _key(self, number: int) -> int | None:
        if self.rng.random() < 0.3:
            return None
        return self.rng.randrange(6) if self.rng.random() < 0.7 else number

    def happen(self, number: int) -> None:
        """Something happens, and is recorded now."""
        if self.rng.random() < self.rates[number]:
            timestamp = max(0, self.now - self.rng.randint(0, self.disorder))
            self.sources[number].append((timestamp, self._key(number)))


def run(seed: int, weakened: Weakened | None = None) -> None:
    """Run one world; raises `FoundOutError` when a rule was broken."""
    rng = Random(seed)
    world = World(rng, weakened or Weakened())
    speed = [rng.choice([0.05, 0.3, 0.9]) for _ in world.upstream]
    down, steps = [0] * len(world.upstream), rng.randint(80, 300)
    for step in range(steps + SILENT):
        world.now += 1
        is_busy = step < steps
        if step == steps and not any(down):
            _say_all(world)
            _check_times(world)
        for number, up in enumerate(world.upstream):
            if is_busy:
                world.happen(number)
            if down[number]:
                down[number] -= 1
                if not down[number]:
                    up.recover()
            elif rng.random() < (speed[number] if is_busy else 0.9):
                is_crashing = is_busy and rng.random() < 0.03
                up.turn(is_crashing=is_crashing)
                if is_crashing:
                    down[number] = rng.choice([1, 5, 60])
                elif rng.random() < 0.05:
                    up.checkpoint()
        for reader in world.readers:
            _turn(reader, rng, world.now, is_busy=is_busy)
        world.second.read(5)
    _say_all(world)
    _check_results(world)


def _turn(reader: Reader, rng: Random, now: int, *, is_busy: bool) -> None:
    if rng.random() >= 0.5:
        return
    if not reader.read(rng.randint(1, 5), now) and reader.weakened.idle_by_readers:
        reader.leave_out(now)
    if rng.random() < 0.3:
        reader.tick()
    if rng.random() < 0.05:
        reader.checkpoint()
    if is_busy and rng.random() < 0.02:
        reader.recover()


def _say_all(world: World) -> None:
    for up in world.upstream:
        up.tick()
    for reader in world.readers:
        reader.read(10**6)
        reader.tick()
    world.second.read(10**6)


def _check_times(world: World) -> None:
    least = min(up.time.now_ms for up in world.upstream)
    for reader in world.readers:
        if reader.event_time.now_ms < least - INTERVAL:
            raise FoundOutError("the time of a reader stands still")


def _check_results(world: World) -> None:
    end = max(up.time.now_ms for up in world.upstream)
    for reader in world.readers:
        if reader.windows.late and world.disorder == 2:
            raise FoundOutError("a record that is not late was dropped")
        if any(start + HELD <= end for _, start in reader.windows.open):
            raise FoundOutError("a window that is over stays open")
        _check_frames(reader)
    if world.second.windows.late:
        raise FoundOutError("a result that is not late was dropped")


def _check_frames(reader: Reader) -> None:
    """The same logical records, one to a frame, make the same results."""
    log = Log()
    for record in reader.log:
        if not isinstance(record.head, Identity):
            log.append(record)
            continue
        columns = decode_frame(record.value, record.head.count)
        for index in range(record.head.count):
            head = Identity(
                APPLICATION, record.head.task, record.head.incarnation,
                record.head.position, 1, record.head.first_seq + index,
            )  # fmt: skip
            alone = _from(Columns(*(_upto(column, index) for column in columns)), index)
            log.append(Written(head, encode_frame(*alone), [], 0))
    other = Reader(reader.task, log, reader.writers, [Log()], reader.weakened)
    other.read(10**6)
    if not reader.weakened.idle_by_readers and other.windows.closed != reader.windows.closed:
        raise FoundOutError("results depend on frames")


def _upto(column: Any, index: int) -> Any:
    if isinstance(column, tuple):
        return tuple(i for i in column if i <= index)
    return None if column is None else column[: index + 1]
