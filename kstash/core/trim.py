"""What may go: tombstones in the lineage topic and the purge of internal topics.

Only what the second-newest *remote* checkpoint covers may be trimmed: the newest may turn out
damaged, and a local one is lost with its disk (protocol, section 5, H21).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kstash.core.ids import Incarnation, TaskId
from kstash.core.lineage import LineageView
from kstash.core.records import Checkpoint, LineageRecord, encode_key


def retained_remote(view: LineageView, task: TaskId) -> Checkpoint | None:
    """The second-newest valid remote checkpoint of a task: the oldest one that is retained."""
    remote = sorted(
        (c.position, offset, c) for offset, c in view.checkpoints.get(task, ()) if may_trim_by(c)
    )
    return remote[-2][2] if len(remote) > 1 else None


def may_trim_by(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint survives the loss of this machine's disk (H21)."""
    return checkpoint.is_remote


def may_trim_now(view: LineageView, own: Checkpoint) -> bool:
    """Whether the writer may trim: its checkpoint was read back before any higher CLAIM (H7)."""
    return any(c == own for _, c in view.checkpoints.get(own.task, ()))


def tombstones(view: LineageView, tasks: Sequence[TaskId]) -> list[bytes]:
    """Keys of lineage records of a group's tasks that are covered and may be tombstoned."""
    covered: list[LineageRecord] = []
    oldest: list[Incarnation] = []
    for task in tasks:
        base = retained_remote(view, task)
        if base is None:
            oldest.append(Incarnation(0, 0))
            continue
        oldest.append(base.incarnation)
        covered += [s for s in view.segments.get(task, ()) if s.end <= base.position]
        covered += [c for _, c in view.checkpoints.get(task, ()) if c.position < base.position]
    # The START chain must reach down to every retained checkpoint's incarnation.
    floor = min(oldest)
    covered += [start for inc, start in sorted(view.starts.items()) if inc < floor]
    return [encode_key(record) for record in covered]


def purge_limit(
    reader_offsets: Iterable[int | None], writer_scan_starts: Iterable[int | None]
) -> int:
    """Offset below which an internal partition may be deleted.

    Args:
        reader_offsets: next offset of every reading task in its oldest retained remote checkpoint,
            None where it has none.
        writer_scan_starts: `scan_from` of every writing task in its oldest retained remote
            checkpoint: a reader's checkpoint does not make the writer's chunk stable (H14).

    Returns:
        The limit, 0 when any of them needs everything.
    """
    needed = [*reader_offsets, *writer_scan_starts]
    return min((0 if offset is None else offset for offset in needed), default=0)
