"""How far event time has come, where it is the smallest over all that feeds a task.

That is watermark mode. Invariants (protocol, section 3):

- the time of a task is the smallest over its inputs; that of an internal input is the smallest over
  the tasks that write it. Whoever was never heard of counts as before all times: nobody is left out
  because nothing came of it, for it may only be slow. Who has said END of a bounded run is out
  until it writes again;
- each record carries the time of its writer, as the event that made it left it. It counts in front
  of that record, after the reader rule, and never where the rule drops the record;
- an input's time is a function of its own log, up to an event of it: of nothing that was read
  after that event, or of another input;
- times never go back.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from kstash.core.ids import OutPartition, TaskId
from kstash.core.reader import ReaderState

BEFORE_ALL_MS: Final = -(1 << 62)
"""The time of whoever was never heard of: below every time, and far enough from the least number of
64 bits that lengths of windows may be taken off it."""

AFTER_ALL_MS: Final = 1 << 62
"""Above every time."""


class InputTime:
    """Event time in one internal input, which tasks write that say their times."""

    __slots__ = ("_reader", "_writers")

    def __init__(self, reader: ReaderState, application: int, writers: Iterable[TaskId]) -> None:
        """Go on from what the reader state has.

        Args:
            reader: of the input; it has the times by writer.
            application: tag of the one application that writes there.
            writers: all tasks that write there, whether they ever did or not; one or more.
        """
        self._reader = reader
        # As the reader rule knows them: (application, task); one or more.
        self._writers = [(application, task) for task in writers]

    def hear(self, task: TaskId, times_ms: Sequence[int]) -> list[int]:
        """Records of a writer come, which the reader rule takes.

        Args:
            task: the writer.
            times_ms: that it has said with each record; they rise.

        Returns:
            The input's time at each of them: with its writer's time, and before what follows it.
        """
        reader = self._reader
        writer = next(found for found in self._writers if found[1] == task)
        latest = reader.hear(writer, times_ms[-1])
        others = min(
            (self.said(other) for other in self._writers if other != writer), default=AFTER_ALL_MS
        )
        least = min(latest, others)
        if times_ms[0] >= least:
            return [least] * len(times_ms)
        # What it had said before is in the first one: times of a writer rise.
        below = bisect_right(times_ms, others)
        return [*times_ms[:below], *[others] * (len(times_ms) - below)]

    def said(self, writer: tuple[int, TaskId]) -> int:
        """The time of a writer; `AFTER_ALL_MS` while it is out."""
        reader = self._reader
        if reader.is_out(writer):
            return AFTER_ALL_MS
        return reader.times.get(writer, BEFORE_ALL_MS)

    def newest_ms(self) -> int:
        """The time of the writer that has come farthest; `BEFORE_ALL_MS` where all are out."""
        said = [time for writer in self._writers if (time := self.said(writer)) != AFTER_ALL_MS]
        return max(said, default=BEFORE_ALL_MS)

    def slowest(self) -> tuple[TaskId, int]:
        """The writer that holds the input's time back, and its time."""
        time, writer = min((self.said(writer), writer) for writer in self._writers)
        return writer[1], time


class TaskTime:
    """Event time of one task: the smallest over its inputs.

    It is state: what is in `times` belongs into a checkpoint, for an input's time is as of its last
    event, and the reader state may know of an END after it.

    Attributes:
        times: by input, how far its time has come; only rises.
        now_ms: the smallest of them; only rises.
    """

    __slots__ = ("now_ms", "times")

    def __init__(self, inputs: Iterable[int], saved: Mapping[int, int]) -> None:
        """Go on from a checkpoint.

        Args:
            inputs: of the task, one or more.
            saved: times by input; inputs that are missing begin before all times.
        """
        self.times = {source: saved.get(source, BEFORE_ALL_MS) for source in inputs}
        self.now_ms = min(self.times.values())

    def take(self, source: int, times_ms: list[int]) -> list[int]:
        """Records of an input were taken, one after the other.

        Args:
            source: the input.
            times_ms: that each says of the input's time, in any order; one or more; not changed.

        Returns:
            The task's time after each; it may be the list that was given.
        """
        before = self.times[source]
        others = min(
            (time for other, time in self.times.items() if other != source), default=AFTER_ALL_MS
        )
        latest = self.times[source] = max(before, max(times_ms, default=before))
        self.now_ms = min(latest, others)
        if others <= before or latest == before:
            return [self.now_ms] * len(times_ms)
        if times_ms[0] >= before and latest <= others and sorted(times_ms) == times_ms:
            return times_ms
        made = accumulate(times_ms, max, initial=before)
        next(made)
        return [min(time, others) for time in made]

    def idle(self, source: int, now_ms: int, idle_timeout_ms: int) -> int:
        """An input has been at its end for `idle_timeout_ms`; returns the task's time after it.

        What it will have is of now: nothing older than the timeout is on its way. It is said again
        and again, and nothing is left out meanwhile: a task that is down says nothing, so its
        readers wait for it.

        Args:
            source: the input, of which the task is the only one to say so.
            now_ms: what the clock said, as it was logged.
            idle_timeout_ms: of the application.
        """
        return self.take(source, [now_ms - idle_timeout_ms])[0]

    def slowest(self) -> int:
        """The input that holds the task's time back."""
        return min(self.times, key=lambda source: (self.times[source], source))


