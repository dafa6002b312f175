"""Bounded runs: which run this is, and where its inputs end (protocol, section 8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kstash.core.lineage import LineageView
from kstash.core.records import Run, encode_key, encode_value
from kstash.errors import ProducerFailedError
from kstash.ports import DeliveredMessage, Headers, Message, Partition
from kstash.runtime.context import Context
from kstash.runtime.recovery import Recovery, lineage_record
from kstash.runtime.scan import ScanJob

LOOK_AGAIN_S = 0.2
"""Pause between looks for a RUN record that another worker is about to append."""


class BoundedRun:
    """Finds the unfinished run of the application, or begins one on the owner of group 0.

    The RUN record is read back from the lineage topic before any START of the run. A run is over
    when every group has released it; until then a start continues it.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: list[tuple[Recovery, Callable[[Run], None]]] = []
        self._look_at: float | None = None
        self._is_looking = False
        self._failure: Exception | None = None
        self.run: Run | None = None

    def wait(self, recovery: Recovery, go_on: Callable[[Run], None]) -> None:
        """Call `go_on` once the run is known; `recovery` is the group that waits."""
        if self.run is not None:
            go_on(self.run)
            return
        self._waiting.append((recovery, go_on))
        if not self._is_looking:
            self._look()

    def tick(self, now: float) -> None:
        """Look again when due. Raises what a look or an append failed with."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self._look_at is not None and now >= self._look_at:
            self._look_at = None
            self._look()

    def _look(self) -> None:
        context = self._context
        self._is_looking = True
        partitions = [(context.lineage_topic, g) for g in range(context.layout.group_count)]
        ends = context.admin.end_offsets(partitions)
        views = {partition: LineageView() for partition in partitions}

        def take(message: Message, _: Headers) -> None:
            record = lineage_record(message)
            if record is not None:
                views[message.topic(), message.partition()].fold(message.offset(), record)

        context.scans.submit(
            ScanJob({p: (0, ends[p]) for p in partitions}, take, lambda: self._looked(views))
        )

    def _looked(self, views: dict[Partition, LineageView]) -> None:
        self._is_looking = False
        runs = views[self._context.lineage_topic, 0].runs
        if runs and not all(_has_released(view, runs[-1].run) for view in views.values()):
            self._decide(runs[-1])
            return
        for recovery, _ in self._waiting:
            if recovery.group == 0:
                self._begin(recovery)
                return
        self._look_at = self._context.clock.monotonic() + LOOK_AGAIN_S

    def _begin(self, recovery: Recovery) -> None:
        context = self._context
        topology = context.layout.topology
        inputs: list[Partition] = [
            (topic, partition)
            for topic in topology.input_topics
            for partition in range(context.layout.partition_counts[topic])
        ]
        ends = context.admin.end_offsets(inputs)
        run = Run(
            recovery.core.incarnation,
            context.clock.time_ms(),
            tuple((topic, partition, ends[topic, partition]) for topic, partition in inputs),
        )

        def delivered(error: Any, _: DeliveredMessage) -> None:
            if error is not None:
                self._failure = ProducerFailedError(f"cannot append the RUN record: {error}")
            else:
                self._look()

        context.producers.markers.produce(
            context.lineage_topic,
            encode_value(run),
            encode_key(run),
            0,
            delivered,
            context.clock.time_ms(),
            None,
        )

    def _decide(self, run: Run) -> None:
        self.run = run
        self._context.run_ends.update({(t, p): end for t, p, end in run.ends})
        waiting, self._waiting = self._waiting, []
        for _, go_on in waiting:
            go_on(run)


def _has_released(view: LineageView, run: int) -> bool:
    return any(release.run == run for _, release in view.releases.values())
