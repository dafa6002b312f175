"""How far tasks are behind their inputs: from their positions and the stable ends.

The stable end of an input is where its consumer can read to: the last stable offset for
`read_committed`, the high watermark for what is read uncommitted. A position moves past what holds
no record (`kstash.runtime.task.positions`), so a task that has read everything has no lag.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from kstash.ports.kafka import Admin, OffsetsAnswer, Partition
from kstash.ports.process import Clock
from kstash.runtime.group.group import TaskGroup
from kstash.runtime.input_ends import QUESTION_S_MAX, ask_ends
from kstash.runtime.layout import Layout
from kstash.runtime.task.inputs import TaskInput
from kstash.runtime.task.task import Task

ENDS_INTERVAL_S = 2.0
"""The ends of the inputs are asked for this often: it costs a round trip."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a task is behind an input.

    Attributes:
        records: offsets up to the stable end; 0 when there is nothing to read.
        seconds: for how long the oldest record that is not processed has been waiting, at most.
    """

    records: int
    seconds: float


NO_LAG = Lag(0, 0.0)


@dataclass(slots=True)
class _Input:
    """What is known of an input partition.

    Attributes:
        end: its stable end.
        since_s: monotonic seconds until which everything had been read, or since which its end is
            known.
        asked_s: when the end was asked for, likewise.
        was_read: whether everything had been read at `since_s`.
    """

    end: int
    since_s: float
    asked_s: float = 0.0
    was_read: bool = False


class Lags:
    """Asks for the ends of the inputs now and then, and keeps the lag of each.

    Args:
        admin: is asked.
        layout: where tasks are.
        clock: time.

    Attributes:
        by_partition: as of the last check; inputs whose end is not known are left out.
        silent_since: monotonic time since which a question waits for its answer, or was answered
            by no broker; None: all is answered.
    """

    def __init__(self, admin: Admin, layout: Layout, clock: Clock) -> None:
        self.by_partition: dict[Partition, Lag] = {}
        self.silent_since: float | None = None
        self._admin = admin
        self._clock = clock
        self._uncommitted = {
            source.topic
            for stage in layout.topology.stages
            for source in stage.inputs
            if source.kind.is_uncommitted
        }
        counts = layout.partition_counts
        self._firsts = [(t, 0) for t in layout.topology.input_topics if counts[t]]
        self._due = self._asked_s = 0.0
        self._answers: list[OffsetsAnswer] = []
        self._inputs: dict[Partition, _Input] = {}

    def look(self, now: float, groups: Mapping[int, TaskGroup]) -> None:
        """Take answers, ask when due, and see how far each input is.

        `Intake` has noted just before, in the same turn, how far the inputs were read.
        """
        sources = dict(_sources(groups))
        for partition in self._inputs.keys() - sources.keys():
            del self._inputs[partition]
        if now - self._asked_s > QUESTION_S_MAX:
            self._answers.clear()
        if not self._answers and now >= self._due:
            # Without a group of its own a worker asks too: it has to see an outage end.
            self._ask(now, sources.keys() or self._firsts)
        if self._answers:
            self._take(now, sources.keys())
        self.by_partition = {
            partition: self._lag(now, known, sources[partition])
            for partition, known in self._inputs.items()
        }

    def of_task(self, task: Task) -> Lag | None:
        """Lag of all inputs of a task together; None when it is not known of each."""
        found = NO_LAG
        for source in task.inputs.values():
            lag = self.by_partition.get(source.partition)
            if lag is None:
                return None
            if lag.records:
                found = Lag(found.records + lag.records, max(found.seconds, lag.seconds))
        return found

    def _ask(self, now: float, partitions: Collection[Partition]) -> None:
        # Not waited for: a broker that is away must not hold up the loop.
        self._due = now + ENDS_INTERVAL_S
        self._asked_s = now
        self._answers = ask_ends(self._admin, {p: p[0] in self._uncommitted for p in partitions})

    def _take(self, now: float, partitions: Collection[Partition]) -> None:
        found = [answer() for answer in self._answers]
        known = [ends for ends in found if ends is not None]
        if len(known) == len(found):
            self._answers.clear()
        if len(known) < len(found) or not any(known):
            if self.silent_since is None:
                self.silent_since = self._asked_s
            return
        self.silent_since = None
        for ends in known:
            for partition, end in ends.items():
                if partition in partitions:
                    seen = self._inputs.setdefault(partition, _Input(end, now))
                    seen.end, seen.asked_s = end, self._asked_s

    def _lag(self, now: float, known: _Input, source: TaskInput) -> Lag:
        # What waits here may have come after the end was asked for.
        records = max(0, known.end - source.next_offset, len(source.buffer))
        if not records:
            # It has read all that was there when the end was asked for.
            known.since_s, known.was_read = max(known.since_s, known.asked_s), True
            return NO_LAG
        waited_s = now - known.since_s
        first = source.buffer.first_timestamp_ms
        timestamp_ms = first if first is not None else source.newest_timestamp
        if timestamp_ms <= 0:
            return Lag(records, waited_s)
        age_s = max(0.0, (self._clock.time_ms() - timestamp_ms) / 1000)
        # Records may be much older than their place in the log.
        return Lag(records, min(age_s, waited_s) if known.was_read else age_s)


def _sources(groups: Mapping[int, TaskGroup]) -> Iterator[tuple[Partition, TaskInput]]:
    for group in groups.values():
        for task in group.tasks.values():
            for source in task.inputs.values():
                yield source.partition, source
