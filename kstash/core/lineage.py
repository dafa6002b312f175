"""What the lineage topic says about one task group: its records folded in offset order.

Invariants:

- nothing of another generation counts: the topic was made anew since (protocol, H46);
- a CHECKPOINT, HINT, RELEASE or RUN after a higher CLAIM is void for ever (H6, H10, H47);
- a CHECKPOINT whose files cannot be (`core.file_names`) is void too: nothing is opened, deleted or
  trimmed by it;
- a SEGMENT counts wherever it lies: it is true information about its incarnation;
- a CHECKPOINT, HINT, RELEASE or RUN with a tombstone after it does not count: the cleaner may have
  taken the CLAIM that makes it void, and not have come to it yet. Other tombstones say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from kstash.core.determinants import Determinant, lineage_until
from kstash.core.file_names import is_sound
from kstash.core.hashes import OutputHashes
from kstash.core.ids import UNBOUNDED, Incarnation, TaskId
from kstash.core.record_keys import CHECKPOINT, HINT, RELEASE, RUN, encode_key, key_incarnation
from kstash.core.records import (
    BoundedRun,
    Checkpoint,
    Claim,
    Generation,
    Gone,
    Hint,
    LineageRecord,
    Release,
    Seal,
    Segment,
    Start,
)

OwnRecord = Seal | Start | Segment | Hint | Checkpoint | Release | BoundedRun
"""What an incarnation writes, under its own name."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The positions `[start, end)` of a task's history that one incarnation made.

    Empty where it made none that counts: its successor adopted no more than it had itself adopted.

    Attributes:
        incarnation: that made them.
        start: the end of what it had adopted, which is the end of the owner before it.
        end: at least `start`.
    """

    incarnation: Incarnation
    start: int
    end: int


@dataclass(slots=True)
class LineageView:
    """The state of one partition of the lineage topic, up to what was folded.

    All but `generation_record`, `claim` and `claims` is of the CONFIG's generation (H46), and all
    offsets are below `next_offset`.

    Attributes:
        generation_record: the CONFIG with the lowest offset, and that offset; None before one was
            seen. Never replaced: a later CONFIG says nothing.
        claim: offset of the highest CLAIM, or -1; only rises. It stays when that CLAIM is given up.
        next_offset: offset after the last folded record; only rises.
        starts: each START by its incarnation.
        segments: of each task, in the order of their offsets: of one incarnation without a gap, of
            several with overlaps.
        checkpoints: of each task, (offset, record) of those that count, by rising offset: none was
            void when it came (H6), each is sound, and none was given up.
        hints: of each task, the last one that was not void when it came (H10).
        releases: (offset, record) by the incarnation that was released; void ones are left out.
        runs: bounded runs that were begun, oldest first, each once.
        claims: offset of each CLAIM by its key; none is above `claim`.
        passing: incarnation by key of each SEAL, HINT and RELEASE, and of what is void: of no use
            once a later incarnation has its checkpoints.
        retained: newest remote checkpoints of a task that a recovery may fall back to, 2 or more;
            fixed.
        later_generation: a record is of a higher generation: what is folded here is of a topic that
            is gone, and its reader has not noticed. Once true, it stays.
    """

    generation_record: tuple[int, Generation] | None = None
    claim: int = -1
    next_offset: int = 0
    starts: dict[Incarnation, Start] = field(default_factory=dict)
    segments: dict[TaskId, list[Segment]] = field(default_factory=dict)
    checkpoints: dict[TaskId, list[tuple[int, Checkpoint]]] = field(default_factory=dict)
    hints: dict[TaskId, Hint] = field(default_factory=dict)
    releases: dict[Incarnation, tuple[int, Release]] = field(default_factory=dict)
    runs: list[BoundedRun] = field(default_factory=list)
    claims: dict[bytes, int] = field(default_factory=dict)
    passing: dict[bytes, Incarnation] = field(default_factory=dict)
    retained: int = 2
    later_generation: bool = False

    @property
    def generation(self) -> int | None:
        """Of the CONFIG, in Unix ms; None before one was seen."""
        found = self.generation_record
        return found[1].generation if found is not None else None

    @property
    def first_offsets(self) -> Mapping[str, int]:
        """Where a reset said that inputs begin, by topic."""
        found = self.generation_record
        return dict(found[1].first_offsets) if found is not None else {}

    def _check(self) -> None:
        """Assert what the fields promise of each other."""
        assert self.retained >= 2, "a recovery must be able to fall back"
        assert -1 <= self.claim < self.next_offset, "a CLAIM that was not folded"
        found = self.generation_record
        assert found is None or found[0] < self.next_offset, "a CONFIG, likewise"

    def fold(self, offset: int, record: LineageRecord | Gone) -> None:
        """Take the next record into account; offsets must rise."""
        assert offset >= self.next_offset, "lineage folded out of order"
        self.next_offset = offset + 1
        if isinstance(record, Generation):
            if self.generation_record is None:
                self.generation_record = offset, record
        elif isinstance(record, Claim):
            assert offset > self.claim, "a CLAIM below one that was seen"
            self.claim = offset
            self.claims[encode_key(record)] = offset
        elif isinstance(record, Gone):
            self.forget(record.key)
        elif self.is_foreign(record.incarnation):
            if self.generation is not None:
                self.later_generation |= record.incarnation.generation > self.generation
            self.note_void(record)
        else:
            self._fold_own(offset, record)
        self._check()

    def _fold_own(self, offset: int, record: OwnRecord) -> None:
        if isinstance(record, Start):
            self.starts[record.incarnation] = record
        elif isinstance(record, Segment):
            self.segments.setdefault(record.task, []).append(record)
        elif isinstance(record, Checkpoint):
            if not self.is_late(record.incarnation) and is_sound(record):
                found = self.checkpoints.setdefault(record.task, [])
                assert not found or found[-1][0] < offset, "checkpoints out of order"
                found.append((offset, record))
            else:
                self.note_void(record)
        elif isinstance(record, BoundedRun):
            if not self.is_late_run(record.incarnation):
                # Its producer may write it twice.
                self.runs = [*(run for run in self.runs if run != record), record]
            else:
                self.note_void(record)
        else:
            self.note_void(record)  # of use until then
            if isinstance(record, Hint):
                if not self.is_late_hint(record.incarnation):
                    self.hints[record.task] = record
            elif isinstance(record, Release) and not self.is_late(record.incarnation):
                self.releases[record.incarnation] = (offset, record)

    def note_void(self, record: OwnRecord) -> None:
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
            self.runs = [run for run in self.runs if encode_key(run) != key]

    def outlived(self, claim: int) -> str | None:
        """Why the incarnation of a CLAIM at this offset, which was read, is over; None if not."""
        if self.later_generation:
            return f"the lineage topic was made anew since its claim at offset {claim}"
        if self.generation is None or self.claim < claim:
            return f"its claim is not at offset {claim}: the lineage topic was made anew"
        if self.claim > claim:
            own = Incarnation(self.generation, claim)
            return f"incarnation {own} was fenced by a claim at offset {self.claim}"
        return None

    def is_another(self, found: Sequence[tuple[int, LineageRecord | Gone]]) -> bool:
        """Whether what lies now where the CONFIG was says that the topic was made anew (H63)."""
        return list(found) != [self.generation_record]

    def is_foreign(self, incarnation: Incarnation) -> bool:
        """Whether a record is of another life of the lineage topic than this one (H46).

        What lies before the first CONFIG is, too: nobody has claimed yet.
        """
        return incarnation.generation != self.generation

    def is_late(self, incarnation: Incarnation) -> bool:
        """Whether a CLAIM higher than `incarnation` lies before the current record (H6)."""
        return self.claim > incarnation.offset

    def is_late_run(self, incarnation: Incarnation) -> bool:
        """The same test for RUNs: the owner of group 0 that wrote it was fenced before (H47)."""
        return self.is_late(incarnation)

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

    def newest_chain(self) -> list[Start]:
        """The START chain that ends with the newest START: what the next recovery goes by."""
        return self.chain(self.starts[max(self.starts)] if self.starts else None)

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
    assert all(a.end == b.start for a, b in pairwise(owners)), "a history with a gap"
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


def is_on_history(chain: list[Start], checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint holds a state of the chain's history, not of an abandoned branch (H25).

    Its incarnation is on the START chain, and no later START adopted less than its position.
    """
    incarnations = [start.incarnation for start in chain]
    if checkpoint.incarnation not in incarnations:
        return False
    return all(
        checkpoint.position <= start.tasks[checkpoint.task.stage].adopted
        for start in chain
        if start.incarnation > checkpoint.incarnation and checkpoint.task.stage in start.tasks
    )


