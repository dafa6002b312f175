"""Recovery planning: from lineage records and scanned tails to what each task replays.

Pure functions; `core.group` calls them in the order of protocol section 6.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from kstash.core.determinants import (
    Determinant,
    contiguous_end,
    lineage_until,
    merge_lineage,
)
from kstash.core.hashes import OutputHashes
from kstash.core.ids import NO_INCARNATION, Incarnation, OutPartition, TaskId
from kstash.core.lineage import (
    UNBOUNDED,
    LineageView,
    Owner,
    history_limit,
    history_part,
    is_on_history,
    known_hashes,
    owners_of,
)
from kstash.core.lineage_codec import Lineage
from kstash.core.reader import ReaderTable
from kstash.core.records import Checkpoint, Hint, Start
from kstash.core.wire import Fence, Identity, Marker
from kstash.errors import LineageGapError, SequenceGapError


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What recovery must know of a task's place in the topology.

    Attributes:
        task: its id.
        implicit: it has one input partition: of what an incarnation does not log, the events
            follow from that.
        logs: it has one input partition, and this incarnation logs all the same: something else
            decides what it does, too (protocol, section 3).
        internal_outputs: output partitions on internal topics.
        sink_outputs: output partitions that are sinks.
        scanned_sinks: those of them with immediate delivery, whose tails carry lineage.
    """

    task: TaskId
    implicit: bool
    internal_outputs: tuple[OutPartition, ...] = ()
    sink_outputs: tuple[OutPartition, ...] = ()
    scanned_sinks: tuple[OutPartition, ...] = ()
    logs: bool = False

    @property
    def scanned_outputs(self) -> tuple[OutPartition, ...]:
        """Output partitions whose tails recovery reads."""
        return self.internal_outputs + self.scanned_sinks


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """How one task comes back.

    Attributes:
        base: checkpoint to restore, or None for the empty state at position 0.
        position: of the base.
        adopted: replay ends here (`x`); what comes after is new.
        stable: end of what the lineage topic holds contiguously.
        lineage: determinants of `[position, adopted)`.
        owners: which incarnation made which positions (for seeds of randomness).
        sequences: last sequence per output partition at `position`.
        last_valid: last valid sequence per internal output partition: up to it replay suppresses.
        committed: committed position: sink outputs up to it are suppressed.
        input_offsets: next offset per input at `position`; inputs that are missing start anew.
        readers: reader table per internal input at `position`.
        scan_from: scan starts that are still valid for the new incarnation.
        fresh_stores: stores that begin empty, whatever the base holds under their names.
        logs: this incarnation logs runs of its only input, as `TaskSpec` says.
        made: hashes of the outputs up to `position`, to go on from.
        checks: hashes at later positions, which the replay must come to (H44); ascending.
        said_by: (output partition, offset) of the first record in a tail that says that the history
            goes to `adopted`; None when none does.
    """

    task: TaskId
    base: Checkpoint | None
    position: int
    adopted: int
    stable: int
    lineage: tuple[Determinant, ...]
    owners: tuple[Owner, ...]
    sequences: Mapping[OutPartition, int]
    last_valid: Mapping[OutPartition, int]
    committed: int
    input_offsets: Mapping[int, int]
    readers: Mapping[int, ReaderTable]
    scan_from: Mapping[OutPartition, int]
    fresh_stores: frozenset[str] = frozenset()
    logs: bool = False
    made: OutputHashes = field(default_factory=lambda: OutputHashes(0, 0, {}))
    checks: tuple[OutputHashes, ...] = ()
    said_by: tuple[OutPartition, int] | None = None

    @property
    def base_label(self) -> str | None:
        """Label of the base's files; None when it has none, as of a stage that had no store yet."""
        return self.base.label if self.base is not None and self.base.files else None


def candidates(view: LineageView, task: TaskId, chain: list[Start]) -> list[Checkpoint]:
    """Checkpoints of a task that may serve as its base, best first (protocol, section 6 step 4)."""
    usable = [
        (checkpoint.position, offset, checkpoint)
        for offset, checkpoint in view.checkpoints.get(task, ())
        if is_on_history(chain, checkpoint)
    ]
    usable.sort(key=lambda item: item[:2], reverse=True)
    return [checkpoint for _, _, checkpoint in usable]


