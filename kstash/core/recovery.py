"""Recovery planning: from lineage records and scanned tails to what each task replays.

Pure functions; `core.group` calls them in the order of protocol section 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kstash.core.determinants import (
    Determinant,
    contiguous_end,
    lineage_until,
    merge_lineage,
)
from kstash.core.hashes import OutputHashes
from kstash.core.ids import UNBOUNDED, Incarnation, OutPartition, TaskId
from kstash.core.lineage import (
    LineageView,
    Owner,
    history_limit,
    history_part,
    is_on_history,
    known_hashes,
    owners_of,
)
from kstash.core.plan import TaskPlan, TaskSpec
from kstash.core.records import Checkpoint, Hint, Start
from kstash.core.tail_scan import TailScan
from kstash.errors import LineageGapError


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
    beginning. Records of incarnations below the vouching one are void after the start (H10: a hint
    may lie after a FENCE).
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
    seen = max(
        adopted_floor(scan, committed),
        inherited_floor(spec, chain),
        skipped_floor(view, spec, owners, base),
    )
    known, adopted, stable = _known_history(view, spec, chain, owners, scan, start=start, seen=seen)
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
        readers={i: reader.copy() for i, reader in base.readers.items()} if base else {},
        scan_from={p: offset for p, (offset, _) in scan.starts.items() if offset > 0},
        places=dict(base.places) if base is not None else {},
        said_by=scan.place_of(adopted),
        logs=spec.logs,
        made=made,
        checks=known_hashes(view, spec.task, owners, made, adopted),
    )


def _known_history(
    view: LineageView,
    spec: TaskSpec,
    chain: list[Start],
    owners: list[Owner],
    scan: TailScan,
    *,
    start: int,
    seen: int,
) -> tuple[list[Determinant], int, int]:
    """Lineage from `start` on, and the ends of what is known of it and of what is stable.

    Raises:
        LineageGapError: the history goes to `seen`, and what is known of it does not.
    """
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
    return known, adopted, min(contiguous_end(in_topic, start, free), adopted)


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
    sources = _scan_start_records(view, spec.task, base)
    return max((_cut(owners, s.incarnation, s.reached) for s in sources), default=0)


def reached_by(view: LineageView, task: TaskId, base: Checkpoint | None) -> int:
    """No record before a scan start is of a later position: its lineage was stable then."""
    return max((source.reached for source in _scan_start_records(view, task, base)), default=0)


def _scan_start_records(
    view: LineageView, task: TaskId, base: Checkpoint | None
) -> list[Checkpoint | Hint]:
    """All records that a task's scan starts depend on."""
    hint = view.hints.get(task)
    return [*_vouching(view, task, base), *((hint,) if hint is not None else ())]


def _vouching(view: LineageView, task: TaskId, base: Checkpoint | None) -> list[Checkpoint]:
    """Checkpoints that decide where scans start: the base, and remote ones however their files are.

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
