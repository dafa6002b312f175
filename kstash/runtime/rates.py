"""What goes through each topic at this worker: records a second, over the last few."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from kstash.ports import TopicStatus
from kstash.runtime.lags import Lags
from kstash.runtime.task import Task
from kstash.topology import Topology

WINDOW_LOOKS = 5
"""Looks, of a second each, that a rate is the mean of."""


class Rates:
    """Counts what tasks read, and what they write where nobody of the application reads it."""

    def __init__(self, topology: Topology) -> None:
        self._read = {source.topic for stage in topology.stages for source in stage.inputs}
        topics = (*topology.input_topics, *topology.internal_topics, *topology.output_topics)
        self._totals = dict.fromkeys(topics, 0)
        self._looks: deque[tuple[float, Mapping[str, int]]] = deque(maxlen=WINDOW_LOOKS + 1)
        # Keyed by the task object: a new incarnation counts from zero again.
        self._seen: dict[int, tuple[Task, dict[str, int]]] = {}

    def look(self, now: float, tasks: Iterable[Task]) -> None:
        """Add what was processed since the last look."""
        before, self._seen = self._seen, {}
        for task in tasks:
            counts = dict(self._counts(task))
            known = before.get(id(task))
            old = known[1] if known is not None and known[0] is task else {}
            self._seen[id(task)] = task, counts
            for topic, count in counts.items():
                self._totals[topic] += count - old.get(topic, 0)
        self._looks.append((now, dict(self._totals)))

    def status(self, lags: Lags) -> tuple[TopicStatus, ...]:
        """All topics of the application, with the lags of those that are read here."""
        if not self._looks:
            return ()
        (since, first), (until, last) = self._looks[0], self._looks[-1]
        passed_s = max(until - since, 1e-9)
        found = []
        for topic in self._totals:
            behind = [lag for (name, _), lag in lags.by_partition.items() if name == topic]
            found.append(
                TopicStatus(
                    topic,
                    (last[topic] - first[topic]) / passed_s,
                    sum(lag.records for lag in behind) if behind else None,
                    max(lag.seconds for lag in behind) if behind else None,
                )
            )
        return tuple(found)

    def _counts(self, task: Task) -> Iterator[tuple[str, int]]:
        for source in task.inputs.values():
            yield source.partition[0], source.records
        for target, count in zip(task.targets, task.written, strict=True):
            if target.topic not in self._read:
                yield target.topic, count