def scan_starts(
    view: LineageView, spec: TaskSpec, base: Checkpoint | None
) -> dict[OutPartition, tuple[int, Incarnation]]:
    """Where to start each output partition's scan, and the incarnation that vouches for it.

    The newest valid hint, or the `scan_from` of the base or of a valid remote checkpoint, else the
    beginning. Records of incarnations below the vouching one are void behind the start (H10: a hint
    may lie behind a FENCE).
    """
    # What was written under a lineage topic that is gone is no history of ours (H26); sinks hold no
    # FENCE that would say so.
    oldest = Incarnation(view.generation or 0, 0)
    starts: dict[OutPartition, tuple[int, Incarnation]] = dict.fromkeys(
        spec.scanned_outputs, (0, oldest)
    )
    hint = view.hints.get(spec.task)
    sources = [(c.scan_from, c.incarnation) for c in _vouching(view, spec.task, base)]
    if hint is not None:
        sources.append((hint.offsets, hint.incarnation))
    for offsets, incarnation in sources:
        for partition, offset in offsets.items():
            if partition in starts and offset >= starts[partition][0]:
                starts[partition] = (offset, max(incarnation, starts[partition][1]))
    return starts


class TailScan:
    """Collects what the tails of one task's output partitions say (protocol, section 6 step 5).

    Records of one partition come in the order of their offsets; partitions in any.

    Attributes:
        task: the task.
        starts: (offset, incarnation) by output partition: where its tail begins, and who vouches
            that nothing before it counts; fixed. Only these partitions are scanned.
        internal: those of them that are internal topics; fixed.
        position: the highest position that an accepted record, or the newest END, is of; only
            rises. The history goes there at least (H36).
        chunks: (incarnation, chunk) of each accepted record that carries one, as they came.
    """

    def __init__(
        self,
        spec: TaskSpec,
        starts: Mapping[OutPartition, tuple[int, Incarnation]],
        known: Container[Incarnation],
        reached: int = 0,
    ) -> None:
        """Begin with nothing seen.

        Args:
            spec: of the task.
            starts: where each partition's tail begins, and the incarnation that vouches for it.
            known: incarnations that a START is known of. On a sink others may write too: what is of
                another incarnation there is nobody's (H52).
            reached: position that no record before the starts is beyond.
        """
        self._known = known
        self._reached = reached
        # (reach, partition, offset) of each record that says more of the history than all before
        # it, by rising reach: for the error that has to name one.
        self._places: list[tuple[int, OutPartition, int]] = []
        # Of each sink partition, by incarnation, the sequences seen, as ranges [first, last] in the
        # order in which they came: only the last one grows. `_newest`: those of the incarnation
        # whose record was accepted last.
        self._seen: dict[OutPartition, dict[Incarnation, list[list[int]]]] = {}
        self._newest: dict[OutPartition, list[list[int]]] = {}
        self.task = spec.task
        self.starts = dict(starts)
        self.position = 0
        self.chunks: list[tuple[Incarnation, Lineage]] = []
        self.internal = frozenset(spec.internal_outputs)
        # The reader rule of each partition in which a record of an internal topic, or a marker, was
        # seen. Kstash writes no marker into a sink, but others may.
        self._tables: dict[OutPartition, ReaderTable] = {}

    def _check(self) -> None:
        """Assert what the fields promise; not for each record, of which there are many."""
        assert all(a[0] < b[0] for a, b in pairwise(self._places)), "places out of order"
        assert self.internal.isdisjoint(self._seen), "sequences of an internal topic"
        for ranges in (r for by_writer in self._seen.values() for r in by_writer.values()):
            assert all(first <= last for first, last in ranges), "an empty range of sequences"

    def on_record(
        self, partition: OutPartition, offset: int, identity: Identity, chunk: Lineage | None
    ) -> bool:
        """Take one record of this task into account.

        Returns:
            Whether it is one to compare with what the replay makes. On a sink a copy may repeat a
            record that lies before the scan: what is stable anyway is not compared there.
        """
        # What was written without fences has no history (H57).
        if not self._starts_at(partition, offset) or identity.incarnation == NO_INCARNATION:
            return False
        if partition in self.internal:
            table = self._table(partition, identity.application)
            try:
                skip = table.accept(identity)
            except SequenceGapError:
                skip = self._after_gap(table, identity)
            if skip == identity.count:
                return False
        elif not self._is_own(partition, identity) or self._is_copy(partition, identity):
            return False
        if chunk is not None:
            self.chunks.append((identity.incarnation, chunk))
        reach = max(identity.position, chunk.end if chunk is not None else 0)
        if reach > (self._places[-1][0] if self._places else 0):
            self._places.append((reach, partition, offset))
        self.position = max(self.position, identity.position)
        return partition in self.internal or identity.position > self._reached

    def _is_own(self, partition: OutPartition, identity: Identity) -> bool:
        """Whether a record of a sink is of an incarnation that may have written it."""
        if identity.incarnation not in self._known or identity.count != 1:
            return False
        return identity.incarnation >= self.starts[partition][1]

    def _is_copy(self, partition: OutPartition, identity: Identity) -> bool:
        """Whether this incarnation has written that sequence there before: it never does twice."""
        seen = self._seen.setdefault(partition, {}).setdefault(identity.incarnation, [])
        sequence = identity.first_seq
        if _is_within(seen, sequence):
            return True
        if not seen or seen[-1][1] + 1 != sequence:
            seen.append([sequence, sequence])
        seen[-1][1] = sequence
        self._newest[partition] = seen
        return False

    def on_next(self, partition: OutPartition, sequence: int) -> bool:
        """Take a record of a sink that differs from the last one accepted in its sequence only.

        That is the next one, and `on_record` was not called for the partition in between. Returns
        whether it is accepted.
        """
        seen = self._newest[partition]
        if len(seen) > 1 and _is_within(seen, sequence):
            return False
        seen[-1][1] = sequence
        return True

    def place_of(self, position: int) -> tuple[OutPartition, int] | None:
        """(Output partition, offset) of the first record that says that the history goes so far."""
        return next(((out, at) for reach, out, at in self._places if reach >= position), None)

    @staticmethod
    def _after_gap(table: ReaderTable, identity: Identity) -> int:
        # A scan begins midway, so a jump is no corruption here: a successor without the newest
        # checkpoint repeats old sequences, and the next one, with it, goes on above them.
        table.last_seq[identity.application, identity.task] = (
            identity.first_seq + identity.count - 1
        )
        return 0

    def on_marker(self, partition: OutPartition, offset: int, marker: Marker) -> None:
        """Take a FENCE, or an own END, into account."""
        if not self._starts_at(partition, offset):
            return
        if isinstance(marker, Fence):
            self._table(partition, marker.application).mark(marker)
        elif marker.task == self.task:
            table = self._table(partition, marker.application)
            table.mark(marker)
            if table.is_newest(marker.application, self.task.partition, marker.incarnation):
                self.position = max(self.position, marker.position)

    def last_valid(self, application: int) -> dict[OutPartition, int]:
        """Last valid sequence per internal output partition in which a record was accepted."""
        self._check()
        last: dict[OutPartition, int] = {}
        for partition, table in self._tables.items():
            sequence = table.last_seq.get((application, self.task))
            if partition in self.internal and sequence is not None:
                last[partition] = sequence
        return last

    def _starts_at(self, partition: OutPartition, offset: int) -> bool:
        return partition in self.starts and offset >= self.starts[partition][0]

    def _table(self, partition: OutPartition, application: int) -> ReaderTable:
        table = self._tables.get(partition)
        if table is None:
            group = application, self.task.partition
            table = ReaderTable(False, {group: self.starts[partition][1]})
            self._tables[partition] = table
        return table


