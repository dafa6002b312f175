"""What may go: tombstones in the lineage topic and the purge of internal topics.

Only what the second-newest *remote* checkpoint covers may be trimmed: the newest may turn out
damaged, and a local one is lost with its disk (protocol, section 5, H21).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kstash.core.ids import Incarnation, OutPartition, TaskId
from kstash.core.lineage import LineageView, is_on_history
from kstash.core.record_keys import encode_key
from kstash.core.records import Checkpoint, FileEntry, LineageRecord
from kstash.core.task import TaskCore


def retained_remote(view: LineageView, task: TaskId) -> Checkpoint | None:
    """The oldest remote checkpoint of a task that is retained: the second-newest, as a rule.

    What an idle task says again of one position is one checkpoint. What no recovery would take, as
    its branch was given up, is none (H25).
    """
    chain = view.newest_chain()
    remote = {
        c.position: c
        for _, c in view.checkpoints.get(task, ())
        if may_trim_by(c) and is_on_history(chain, c)
    }
    return remote[sorted(remote)[-view.retained]] if len(remote) >= view.retained else None


def oldest_needed(view: LineageView, base: Checkpoint) -> Incarnation:
    """The oldest incarnation whose START a recovery from a checkpoint needs (H49).

    It is the one that made the event at the checkpoint's position, and may lie below the one that
    published it: who takes over a local checkpoint stores its files in its own name, though it goes
    on only at the end of what it adopted.
    """
    chain = [s for s in view.newest_chain() if s.incarnation <= base.incarnation]
    for start in reversed(chain):
        task = start.tasks.get(base.task.stage)
        if task is not None and task.adopted <= base.position:
            return start.incarnation
    return chain[0].incarnation if chain else base.incarnation


def may_trim_by(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint survives the loss of this machine's disk (H21)."""
    return checkpoint.is_remote


def may_trim_now(view: LineageView, own: Checkpoint) -> bool:
    """Whether the writer may trim: its checkpoint was read back before any higher CLAIM (H7)."""
    return any(c == own for _, c in view.checkpoints.get(own.task, ()))


def tombstones(view: LineageView, tasks: Sequence[TaskId]) -> list[bytes]:
    """Keys of lineage records of a group's tasks that are covered, in the order to give them up."""
    covered: list[LineageRecord] = []
    oldest: list[Incarnation] = []
    for task in tasks:
        base = retained_remote(view, task)
        if base is None:
            oldest.append(Incarnation(0, 0))
            continue
        oldest.append(oldest_needed(view, base))
        covered += [s for s in view.segments.get(task, ()) if s.end <= base.position]
        newest = {c.position: c for _, c in view.checkpoints.get(task, ()) if may_trim_by(c)}
        covered += [
            c
            for _, c in view.checkpoints.get(task, ())
            if c.position < base.position
            # Said again later, of the same position.
            or (may_trim_by(c) and newest[c.position] is not c)
        ]
    # Below what every task's oldest retained checkpoint needs.
    floor = min(oldest)
    keys = [encode_key(record) for record in covered]
    kept = _newest_run_release(view)
    keys += [key for key, inc in view.passing.items() if inc < floor and key != kept]
    # Only the newest run may still have to be finished.
    keys += [encode_key(run) for run in view.runs[:-1] if run.incarnation < floor]
    keys += starts_below(view, floor)
    # Last, and the oldest first: while the void is there, what makes it void must be there.
    keys += claims_below(view, floor)
    return keys


def _newest_run_release(view: LineageView) -> bytes | None:
    """Key of the RELEASE that says that the group is through with the newest bounded run."""
    of_runs = [r for _, (_, r) in sorted(view.releases.items()) if r.run is not None]
    return encode_key(of_runs[-1]) if of_runs else None


def starts_below(view: LineageView, floor: Incarnation) -> list[bytes]:
    """Keys of the STARTs below: the chain must reach down to every retained checkpoint (H9)."""
    return [encode_key(start) for inc, start in sorted(view.starts.items()) if inc < floor]


