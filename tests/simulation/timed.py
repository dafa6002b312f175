"""Tasks in watermark mode: windows with final results, over the real rules of event time.

A record of a source is (key, value, timestamp). What goes between the stages is (key, count,
timestamp, time that is said with it), and so is a control record, whose key is `CONTROL`. Each
stage counts by key in tumbling windows; nothing is late in truth, so in the end all windows are
closed and together they have counted everything once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kstash.core.ids import TaskId
from kstash.core.live import LiveRules
from kstash.core.reader import ReaderState
from kstash.core.watermark import (
    BEFORE_ALL_MS,
    EventTimes,
    InputTime,
    Quiet,
    TaskEventTime,
)
from tests.simulation.programs import INTERNAL, Emission, Stage, Value

CONTROL = -1
GRACE = 6
"""Of the first stage, and how late a record of a source is at most."""

SIZES, GRACES = (20, 60), (GRACE, 0)
HELD = SIZES[0] + GRACE
INTERVAL, IDLE_TIMEOUT = 8, 30
DELAYS = (0, 12, 24)
"""How far logs may be behind the clock, the grace aside: less than what is idle for."""

SETTLED = IDLE_TIMEOUT + SIZES[0] + GRACE + SIZES[1]
"""So long after the last record all windows are over."""

APPLICATION = 7


class Timed:
    """The windows of one task, and its event time.

    Attributes:
        event_time: the task's.
        now_ms: how far time has come for the operator.
        windows: count and greatest timestamp by (start, key), of those that are open.
        late: records that were dropped.
    """

    def __init__(
        self,
        stage: Stage,
        tables: Mapping[int, ReaderState],
        saved: EventTimes | None,
        partitions: int,
    ) -> None:
        self.stage = stage
        self.event_time = TaskEventTime(
            range(len(stage.inputs)), saved, interval_ms=INTERVAL, idle_timeout_ms=IDLE_TIMEOUT
        )
        writers = [TaskId(stage.index - 1, p) for p in range(partitions)]
        self.inputs = {i: InputTime(t, APPLICATION, writers) for i, t in tables.items()}
        self.partitions = partitions
        self.now_ms = BEFORE_ALL_MS
        self.windows: dict[tuple[int, int], tuple[int, int]] = {}
        self.late = 0

    def snapshot(self) -> tuple[Any, ...]:
        """All of it, as a value."""
        times = self.event_time.saved()
        return (
            (self.now_ms, tuple(sorted(self.windows.items())), self.late),
            (tuple(sorted(times.inputs.items())), tuple(sorted(times.said.items()))),
            (times.passed_ms, times.ticked_ms),
        )

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """The windows of a checkpoint; its record has the times."""
        self.now_ms, windows, self.late = snapshot[0]
        self.windows = dict(windows)

    # ---- events

    def take(
        self, source: int, writer: TaskId | None, values: Iterable[Value], out: list[Emission]
    ) -> None:
        """Records of one Kafka record, those that the reader rule takes."""
        values, made = list(values), []
        times = [value[-1] for value in values]
        if writer is not None:
            times = self.inputs[source].hear(writer, times)
        for value, time in zip(values, self.event_time.time.take(source, times), strict=True):
            if value[0] != CONTROL:  # which changes the task's time and nothing else
                made += self._move(time)
                self._count(value)
        self._say(made, out)

    def tick(self, now_ms: int, out: list[Emission]) -> None:
        """Time passes on."""
        time = self.event_time.pass_on(now_ms)
        self._say(self._move(time), out)
        for index, output in enumerate(self.stage.outputs):
            if output.kind != INTERNAL:
                continue
            left = time - HELD
            for partition in range(self.partitions):
                if self.event_time.said.is_news((index, partition), left):
                    control = (CONTROL, 0, left, left)
                    self._say([(index, partition, control)], out)

    def idle(self, source: int, now_ms: int) -> None:
        """An input is idle."""
        self.event_time.idle(source, now_ms)

    def _move(self, time: int) -> list[Emission]:
        """Time has come so far: results of the windows that are over, with the time of each."""
        if time <= self.now_ms:
            return []
        self.now_ms = time
        length = SIZES[self.stage.index] + GRACES[self.stage.index]
        made: list[Emission] = []
        for start, key in sorted(w for w in self.windows if w[0] + length <= time):
            count, latest = self.windows.pop((start, key))
            for index in range(len(self.stage.outputs)):
                made.append((index, key % self.partitions, (key, count, latest, start)))
        return made

    def _count(self, value: Value) -> None:
        key, timestamp = value[0], value[2]
        size, grace = SIZES[self.stage.index], GRACES[self.stage.index]
        start = timestamp - timestamp % size
        if start + size + grace <= self.now_ms:
            self.late += 1
            return
        before, latest = self.windows.get((start, key), (0, BEFORE_ALL_MS))
        self.windows[start, key] = before + _counts(value), max(latest, timestamp)

    def _say(self, made: Sequence[Emission], out: list[Emission]) -> None:
        """What an event makes, with the times that it says: of each event before the next one."""
        for index, partition, value in made:
            if self.stage.outputs[index].kind == INTERNAL:
                (time,) = self.event_time.said.say((index, partition), [value[3]])
                out.append((index, partition, (*value[:3], time)))
            else:
                out.append((index, partition, value[:3]))

    # ---- checks

    def wrong(self, taken: Iterable[Value], results: Iterable[Value]) -> str | None:
        """What is wrong once all is quiet; None: nothing.

        Args:
            taken: all that the task has read, in any order.
            results: all that it has made for one output.
        """
        if self.late:
            return f"{self.late} records were late, and none was in truth"
        if self.windows:
            return f"windows are open at {self.now_ms} that are over: {self.windows}"
        size = SIZES[self.stage.index]
        found: Counter[tuple[int, int]] = Counter()
        for key, count, timestamp in (value[:3] for value in results if value[0] != CONTROL):
            if (timestamp - timestamp % size, key) in found:
                return f"two results of the window of {key} at {timestamp}"
            found[timestamp - timestamp % size, key] = count
        truth: Counter[tuple[int, int]] = Counter()
        for value in taken:
            if value[0] != CONTROL:
                truth[value[2] - value[2] % size, value[0]] += _counts(value)
        return None if found == truth else f"results are {found}, in order {truth}"


class Waits:
    """Since when the sources of a live task are at their ends.

    Args:
        timed: the task's.
    """

    def __init__(self, timed: Timed) -> None:
        self.quiet = Quiet(IDLE_TIMEOUT)
        self.timed = timed
        self.sources = [i for i, internal in enumerate(timed.stage.internal) if not internal]

    def look(self, now_ms: int, has_input: Sequence[int]) -> None:
        """Take note of the sources, those in `has_input` have something."""
        for source in self.sources:
            self.quiet.see(source, now_ms, is_at_end=source not in has_input)

    def is_tick_due(self, now_ms: int, rules: LiveRules) -> bool:
        """Whether time is to be passed on."""
        next_ms = self.timed.event_time.next_ms()
        return next_ms is not None and rules.due_ms(next_ms) <= now_ms

    def is_over(self, settled_ms: int) -> bool:
        """Whether time has come to where all windows are over."""
        held = HELD if self.timed.stage.index else 0
        return self.timed.now_ms >= settled_ms - held

    def idle(self, now_ms: int, until_ms: int) -> int | None:
        """A source that is to be said to be idle, if its time is below `until_ms`."""
        for source in self.sources:
            if self.timed.event_time.time.times[source] >= until_ms:
                continue
            due_ms = self.quiet.due_ms(source)
            if due_ms is not None and due_ms <= now_ms:
                self.quiet.say(source, now_ms)
                return source
        return None


def _counts(value: Value) -> int:
    """How much a record counts: one of a source once, a result as much as it has counted."""
    return value[1] if len(value) > 3 else 1