def _is_within(ranges: Iterable[Sequence[int]], number: int) -> bool:
    return any(first <= number <= last for first, last in ranges)


def plan_task(
    view: LineageView,
    spec: TaskSpec,
    *,
    application: int,
    chain: list[Start],
    base: Checkpoint | None,
    scan: TailScan,
    committed: int,
) -> TaskPlan:
    """Put together what one task replays.

    Raises:
        LineageGapError: an output that readers have accepted relies on lineage that is nowhere.
    """
    owners = owners_of(chain, spec.task.stage)
    start = base.position if base is not None else 0
    logged = [
        (history_part(owners, inc, entries), _cut(owners, inc, end))
        for inc, end, entries in view.record_segments(spec.task)
    ]
    scanned = [
        (history_part(owners, inc, chunk.entries), _cut(owners, inc, chunk.end))
        for inc, chunk in scan.chunks
    ]
    in_topic = merge_lineage((entries for entries, _ in logged), start)
    known = merge_lineage((entries for entries, _ in logged + scanned), start)
    seen = max(
        adopted_floor(scan, committed),
        inherited_floor(spec, chain),
        skipped_floor(view, spec, owners, base),
    )
    # What follows by itself goes as far as anything durable speaks of it.
    free = positions_not_logged(spec, chain, owners)
    spoken_of = max([start, seen, *(end for _, end in logged + scanned)])
    adopted = min(contiguous_end(known, start, free), spoken_of)
    if seen > adopted:
        raise LineageGapError(
            f"task {spec.task}: an output at position {seen} is valid, but lineage is known "
            f"only through {adopted} (base at {start})",
            said_by=scan.place_of(seen),
            stage=spec.task.stage,
        )
    stable = min(contiguous_end(in_topic, start, free), adopted)
    sequences = dict(base.sequences) if base is not None else {}
    made = OutputHashes(start, start, {}) if base is None or base.made is None else base.made
    last_valid = {p: sequences.get(p, 0) for p in spec.internal_outputs}
    for partition, sequence in scan.last_valid(application).items():
        last_valid[partition] = max(sequence, last_valid.get(partition, 0))
    return TaskPlan(
        task=spec.task,
        base=base,
        position=start,
        adopted=adopted,
        stable=max(stable, start),
        lineage=tuple(lineage_until(known, adopted)),
        owners=tuple(owners),
        sequences=sequences,
        last_valid=last_valid,
        committed=committed,
        input_offsets=_input_offsets(chain, spec.task.stage, base),
        readers={i: table.copy() for i, table in base.readers.items()} if base else {},
        scan_from={p: offset for p, (offset, _) in scan.starts.items() if offset > 0},
        said_by=scan.place_of(adopted),
        logs=spec.logs,
        made=made,
        checks=known_hashes(view, spec.task, owners, made, adopted),
    )


