"""What must hold of an application's topics, and where it does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from kstash.errors import RecordUnreadableError
from kstash.verify import formats
from kstash.verify.formats import UnreadableError

Fetch = Callable[[str, int], Iterable[bytes]]
"""Content of a stored file by its URI and its size; raises `UnreadableError`."""

RETAINED = 2
"""Newest remote checkpoints of a task whose files must exist: those of older ones may be gone."""


class Message(Protocol):
    """A consumed Kafka record."""

    def topic(self) -> str:
        """Name of the topic."""

    def partition(self) -> int:
        """Partition number."""

    def offset(self) -> int:
        """Offset in the partition."""

    def key(self) -> bytes | None:
        """Key."""

    def value(self) -> bytes | None:
        """Value; None is a tombstone."""

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        """Headers."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    Attributes:
        kind: `gap`, `duplicate`, `void`, `unreadable`, `missing` or `order`.
        topic: where.
        partition: where.
        offset: of the record at which it shows.
        detail: for people.
    """

    kind: str
    topic: str
    partition: int
    offset: int
    detail: str

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(slots=True)
class Report:
    """Findings, and the number of records that were checked by topic and partition."""

    findings: list[Finding] = field(default_factory=list)
    records: Counter[tuple[str, int]] = field(default_factory=Counter)
    dropped: Counter[tuple[str, int]] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def find(self, kind: str, message: Message, detail: str) -> None:
        """Report something about a record."""
        place = message.topic(), message.partition(), message.offset()
        self.findings.append(Finding(kind, *place, detail))


class SequenceCheck:
    """Sequence headers of one partition of an output or internal topic.

    On an internal topic repeats and records of fenced writers are allowed: its reader drops them.
    On a sink that is read `read_committed` there must be none.

    Args:
        application: the application's tag; records of others are skipped.
        is_internal: whether the topic holds frames.
        is_whole: whether the partition is read from offset 0.
        report: takes what is found.
    """

    def __init__(
        self, application: int, *, is_internal: bool, is_whole: bool, report: Report
    ) -> None:
        self._application = application
        self._is_internal = is_internal
        self._is_whole = is_whole
        self._report = report
        self._newest: dict[int, tuple[int, int]] = {}
        self._last: dict[tuple[int, int], int] = {}
        self._unnumbered: set[tuple[int, int]] = set()

    def take(self, message: Message) -> None:
        """Check the next record."""
        self._report.records[message.topic(), message.partition()] += 1
        try:
            headers = message.headers()
            marker = formats.header(headers, formats.MARKER)
            if marker is not None:
                self._take_marker(marker)
                return
            data = formats.header(headers, formats.IDENTITY)
            if data is None:
                if self._is_internal:
                    raise UnreadableError("record without an identity header")
                return
            found = formats.identity(data)
            if found.application != self._application:
                return
            chunk = formats.header(headers, formats.LINEAGE)
            if chunk is not None:
                formats.check_chunk(chunk)
            if self._is_internal:
                formats.check_frame(message.value(), found.records)
        except (UnreadableError, RecordUnreadableError) as error:
            self._report.find("unreadable", message, str(error))
            return
        self._take_identity(found, message)

    def _take_marker(self, data: bytes) -> None:
        application, groups = formats.fenced(data)
        if application == self._application:
            for group, *incarnation in groups:
                self._rise(group, (incarnation[0], incarnation[1]))

    def _rise(self, group: int, incarnation: tuple[int, int]) -> None:
        before = self._newest.get(group)
        if before is None or incarnation > before:
            self._newest[group] = incarnation
            if before is not None and before[0] > 0 and incarnation[0] > before[0]:
                for task in [task for task in self._last if task[1] == group]:
                    self._last[task] = 0

    def _take_identity(self, found: formats.Identity, message: Message) -> None:
        incarnation = found.generation, found.claim
        task = found.stage, found.partition
        name = f"task {found.stage}_{found.partition}, incarnation {found.generation}:{found.claim}"
        last_of_frame = found.first + found.records - 1
        if incarnation == (0, 0):  # no fences: the guarantee allows repeats
            self._unnumbered.add(task)
            return
        if incarnation < self._newest.get(found.partition, (0, 0)):
            self._drop("void", message, f"{name} was fenced before")
            return
        if (
            self._is_internal
            and self._is_whole
            and incarnation > self._newest.get(found.partition, (0, 0))
        ):
            self._drop("void", message, f"{name} comes before its fence")
            return
        self._rise(found.partition, incarnation)
        last = self._last.get(task)
        if task in self._unnumbered:
            self._unnumbered.discard(task)
            last = found.first - 1
        if last is None:
            last = 0 if self._is_internal and self._is_whole else found.first - 1
        if found.first > last + 1:
            self._report.find("gap", message, f"{name}: sequence {found.first} comes after {last}")
        elif last_of_frame <= last:
            self._drop("duplicate", message, f"{name}: sequence {found.first} comes again")
        self._last[task] = max(last, last_of_frame)

    def _drop(self, kind: str, message: Message, detail: str) -> None:
        if self._is_internal:
            self._report.dropped[message.topic(), message.partition()] += 1
        else:
            self._report.find(kind, message, detail)