def known_hashes(
    view: LineageView, task: TaskId, owners: list[Owner], made: OutputHashes, adopted: int
) -> tuple[OutputHashes, ...]:
    """Hashes of outputs that incarnations of the history have said (H44), by position.

    Args:
        view: of the lineage topic.
        task: the task.
        owners: of its history.
        made: at the base; what began elsewhere, or is not above it, is left out.
        adopted: end of the history.
    """
    said: list[tuple[Incarnation, OutputHashes | None]] = []
    for _, checkpoint in view.checkpoints.get(task, ()):
        said += [(checkpoint.incarnation, h) for h in (checkpoint.made, checkpoint.checked)]
    if task in view.hints:
        said.append((view.hints[task].incarnation, view.hints[task].checked))
    known = {}
    for incarnation, hashes in said:
        if hashes is None or hashes.since != made.since:
            continue
        limit = history_limit(owners, incarnation)
        if limit is not None and made.position < hashes.position <= min(limit, adopted):
            known[hashes.position] = hashes
    return tuple(hashes for _, hashes in sorted(known.items()))


def release_covers(view: LineageView, base: Checkpoint, chain: list[Start]) -> bool:
    """Whether the group was released gracefully at the base's position, with no later START.

    The base may be older than the release: who has nothing to add makes no checkpoint.
    """
    release = view.releases.get(chain[-1].incarnation) if chain else None
    return release is not None and release[1].positions.get(base.task.stage) == base.position