def positions_not_logged(
    spec: TaskSpec, chain: Sequence[Start], owners: Sequence[Owner]
) -> list[tuple[int, int]]:
    """Ranges `[first, end)` whose events follow from the task's only input, by their START."""
    if not spec.implicit:
        return []
    if not owners:
        return [(0, UNBOUNDED)]
    stage = spec.task.stage
    logging = {s.incarnation for s in chain if stage in s.tasks and s.tasks[stage].logs}
    # What incarnations made whose STARTs were given up lies before every checkpoint that is left.
    first = replace(owners[0], start=0)
    return [
        (owner.start, owner.end)
        for owner in (first, *owners[1:])
        if owner.incarnation not in logging
    ]


def adopted_floor(scan: TailScan, committed: int) -> int:
    """The history reaches at least here: valid outputs exist up to it (H36)."""
    return max(scan.position, committed)


def inherited_floor(spec: TaskSpec, chain: list[Start]) -> int:
    """What the parent's START adopted is history for ever, even where its hints skip it.

    Where no output counts, as without exactly-once recovery, nothing relies on it.
    """
    parent = chain[-1].tasks.get(spec.task.stage) if chain else None
    if parent is None or not (spec.internal_outputs or spec.sink_outputs):
        return 0
    return parent.adopted


def skipped_floor(
    view: LineageView, spec: TaskSpec, owners: list[Owner], base: Checkpoint | None
) -> int:
    """What the scan starts skip was stable up to here, so the history reaches it (H36).

    The positions in the headers of skipped records are not seen by the scan.
    """
    if not (spec.internal_outputs or spec.sink_outputs):
        return 0
    sources = _told_by(view, spec.task, base)
    return max((_cut(owners, s.incarnation, s.reached) for s in sources), default=0)


def reached_by(view: LineageView, task: TaskId, base: Checkpoint | None) -> int:
    """No record before a scan start is of a later position: its lineage was stable then."""
    return max((source.reached for source in _told_by(view, task, base)), default=0)


def _told_by(view: LineageView, task: TaskId, base: Checkpoint | None) -> list[Checkpoint | Hint]:
    """Everything that tells scan starts of a task."""
    hint = view.hints.get(task)
    return [*_vouching(view, task, base), *((hint,) if hint is not None else ())]


def _vouching(view: LineageView, task: TaskId, base: Checkpoint | None) -> list[Checkpoint]:
    """Checkpoints that tell where scans start: the base, and remote ones however their files are.

    The purge goes by the newest remote one, and its files may turn out damaged (S9).
    """
    found = [c for _, c in view.checkpoints.get(task, ()) if c.is_remote]
    return found if base is None else [*found, base]


def _cut(owners: list[Owner], incarnation: Incarnation, end: int) -> int:
    limit = history_limit(owners, incarnation)
    return 0 if limit is None else min(end, limit)


def _input_offsets(chain: list[Start], stage: int, base: Checkpoint | None) -> dict[int, int]:
    offsets: dict[int, int] = {}
    # The last one says what all before it said, without inputs that were given up meanwhile.
    if chain and stage in chain[-1].tasks:
        offsets.update(chain[-1].tasks[stage].initial_offsets)
    if base is not None:
        offsets.update(base.input_offsets)
    return offsets
