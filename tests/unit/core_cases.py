"""What the tests of the core share: names for ids, short constructors, and a pair of tasks.

`TaskPair` is a producing task, one partition of an internal topic, and a consuming reader: enough
to follow an output from `advance` and `emit` over acknowledgements to the reader rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kstash.core.determinants import Consumed, Determinant
from kstash.core.events import (
    Begin,
    CheckpointsVerified,
    ClaimAppended,
    Event,
    Fenced,
    LineageRead,
    SealAppended,
    StartAppended,
    TailsScanned,
)
from kstash.core.group import GroupCore
from kstash.core.ids import Incarnation, OutPartition, TaskId
from kstash.core.kinds import OutputKind
from kstash.core.lineage import LineageView
from kstash.core.outputs import Outgoing
from kstash.core.plan import TaskSpec
from kstash.core.reader import ReaderState
from kstash.core.records import (
    Checkpoint,
    Claim,
    Generation,
    Gone,
    LineageRecord,
    Segment,
    Start,
    TaskStart,
)
from kstash.core.task import TaskCore
from kstash.core.wire import Fence, Identity

APP = 0x5BB8CE0E8A933C42
GENERATION = 1_600_000_000_000
CLOCK_READ = 1
"""A kind of attachment."""

TASK = TaskId(1, 3)
OUT: OutPartition = (0, 0)
OUTPUT_COUNT = 3
OTHER: OutPartition = (0, 1)


def inc(offset: int, generation: int = GENERATION) -> Incarnation:
    """The incarnation of a CLAIM at `offset`."""
    return Incarnation(generation, offset)


def identity(
    incarnation: Incarnation,
    first_seq: int,
    count: int = 1,
    *,
    task: TaskId = TASK,
    position: int = 0,
    application: int = APP,
) -> Identity:
    """An identity header."""
    return Identity(application, task, incarnation, position, count, first_seq)


def fenced(*groups: int) -> ReaderState:
    """A reader of an internal partition that begins with the FENCEs of each group's first CLAIM."""
    table = ReaderState()
    first = inc(0)
    table.mark(Fence(APP, tuple((group, first) for group in groups or (TASK.partition,))))
    return table


def segment(
    offset: int, number: int, start: int, end: int, *entries: Determinant, task: TaskId = TASK
) -> Segment:
    """A segment of the incarnation with the CLAIM at `offset`; one run of input 0 by default."""
    runs = entries or (Consumed(start, 0, end - start, end),)
    return Segment(inc(offset), task, number, start, end, tuple(runs))


def start(
    offset: int,
    parent: int | None = None,
    *,
    base: int = 0,
    adopted: int = 0,
    task: TaskId = TASK,
    initial: Mapping[int, int] | None = None,
    settings: Mapping[str, str] | None = None,
    skips: tuple[tuple[int, int, int], ...] = (),
) -> Start:
    """A START of a group with one task."""
    return Start(
        inc(offset),
        None if parent is None else inc(parent),
        {task.stage: TaskStart(base, adopted, dict(initial or {}))},
        dict(settings or {}),
        skips,
    )


def checkpoint(
    offset: int,
    position: int,
    *,
    number: int = 1,
    is_remote: bool = False,
    task: TaskId = TASK,
    inputs: Mapping[int, int] | None = None,
    sequences: Mapping[OutPartition, int] | None = None,
    readers: Mapping[int, ReaderState] | None = None,
    scan_from: Mapping[OutPartition, int] | None = None,
) -> Checkpoint:
    """A CKPT, labelled by its incarnation's offset and its number."""
    return Checkpoint(
        inc(offset),
        task,
        number,
        is_remote=is_remote,
        position=position,
        label=f"{offset}-{number}",
        files=(),
        input_offsets=dict(inputs or {}),
        sequences=dict(sequences or {}),
        readers=dict(readers or {}),
        scan_from=dict(scan_from or {}),
    )


def view_of(*records: LineageRecord | Gone | tuple[int, LineageRecord | Gone]) -> LineageView:
    """A view of these records, at the offsets 0, 1, 2 … unless one is given with the record."""
    view = LineageView()
    for item in records:
        offset, record = item if isinstance(item, tuple) else (view.next_offset, item)
        view.fold(offset, record)
    return view


def claim() -> Claim:
    """A CLAIM; what it holds does not matter."""
    return Claim(b"n", "worker")


def config(generation: int = GENERATION) -> Generation:
    """A CONFIG."""
    return Generation(b"c", generation)


