"""What goes through each topic at this worker: records a second, over the last few."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from kstash.ports.status import TopicStatus
from kstash.runtime.task.task import Task
from kstash.runtime.worker.lags import Lag, Lags
from kstash.topology.model import Topology

WINDOW_SAMPLES = 5
"""Samples, a second apart, that a rate is the mean of."""


class Rates:
    """Counts what tasks read, and what they write where no stage of the application reads it."""

    def __init__(self, topology: Topology) -> None:
        self._read = {source.topic for stage in topology.stages for source in stage.inputs}
        topics = (*topology.input_topics, *topology.internal_topics, *topology.output_topics)
        self._totals = dict.fromkeys(topics, 0)
        self._samples: deque[tuple[float, Mapping[str, int]]] = deque(maxlen=WINDOW_SAMPLES + 1)
        # By the task object: a new incarnation counts from zero again.
        self._seen: dict[Task, list[int]] = {}

    def look(self, now: float, tasks: Iterable[Task]) -> None:
        """Add what was processed since the last sample."""
        before, self._seen = self._seen, {}
        for task in tasks:
            counts = [*(source.records for source in task.inputs.values()), *task.emission.written]
            old = before.get(task, [0] * len(counts))
            self._seen[task] = counts
            if counts != old:
                for topic, count, seen in zip(self._topics(task), counts, old, strict=True):
                    if topic is not None:
                        self._totals[topic] += count - seen
        self._samples.append((now, dict(self._totals)))

    def status(self, lags: Lags) -> tuple[TopicStatus, ...]:
        """All topics of the application, with the lags of those that are read here."""
        if not self._samples:
            return ()
        (since, first), (until, last) = self._samples[0], self._samples[-1]
        passed_s = max(until - since, 1e-9)
        found: dict[str, list[Lag]] = {topic: [] for topic in self._totals}
        for (topic, _), lag in lags.by_partition.items():
            found[topic].append(lag)
        return tuple(
            TopicStatus(
                topic,
                (last[topic] - first[topic]) / passed_s,
                sum(lag.records for lag in behind) if behind else None,
                max(lag.seconds for lag in behind) if behind else None,
            )
            for topic, behind in found.items()
        )

    def _topics(self, task: Task) -> Iterator[str | None]:
        """Topics that a task's counts are of; None: it is counted where it is read."""
        for source in task.inputs.values():
            yield source.partition[0]
        for output in task.outputs:
            yield None if output.topic in self._read else output.topic
