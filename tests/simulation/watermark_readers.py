"""Tasks of the world of event time as readers, with tumbling windows and final results."""

from __future__ import annotations

from kstash.core.determinants import Consumed, Idle, Tick
from kstash.core.frames import Columns, decode_frame
from kstash.core.ids import TaskId
from kstash.core.reader import ReaderState
from kstash.core.watermark import (
    AFTER_ALL_MS,
    BEFORE_ALL_MS,
    InputTime,
    TaskTime,
)
from kstash.core.wire import End, Identity
from tests.simulation.watermark_writers import (
    APPLICATION,
    GRACE,
    GRACE_2,
    HELD,
    IDLE_TIMEOUT,
    SIZE,
    SIZE_2,
    FoundOutError,
    Log,
    Out,
    Saved,
    Weakened,
    Writer,
    from_index,
)


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
        columns, outs = from_index(columns, cut), []
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
