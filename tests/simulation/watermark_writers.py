"""Tasks of the world of event time as writers: frames with times, what they say, checkpoints.

And the first of them: those that read a source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from kstash.core.determinants import Consumed, Idle, Tick
from kstash.core.frames import Columns, decode_frame, encode_frame
from kstash.core.ids import Incarnation, TaskId
from kstash.core.reader import ReaderState
from kstash.core.watermark import (
    BEFORE_ALL_MS,
    Quiet,
    SaidTimes,
    TaskTime,
)
from kstash.core.wire import End, Fence, Identity

if TYPE_CHECKING:
    from tests.simulation.sim_watermark import World

APPLICATION = 7
SIZE, GRACE, SIZE_2, GRACE_2 = 10, 2, 40, 0
INTERVAL, IDLE_TIMEOUT = 5, 25
HELD = SIZE + GRACE
FAR = 10**6

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
                self._write(partition, first + cut, from_index(columns, cut))

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


def from_index(columns: Columns, cut: int) -> Columns:
    """The records of a frame from an index on."""
    assert columns.times is not None
    return Columns(
        columns.keys[cut:],
        columns.values[cut:],
        columns.timestamps[cut:],
        None,
        columns.times[cut:],
        tuple(i - cut for i in columns.controls if i >= cut),
    )


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