class SaidTimes:
    """What a task has said of its time, by output partition of internal topics.

    It is state: what a control record says, and whether one goes out at all, depends on it.

    Attributes:
        times: the last time said; only rises.
    """

    __slots__ = ("times",)

    def __init__(self, saved: Mapping[OutPartition, int]) -> None:
        self.times = dict(saved)

    def say(self, partition: OutPartition, times_ms: list[int]) -> list[int]:
        """Records go to a partition; returns the times that they carry, which rise.

        Args:
            partition: the output partition.
            times_ms: what leaves the stage with each record, in any order; one or more; not
                changed, and maybe what is returned.
        """
        before = self.times.get(partition, BEFORE_ALL_MS)
        if times_ms[0] >= before and sorted(times_ms) == times_ms:
            self.times[partition] = times_ms[-1]
            return times_ms
        made = accumulate(times_ms, max, initial=before)
        next(made)
        said = list(made)
        self.times[partition] = said[-1]
        return said

    def is_news(self, partition: OutPartition, time_ms: int) -> bool:
        """Whether a partition has not heard of a time: a control record is to say it."""
        return self.times.get(partition, BEFORE_ALL_MS) < time_ms


@dataclass(frozen=True, slots=True)
class EventTimes:
    """What a checkpoint keeps of a task's event time.

    Attributes:
        inputs: how far time has come, by input.
        said: the last time said, by output partition of internal topics.
        passed_ms: the task's time that all operators were given, and all partitions.
        ticked_ms: when that was, by the clock; 0: never.
    """

    inputs: dict[int, int]
    said: dict[OutPartition, int]
    passed_ms: int = BEFORE_ALL_MS
    ticked_ms: int = 0


class TaskEventTime:
    """What a task keeps of event time, all of which is state, and when it passes it on.

    At a tick that is no operator's, the task's time is given to all operators, and said to all
    partitions that have not heard it. The tick comes when time has moved, and `interval_ms` after
    the last.

    Attributes:
        time: of the task, by inputs.
        said: to the partitions of internal topics.
    """

    __slots__ = ("_idle_timeout_ms", "_interval_ms", "_logged_ms", "_passed_ms", "said", "time")

    def __init__(
        self,
        inputs: Iterable[int],
        saved: EventTimes | None,
        *,
        interval_ms: int,
        idle_timeout_ms: int,
    ) -> None:
        """Go on from a checkpoint.

        Args:
            inputs: of the task, one or more.
            saved: by the checkpoint that the task begins with; None: it begins anew.
            interval_ms: see the setting `watermark_interval_ms`.
            idle_timeout_ms: see the setting.
        """
        saved = saved or EventTimes({}, {})
        self.time = TaskTime(inputs, saved.inputs)
        self.said = SaidTimes(saved.said)
        self._interval_ms = interval_ms
        self._idle_timeout_ms = idle_timeout_ms
        # The task's time that all operators were given, and all partitions; only rises.
        self._passed_ms = saved.passed_ms
        # The greatest time of a tick or of an idle input, by the clock; only rises.
        self._logged_ms = saved.ticked_ms

    @property
    def passed_ms(self) -> int:
        """The task's time that all operators were given, and all partitions; only rises."""
        return self._passed_ms

    def saved(self) -> EventTimes:
        """What a checkpoint keeps."""
        return EventTimes(
            dict(self.time.times),
            dict(self.said.times),
            passed_ms=self._passed_ms,
            ticked_ms=self._logged_ms,
        )

    def next_ms(self) -> int | None:
        """The wall time at which a tick is wanted, in Unix milliseconds; None: none is."""
        if self.time.now_ms <= self._passed_ms:
            return None
        return self._logged_ms + self._interval_ms

    def last_ms(self) -> int:
        """The greatest time that was logged; 0: none was."""
        return self._logged_ms

    def pass_on(self, now_ms: int) -> int:
        """A tick, at a logged time: returns how far time has come, which passes on."""
        self._logged_ms = max(self._logged_ms, now_ms)
        self._passed_ms = self.time.now_ms
        return self._passed_ms

    def idle(self, source: int, now_ms: int) -> None:
        """An input is idle, at a logged time: nothing older than the timeout is on its way."""
        self._logged_ms = max(self._logged_ms, now_ms)
        self.time.idle(source, now_ms, self._idle_timeout_ms)


class Quiet:
    """Since when inputs of a live task are at the ends of their logs, and when to say so.

    A live fact, and no state: whoever goes live begins anew.

    Args:
        idle_timeout_ms: how long an input is at its end before it is said to be idle.
    """

    __slots__ = ("_idle_timeout_ms", "_said", "_since")

    def __init__(self, idle_timeout_ms: int) -> None:
        self._idle_timeout_ms = idle_timeout_ms
        # By input: since when it is at its end.
        self._since: dict[int, int] = {}
        # By input: when that was said last; none that is not at its end.
        self._said: dict[int, int] = {}

    def see(self, source: int, now_ms: int, *, is_at_end: bool) -> None:
        """Take note of an input, as often as there is time."""
        if not is_at_end:
            self._since.pop(source, None)
            self._said.pop(source, None)
        else:
            self._since.setdefault(source, now_ms)

    def due_ms(self, source: int) -> int | None:
        """When the input is to be said to be idle; None while it is not at its end."""
        since = self._since.get(source)
        if since is None:
            return None
        said = self._said.get(source)
        if said is None:
            return since + self._idle_timeout_ms
        return said + max(1, self._idle_timeout_ms // 2)

    def say(self, source: int, now_ms: int) -> None:
        """The event is logged."""
        self._said[source] = now_ms
