"""What the lineage topic says about one task group: its records folded in offset order.

Invariants:

- a CHECKPOINT, HINT or RELEASE behind a higher CLAIM is void for ever (protocol, H6, H10);
- a SEGMENT counts wherever it lies: it is true information about its incarnation;
- a CHECKPOINT, HINT or RELEASE with a tombstone behind it does not count: the cleaner may have
  taken the CLAIM that makes it void, and not have come to it yet. Other tombstones say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kstash.core.determinants import Determinant, lineage_until
from kstash.core.ids import Incarnation, TaskId
from kstash.core.records import (
    CHECKPOINT,
    HINT,
    RELEASE,
    RUN,
    Checkpoint,
    Claim,
    Config,
    Gone,
    Hint,
    LineageRecord,
    Release,
    Run,
    Segment,
    Start,
    encode_key,
    key_incarnation,
)

UNBOUNDED = 1 << 62
"""Above every position."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The positions `[start, end)` of a task's history that one incarnation made."""

    incarnation: Incarnation
    start: int
    end: int


@dataclass(slots=True)
class LineageView:
    """The state of one partition of the lineage topic, up to what was folded.

    Attributes:
        generation: of the CONFIG with the lowest offset, or None before one was seen.
        claim: offset of the highest CLAIM, or -1.
        next_offset: offset behind the last folded record.
        retained: newest remote checkpoints of a task that a recovery may fall back to, 2 or more.
        first_offsets: where a reset said that inputs begin, by topic.
        claims: offset of each CLAIM by its key.
        passing: incarnation by key of each SEAL, HINT and RELEASE, and of what is void: of no use
            once a later incarnation has its checkpoints.
    """

    generation: int | None = None
    claim: int = -1
    next_offset: int = 0
    first_offsets: Mapping[str, int] = field(default_factory=dict)
    starts: dict[Incarnation, Start] = field(default_factory=dict)
    segments: dict[TaskId, list[Segment]] = field(default_factory=dict)
    checkpoints: dict[TaskId, list[tuple[int, Checkpoint]]] = field(default_factory=dict)
    hints: dict[TaskId, Hint] = field(default_factory=dict)
    releases: dict[Incarnation, tuple[int, Release]] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    claims: dict[bytes, int] = field(default_factory=dict)
    passing: dict[bytes, Incarnation] = field(default_factory=dict)
    retained: int = 2

    def fold(self, offset: int, record: LineageRecord | Gone) -> None:
        """Take the next record into account; offsets must rise."""
        assert offset >= self.next_offset, "lineage folded out of order"
        self.next_offset = offset + 1
        if isinstance(record, Config):
            if self.generation is None:
                self.generation = record.generation
                self.first_offsets = dict(record.first_offsets)
        elif isinstance(record, Claim):
            self.claim = offset
            self.claims[encode_key(record)] = offset
        elif isinstance(record, Start):
            self.starts[record.incarnation] = record
        elif isinstance(record, Segment):
            self.segments.setdefault(record.task, []).append(record)
        elif isinstance(record, Run):
            self.runs.append(record)
        elif isinstance(record, Checkpoint):
            if not self.is_late(record.incarnation):
                self.checkpoints.setdefault(record.task, []).append((offset, record))
            else:
                self.note_void(record)
        elif isinstance(record, Gone):
            self.forget(record.key)
        else:
            self.passing[encode_key(record)] = record.incarnation
            if isinstance(record, Hint):
                if not self.is_late_hint(record.incarnation):
                    self.hints[record.task] = record
            elif isinstance(record, Release) and not self.is_late(record.incarnation):
                self.releases[record.incarnation] = (offset, record)

    def note_void(self, record: Checkpoint) -> None:
        """Remember to give up what is void, before the CLAIM that makes it so is given up."""
        self.passing[encode_key(record)] = record.incarnation

    def forget(self, key: bytes) -> None:
        """A record was given up: what may be void without showing it does not count any more.

        Raises:
            WireCorruptError: not a key.
        """
        incarnation, kind = key_incarnation(key)
        self.claims.pop(key, None)  # the CLAIM itself counts while it is there
        self.passing.pop(key, None)
        if kind == CHECKPOINT:
            for found in self.checkpoints.values():
                found[:] = [item for item in found if encode_key(item[1]) != key]
        elif kind == HINT:
            for task in [t for t, hint in self.hints.items() if encode_key(hint) == key]:
                del self.hints[task]
        elif kind == RELEASE:
            self.releases.pop(incarnation, None)
        elif kind == RUN:
            self.runs[:-1] = [run for run in self.runs[:-1] if encode_key(run) != key]

    def is_late(self, incarnation: Incarnation) -> bool:
        """Whether a CLAIM higher than `incarnation` lies before the current record (H6)."""
        return self.claim > incarnation.offset

    def is_late_hint(self, incarnation: Incarnation) -> bool:
        """The same test for hints (H10)."""
        return self.is_late(incarnation)

    def parent_of(self, incarnation: Incarnation) -> Start | None:
        """The highest START below an incarnation: whose history it takes over."""
        below = [inc for inc in self.starts if inc < incarnation]
        return self.starts[max(below)] if below else None

    def chain(self, parent: Start | None) -> list[Start]:
        """The START chain that ends with `parent`, oldest first."""
        chain: list[Start] = []
        while parent is not None:
            chain.append(parent)
            parent = self.starts.get(parent.parent) if parent.parent is not None else None
        chain.reverse()
        return chain

    def record_segments(
        self, task: TaskId
    ) -> list[tuple[Incarnation, int, tuple[Determinant, ...]]]:
        """(incarnation, end, entries) of each segment of a task."""
        return [(s.incarnation, s.end, s.entries) for s in self.segments.get(task, ())]


def owners_of(chain: list[Start], stage: int) -> list[Owner]:
    """Who made which positions of a task: `H = H(parent)[:x] + own`, unrolled, oldest first."""
    owners: list[Owner] = []
    end = UNBOUNDED
    for start in reversed(chain):
        task = start.tasks.get(stage)
        adopted = task.adopted if task is not None else 0
        owners.append(Owner(start.incarnation, min(adopted, end), end))
        end = min(end, adopted)
    owners.reverse()
    return owners


def history_limit(owners: list[Owner], incarnation: Incarnation) -> int | None:
    """Positions below this one of an incarnation's records belong to the history (H9).

    What an incarnation below its own adopted end says restates its parent's history and counts
    (H29). None: the incarnation is not on the chain.
    """
    for owner in owners:
        if owner.incarnation == incarnation:
            return owner.end
    return None


def history_part(
    owners: list[Owner], incarnation: Incarnation, entries: tuple[Determinant, ...]
) -> list[Determinant]:
    """The part of an incarnation's determinants that belongs to the chain's history."""
    limit = history_limit(owners, incarnation)
    if limit is None:
        return []
    return lineage_until(entries, limit)
