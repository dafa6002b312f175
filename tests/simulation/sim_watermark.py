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

from random import Random
from typing import Any

from kstash.core.frames import Columns, decode_frame, encode_frame
from kstash.core.ids import TaskId
from kstash.core.wire import Identity
from tests.simulation.watermark_readers import Reader
from tests.simulation.watermark_writers import (
    APPLICATION,
    HELD,
    INTERVAL,
    FoundOutError,
    Log,
    Upstream,
    Weakened,
    Written,
    from_index,
)

SILENT = 150
"""Steps at the end in which nothing happens: all is read, and all idle."""


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
            alone = from_index(Columns(*(_upto(column, index) for column in columns)), index)
            log.append(Written(head, encode_frame(*alone), [], 0))
    other = Reader(reader.task, log, reader.writers, [Log()], reader.weakened)
    other.read(10**6)
    if not reader.weakened.idle_by_readers and other.windows.closed != reader.windows.closed:
        raise FoundOutError("results depend on frames")


def _upto(column: Any, index: int) -> Any:
    if isinstance(column, tuple):
        return tuple(i for i in column if i <= index)
    return None if column is None else column[: index + 1]
