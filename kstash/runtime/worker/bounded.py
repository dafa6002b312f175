"""Bounded runs: which run this is, and where its inputs end (protocol, section 8)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import structlog

from kstash.core.ids import Incarnation
from kstash.core.lineage import LineageView
from kstash.core.record_codec import encode_value
from kstash.core.record_keys import encode_key
from kstash.core.records import BoundedRun
from kstash.errors import KafkaUnavailableError
from kstash.failpoints import around
from kstash.ports.kafka import DeliveredMessage, Headers, Message, Partition
from kstash.ports.process import Clock
from kstash.runtime.context import Clients
from kstash.runtime.layout import Layout
from kstash.runtime.lineage_reader import lineage_record
from kstash.runtime.recovery.attempt import RecoveryAttempt
from kstash.runtime.scan import ScanJob

LOOK_AGAIN_S = 0.2
"""Pause between reads for what another worker is about to append: a RUN, or its RELEASEs."""

CHECK_S_MAX = 60.0
"""Longest read: a lineage topic that was made anew never gets as far as the one before was."""

log = structlog.get_logger("kstash.bounded")


class RunFinder:
    """Finds the unfinished run of the application, or begins one on the owner of group 0.

    The RUN record is read back from the lineage topic before any START of the run, and counts only
    with no higher CLAIM of group 0 before it (H47): a fenced owner's run would end at inputs of
    long ago. A run is over when every group has released it; until then a start continues it. When
    it is over no worker starts a group any more: a worker that leaves hands those that are done to
    one that does not know yet.

    A drain is a run without ends: nothing new is read, what is on its way between stages is
    finished. Drains continue drains, runs to an end such runs, and those that close windows others
    that do: an END fixes the history only where its successors do the same before it.

    Args:
        layout: where tasks are, and whether open windows close at the end.
        clients: of the worker.
        clock: time.
        is_drain: whether to drain.

    Attributes:
        run: the run, once known.
        ends: where it ends in each user topic's partition, from then on; a drain ends at once.
        is_over: every group of the application has released it.
        enders: once it is over, the incarnation of each group whose release counts: the last one
            that was read back with no higher CLAIM before it. What others hold is void.
    """

    def __init__(
        self, layout: Layout, clients: Clients, clock: Clock, *, is_drain: bool = False
    ) -> None:
        self._layout = layout
        self._clients = clients
        self._clock = clock
        self._is_drain = is_drain
        self._waiting: list[tuple[RecoveryAttempt, Callable[[BoundedRun], None]]] = []
        self._asking: list[tuple[RecoveryAttempt, Callable[[BoundedRun], None]]] = []
        self._beginner: RecoveryAttempt | None = None  # whose RUN is on its way
        self._check_at: float | None = None
        self._checking: ScanJob | None = None
        self._checking_since = 0.0
        # Of partition 0: the offset after the own RUN. A listed end may lie before it (H24).
        self._written = 0
        self.run: BoundedRun | None = None
        self.ends: dict[Partition, int] = {}
        self.is_over = False
        self.enders: frozenset[Incarnation] = frozenset()

    def wait(self, recovery: RecoveryAttempt, go_on: Callable[[BoundedRun], None]) -> None:
        """Call `go_on` once the run is known and not over; `recovery` is the group that waits."""
        self._waiting.append((recovery, go_on))
        if self._checking is None:
            self._check()

    def tick(self, now: float) -> None:
        """Check again when due."""
        if self._checking is not None and now >= self._checking_since + CHECK_S_MAX:
            self._checking.is_cancelled = True
            self._checking, self._written = None, 0
            self._check_later(f"the lineage topic was not read within {CHECK_S_MAX:g} s")
        if self._check_at is not None and now >= self._check_at:
            self._check()

    def wait_for_end(self) -> None:
        """Find out whether the run is over: this worker has nothing left to do for it.

        A worker that left before the others would hand them groups that are done.
        """
        if not self.is_over and self._checking is None and self._check_at is None:
            self._check_at = self._clock.monotonic() + LOOK_AGAIN_S

    def _check_later(self, reason: object) -> None:
        log.warning("cannot find out about the bounded run now, looking again", reason=str(reason))
        self._beginner = None
        self._check_at = self._clock.monotonic() + LOOK_AGAIN_S

    def _check(self) -> None:
        self._check_at = None
        # What comes to wait during the read may have been released since.
        self._asking, self._waiting = [*self._asking, *self._waiting], []
        partitions = [(self._layout.lineage_topic, g) for g in range(self._layout.group_count)]
        try:
            ends = self._clients.admin.end_offsets(partitions)
        except KafkaUnavailableError as error:
            self._check_later(error)
            return
        first = self._layout.lineage_topic, 0
        seals = [r.core.view.next_offset for r, _ in self._asking if r.group == 0]
        ends[first] = max(ends[first], self._written, *seals)
        views = {partition: LineageView() for partition in partitions}

        def take(message: Message, _: Headers) -> None:
            record = lineage_record(message)
            if record is not None:
                views[message.topic(), message.partition()].fold(message.offset(), record)

        ranges = {p: (0, ends[p]) for p in partitions}
        self._checking = ScanJob(ranges, take, lambda: self._checked(views))
        self._checking_since = self._clock.monotonic()
        self._clients.scans.submit(self._checking)

    def _checked(self, views: dict[Partition, LineageView]) -> None:
        self._checking = None

        def enders(run: BoundedRun) -> list[Incarnation | None]:
            return [_ender(view, run.run) for view in views.values()]

        if self.run is not None and None not in (found := enders(self.run)):
            self.is_over = True
            self.enders = frozenset(ender for ender in found if ender is not None)
            return
        runs = views[self._layout.lineage_topic, 0].runs
        if runs and self._is_of_this_kind(runs[-1]) and None in enders(runs[-1]):
            self._decide(runs[-1])
            if self._waiting:
                self._check()
            return
        for recovery, _ in reversed(self._asking):
            if recovery.group == 0 and recovery is not self._beginner:
                self._beginner = recovery
                self._begin(recovery, views.values())
                return
        self._check_at = self._clock.monotonic() + LOOK_AGAIN_S

    def _is_of_this_kind(self, run: BoundedRun) -> bool:
        closes_windows = self._layout.closes_windows
        return self._is_drain == (not run.ends) and closes_windows == run.closes_windows

    def _begin(self, recovery: RecoveryAttempt, views: Iterable[LineageView]) -> None:
        inputs = [] if self._is_drain else self._inputs()
        try:
            ends = self._clients.admin.end_offsets(inputs)
        except KafkaUnavailableError as error:
            self._check_later(error)
            return
        run = BoundedRun(
            recovery.core.incarnation,
            # A clock that was set back must not make it one that is over.
            max(self._clock.time_ms(), 1 + max(_run_numbers(views), default=0)),
            tuple((topic, partition, ends[topic, partition]) for topic, partition in inputs),
            closes_windows=self._layout.closes_windows,
        )

        def delivered(error: Any, message: DeliveredMessage) -> None:
            # When it did get there in spite of an error, the next read finds it.
            offset = message.offset()
            if error is not None or offset is None:
                self._check_later(error)
                return
            with around("lineage.run.ack"):
                self._written = offset + 1
                if self._checking is None:
                    self._check()

        with around("lineage.run.append"):
            self._clients.producers.markers.produce(
                topic=self._layout.lineage_topic,
                value=encode_value(run),
                key=encode_key(run),
                partition=0,
                on_delivery=delivered,
                timestamp_ms=self._clock.time_ms(),
                headers=None,
            )

    def _inputs(self) -> list[Partition]:
        layout = self._layout
        return [
            (topic, partition)
            for topic in layout.topology.input_topics
            for partition in range(layout.partition_counts[topic])
        ]

    def _decide(self, run: BoundedRun) -> None:
        self.run = run
        ends = {(t, p): end for t, p, end in run.ends}
        self.ends.update({p: ends.get(p, 0) for p in self._inputs()})
        asking, self._asking = self._asking, []
        for _, go_on in asking:
            go_on(run)


def _run_numbers(views: Iterable[LineageView]) -> Iterator[int]:
    for view in views:
        yield from (run.run for run in view.runs)
        yield from (r.run for _, r in view.releases.values() if r.run is not None)


def _ender(view: LineageView, run: int) -> Incarnation | None:
    """Which incarnation of a group has released a run, the last one of several; None: none has."""
    releases = view.releases.items()
    return max((inc for inc, (_, release) in releases if release.run == run), default=None)