def claims_below(view: LineageView, floor: Incarnation) -> list[bytes]:
    """Keys of the CLAIMs below, oldest first: those from there on make void what comes late (H6).

    What they made void lies before the CLAIM of the floor itself, so the owner has seen it all.
    """
    if view.generation is None:
        return []
    by_offset = sorted((offset, key) for key, offset in view.claims.items())
    return [key for offset, key in by_offset if Incarnation(view.generation, offset) < floor]


def reader_limit(view: LineageView, task: TaskId, input_index: int) -> int:
    """Next offset of an input in a task's oldest retained remote checkpoint; 0 when it has none."""
    base = retained_remote(view, task)
    return base.input_offsets.get(input_index, 0) if base is not None else 0


def writer_limit(view: LineageView, task: TaskId, partition: OutPartition) -> int:
    """Where a recovery of a task starts to scan an output partition; 0 without a checkpoint.

    The newest remote checkpoint decides, whether its files are good or not: a recovery takes its
    `scan_from` even when it falls back to an older one (`core.recovery.scan_starts`). Hints say
    nothing here: a late one, which is void, may have replaced a good one when it is needed.
    """
    found = view.checkpoints.get(task, ())
    return max((c.scan_from.get(partition, 0) for _, c in found if may_trim_by(c)), default=0)


def said_again(
    newest: Checkpoint, core: TaskCore, number: int, input_offsets: Mapping[int, int]
) -> Checkpoint | None:
    """A task's newest remote checkpoint as of today, when scan starts or inputs have moved on.

    A task that is idle takes no new checkpoint, but others go on writing where it may write: what
    it says again lets the purge follow them (H40). Its inputs move on too, over what holds no
    record for it; retention deletes that in the end, and what a replay begins with must not be
    there. State, position and label are the same.

    Args:
        newest: what the task said last and read back from the lineage topic.
        core: of the task.
        number: of the new record, unique for the incarnation.
        input_offsets: positions in inputs without a reader state, by input.
    """
    if core.position != newest.position:
        return None
    starts = core.scan_from()
    offsets = {**newest.input_offsets, **input_offsets}
    if (starts, offsets) == (newest.scan_from, newest.input_offsets):
        return None
    return replace(
        newest,
        incarnation=core.incarnation,
        number=number,
        input_offsets=offsets,
        places={i: replace(place, offset=offsets[i]) for i, place in newest.places.items()},
        scan_from=starts,
        reached=core.stable,
        checked=core.checked(),
    )


def made_remote(
    local: Checkpoint, core: TaskCore, number: int, files: tuple[FileEntry, ...]
) -> Checkpoint | None:
    """The record that makes a published checkpoint a remote one, once its conditions hold.

    Args:
        local: of the task's incarnation, or the base that it was restored from.
        core: of the task.
        number: of the new record, unique for the incarnation.
        files: with their URIs.
    """
    # A base lies below what was adopted: the scan starts of this incarnation, which the record
    # takes, skip what only headers held until that is in the lineage topic (H29).
    if not core.may_publish_checkpoint(max(local.position, core.adopted)):
        return None
    return replace(
        local,
        incarnation=core.incarnation,
        number=number,
        is_remote=True,
        files=files,
        scan_from=core.scan_from(),
        reached=core.stable,
        checked=core.checked(),
    )


def purge_limit(
    views: Mapping[int, LineageView],
    readers: Iterable[tuple[TaskId, int]],
    writers: Iterable[tuple[TaskId, OutPartition]],
) -> int:
    """Offset below which an internal partition may be deleted.

    Args:
        views: of each partition of the lineage topic, by task group.
        readers: every task that reads the partition, and by which of its inputs.
        writers: every task that writes it, and as which of its outputs: a reader's checkpoint does
            not make the writer's chunk stable (H14).

    Returns:
        The limit, 0 when any of them needs everything.
    """
    needed = [reader_limit(views[task.partition], task, index) for task, index in readers]
    needed += [writer_limit(views[task.partition], task, out) for task, out in writers]
    return min(needed, default=0)
