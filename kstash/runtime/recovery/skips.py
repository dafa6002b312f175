"""Counts what lies before records that are to be passed over from now on (protocol, H50)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kstash.core.group import GroupCore
from kstash.core.ids import TaskId
from kstash.core.reader import ReaderState
from kstash.core.skips import Asked, InputSkips
from kstash.errors import LocatedError, SkipTooLateError
from kstash.ports.kafka import Admin, Consumer, Headers, Message, Partition
from kstash.runtime.context import Clients
from kstash.runtime.decode import read_event
from kstash.runtime.layout import Layout
from kstash.runtime.places import located
from kstash.runtime.scan import ScanJob, ScanService


@dataclass(slots=True)
class _Count:
    """One question, and how far it is answered."""

    asked: Asked
    is_frames: bool
    reader: ReaderState | None
    skips: InputSkips
    events: int = 0
    before: dict[int, int] = field(default_factory=dict)

    def take(self, message: Message) -> None:
        """Take the next record of the input."""
        offset = message.offset()
        self._answer(lambda place: place <= offset)
        if self.is_answered():
            return
        if self.reader is None:
            self.events += self.skips.gap_end(offset) is None
            return
        self.events += (
            read_event(message, self.reader, is_frames=self.is_frames, skips=self.skips) is not None
        )

    def finish(self) -> tuple[int, ...]:
        """Events before each of the offsets."""
        self._answer(lambda _: True)
        return tuple(self.before[offset] for offset in self.asked.offsets)

    def is_answered(self) -> bool:
        """Whether nothing is open: what lies after the history is not read."""
        return self.events >= self.asked.events or len(self.before) == len(self.asked.offsets)

    def _answer(self, is_reached: Callable[[int], bool]) -> None:
        for offset in self.asked.offsets:
            if offset not in self.before and is_reached(offset):
                self.before[offset] = self.events


class SkipLocator:
    """Reads inputs from their bases on, as their tasks do, up to the places asked for.

    Args:
        clients: of the worker.
        layout: where tasks are.
        core: of the recovery.
        asked: what is to be found out.
        on_done: gets the answers, in the order of the questions.
        on_error: gets what ends the recovery.
    """

    def __init__(
        self,
        clients: Clients,
        layout: Layout,
        *,
        core: GroupCore,
        asked: Sequence[Asked],
        on_done: Callable[[tuple[tuple[int, ...], ...]], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._counts: list[_Count] = []
        self._on_done, self._on_error = on_done, on_error
        self._scanners: list[Consumer] = []
        self._services: list[ScanService] = []
        self._waiting = len(asked)
        self.jobs: list[ScanJob] = []
        stages = {stage.index: stage for stage in layout.topology.stages}
        services: dict[bool, ScanService] = {}
        skipped = {skip for start in core.chain for skip in start.skips}
        gaps = {gap for start in core.chain for gap in start.gaps} | core.gaps
        for question in asked:
            stage = stages[question.stage]
            source = stage.inputs[question.input]
            reader = None
            if source.kind.is_ruled:
                plan = core.plans[TaskId(question.stage, core.group)]
                known = plan.readers.get(question.input)
                reader = known.copy() if known else ReaderState(is_internal=source.internal)
            skips = InputSkips.of(skipped, gaps, question.stage, question.input)
            self._counts.append(_Count(question, source.internal, reader, skips))
            # What a task reads of a user topic is committed.
            is_committed = not source.kind.is_uncommitted
            if is_committed not in services:
                scanner = clients.cluster.scanner(is_committed=is_committed)
                self._scanners.append(scanner)
                services[is_committed] = ScanService(scanner)
            partition = source.topic, core.group
            for scanner in self._scanners:
                scanner.pass_over({partition: skips.gaps})
            self._submit(services[is_committed], clients.admin, partition, self._counts[-1])
        self._services = list(services.values())

    def pump(self, now: float) -> None:
        """Go on reading."""
        for service in self._services:
            service.pump(now)

    def close(self) -> None:
        """Close the clients."""
        for scanner in self._scanners:
            scanner.close()
        self._scanners = []
        self._services = []

    def _submit(
        self, service: ScanService, admin: Admin, partition: Partition, count: _Count
    ) -> None:
        end = admin.end_offsets([partition])[partition]
        end = min(end, max(count.asked.offsets))  # what lies there need not be readable
        start = count.asked.start

        def take(message: Message, _: Headers) -> None:
            if count.is_answered():
                return
            try:
                count.take(message)
            except LocatedError as error:
                self._on_error(located(error, message))
                return
            if count.is_answered():
                job.is_cancelled = True
                self._done()

        job = ScanJob({partition: (start, max(start, end))}, take, self._done)
        self.jobs.append(job)
        service.submit(job)

    def _done(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._on_done(tuple(count.finish() for count in self._counts))


def place_of_skip(error: SkipTooLateError, layout: Layout, group: int) -> SkipTooLateError:
    """Add the topic to an error."""
    stage = next(s for s in layout.topology.stages if s.index == error.stage)
    return error.at(stage.inputs[error.input].topic, group, error.offset)