def task_core(
    *,
    incarnation: Incarnation | None = None,
    implicit: bool = False,
    position: int = 0,
    adopted: int | None = None,
    stable: int | None = None,
    lineage: Sequence[Determinant] = (),
    sequences: Mapping[OutPartition, int] | None = None,
    sinks: frozenset[int] = frozenset(),
    transactional: frozenset[int] = frozenset(),
    header_bytes_max: int = 4096,
    is_logging: bool = True,
) -> TaskCore:
    """A task that starts live at `position` unless told otherwise."""

    def kind_of(index: int) -> OutputKind:
        if index in transactional:
            return OutputKind.TRANSACTIONAL
        return OutputKind.IMMEDIATE if index in sinks else OutputKind.FRAMES

    end = position if adopted is None else adopted
    return TaskCore(
        TASK,
        incarnation or inc(7),
        implicit=implicit,
        position=position,
        adopted=end,
        stable=end if stable is None else stable,
        lineage=lineage,
        sequences=sequences or {},
        kinds=[kind_of(index) for index in range(OUTPUT_COUNT)],
        header_bytes_max=header_bytes_max,
        is_logging=is_logging,
    )


def run_batch(core: TaskCore, count: int, source: int = 0) -> None:
    """Let a task process one batch of `count` records of an input; offsets are positions."""
    at = core.position
    core.advance((Consumed(at, source, count, at + count),), at + count)


@dataclass
class TaskPair:
    """A producing task, a partition of an internal topic, a consuming reader.

    Attributes:
        log: (identity, chunk) of each record in the partition.
        read: what the reader took: (identity, records skipped at its head).
    """

    core: TaskCore
    table: ReaderState = field(default_factory=fenced)
    log: list[tuple[Identity, bytes | None]] = field(default_factory=list)
    read: list[tuple[Identity, int]] = field(default_factory=list)
    next_offset: int = 0

    def produce(self, count: int) -> Outgoing | None:
        """Process a batch of `count` records that makes as many outputs, and append them."""
        run_batch(self.core, count)
        outgoing = self.core.emit(OUT, count, None)
        if outgoing is not None:
            self.append(outgoing)
        return outgoing

    def append(self, outgoing: Outgoing) -> int:
        """Append outputs; returns their offset."""
        self.log.append(
            (
                Identity(
                    APP,
                    self.core.task,
                    self.core.incarnation,
                    outgoing.position,
                    outgoing.count,
                    outgoing.first_seq,
                ),
                outgoing.chunk,
            )
        )
        return len(self.log) - 1

    def consume(self) -> list[int]:
        """Read on; returns the sequences taken."""
        taken: list[int] = []
        for header, _ in self.log[self.next_offset :]:
            # Each incarnation has written its FENCE before its first frame.
            self.table.mark(Fence(APP, ((header.task.partition, header.incarnation),)))
            skip = self.table.accept(header)
            taken += range(header.first_seq + skip, header.first_seq + header.count)
            if skip < header.count:
                self.read.append((header, skip))
        self.next_offset = len(self.log)
        return taken


SPEC = TaskSpec(TASK, implicit=False, internal_outputs=(OUT,))
SINK_SPEC = TaskSpec(TASK, implicit=False, sink_outputs=(OUT,), scanned_sinks=(OUT,))


def group_core(
    spec: TaskSpec = SPEC, settings: Mapping[str, str] | None = None, **more: object
) -> GroupCore:
    """The recovery of a group with one task, which reads input 0 from outside."""
    return GroupCore(
        group=3,
        application=APP,
        specs=[spec],
        external_inputs={spec.task.stage: [0]},
        settings=settings or {"topology": "t1"},
        **more,  # type: ignore[arg-type]  # further fields of GroupCore, by name
    )


def events_of(
    topic: Sequence[LineageRecord],
    *,
    usable: frozenset[tuple[TaskId, str]] = frozenset(),
    committed: str | None = None,
    initial: Mapping[int, Mapping[int, int]] | None = None,
) -> list[Event]:
    """The events of an undisturbed recovery over a topic that holds `topic` from offset 0 on."""
    at = len(topic)
    first_config = next(item for item in enumerate(topic) if isinstance(item[1], Generation))
    return [
        Begin(),
        LineageRead(list(enumerate(topic))),
        ClaimAppended(at),
        LineageRead([(at, claim())]),
        Fenced((committed,)),
        SealAppended(at + 1),
        LineageRead([]),
        LineageRead([first_config]),
        CheckpointsVerified(usable),
        TailsScanned(initial or {TASK.stage: {0: 0}}),
        StartAppended(),
    ]
