"""What a task of a new incarnation runs again, and which of its outputs are out already.

The lineage says which input comes next and where each run of it ends; the tails that recovery has
scanned say which outputs need not go out again, and what was made at the time.

Invariants (protocol, section 6 step 7):

- a batch of a replay ends at the committed position and at the adopted end at the latest, because
  an output's position is its batch's end, and those are what suppression and lineage go by;
- internal outputs are suppressed up to the last valid sequence, also beyond the adopted end; sink
  outputs up to the committed position (H32);
- what a record had of the outside, as a clock read, it gets again from the lineage, never anew;
- what is made again is compared with what a scan has found, whether it is suppressed or not (I9),
  and as a whole by its hashes, where an incarnation before has said them (H44): batches end there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from operator import eq
from typing import Any

from kstash.core.determinants import (
    UNKNOWN_OFFSET,
    Attachment,
    Completed,
    Consumed,
    EventEntry,
    Flush,
    Idle,
    MergedBatch,
    MergedInput,
    Tick,
    end_of,
)
from kstash.core.hashes import OutputHashes
from kstash.core.ids import OutPartition
from kstash.core.plan import TaskPlan
from kstash.errors import LineageGapError, ReplayDivergedError

Stored = Mapping[OutPartition, dict[int, Any]]
"""Outputs that a scan has found, by sequence, in a form that can be compared for equality."""


@dataclass(frozen=True, slots=True)
class RecordsNext:
    """Events that come next: records of one input.

    Attributes:
        input: its index.
        count: how many, at most.
        left: how many are left of the run that they begin.
        end_offset: of the input after that run, or `UNKNOWN_OFFSET`.
        run: position at which the run begins that the lineage has: what its events have asked is
            attached there.
    """

    input: int
    count: int
    left: int
    end_offset: int
    run: int


NextEvent = RecordsNext | MergedBatch | Tick | Flush | Idle | Completed
"""What comes next in a replay: records, or an entry of the lineage from its own position on."""


class Replay:
    """The replay of one task; after its end, what is left to be suppressed.

    Attributes:
        name: of the task, for errors.
        adopted: where the replay ends; fixed.
        committed: position up to which sink outputs are out; fixed.
    """

    def __init__(
        self,
        plan: TaskPlan,
        *,
        name: str,
        only_input: int | None,
        topics: Sequence[str],
        internal: Container[int],
        stored: Stored,
    ) -> None:
        """Begin at the plan's base.

        Args:
            plan: of the task.
            name: of the task, for errors.
            only_input: its input, when it has just one: what nothing covers follows from that.
            topics: of its outputs, for errors.
            internal: indices of its outputs that are internal topics.
            stored: what scans have found; it is emptied as it is passed.
        """
        self.name = name
        self.adopted = plan.adopted
        self.committed = plan.committed
        self._only_input = only_input
        self._topics = topics
        self._internal = internal
        # By internal output partition, the last sequence that is out; those that were passed go.
        self._last_valid = dict(plan.last_valid)
        # Without what was scanned as damaged only.
        self._stored = {out: records for out, records in stored.items() if records}
        # Of each of those, the sequences among which all of it lies.
        self._scanned = {
            out: range(min(records), max(records) + 1) for out, records in self._stored.items()
        }
        # By rising position; those that were passed go.
        self._checks = deque(plan.checks)
        # Events from the current position on; the first may have begun before it.
        self._entries: deque[EventEntry] = deque(
            e for e in plan.lineage if not isinstance(e, Attachment)
        )
        attached = [e for e in plan.lineage if isinstance(e, Attachment)]
        # In order of their positions, so that those that are passed are the first.
        self._attached = deque((a.position, a.index, a.k) for a in attached)
        # By (position, index, k), of those in `_attached` just as many.
        self._attachments = {(a.position, a.index, a.k): a for a in attached}

    # -- inputs ----------------------------------------------------------------------------------

    def next_event(self, position: int, most: int) -> NextEvent:
        """What comes next at `position`, which is below the adopted end.

        Records are at most `most` events, and end where a batch must end. A merged batch
        comes whole, however large it is: who cannot do it at once goes on with the same merge.

        Raises:
            LineageGapError: the lineage does not say, or `position` lies within a merged batch.
        """
        entries = self._entries
        while entries and end_of(entries[0]) <= position:
            entries.popleft()
        entry = entries[0] if entries else None
        first = position if entry is None else min(position, entry.position)
        while self._attached and self._attached[0][0] < first:
            del self._attachments[self._attached.popleft()]
        if entry is not None and entry.position <= position:
            return self._next_of(entry, position, most)
        if self._only_input is None:
            raise LineageGapError(f"task {self.name}: no lineage for position {position}")
        end = self.adopted if entry is None else min(entry.position, self.adopted)
        left = end - position
        return RecordsNext(
            self._only_input, self._count(position, most, left), left, UNKNOWN_OFFSET, position
        )

    def _next_of(self, entry: EventEntry, position: int, most: int) -> NextEvent:
        left = end_of(entry) - position
        if isinstance(entry, Consumed):
            count = self._count(position, most, left)
            return RecordsNext(entry.input, count, left, entry.end_offset, entry.position)
        if entry.position != position or self.cut_after(position) < end_of(entry):
            raise LineageGapError(
                f"task {self.name}: [{entry.position}, {end_of(entry)}) is one, and cannot be "
                f"begun at {position} and end at {self.cut_after(position)}"
            )
        return entry

    def _count(self, position: int, most: int, left: int) -> int:
        return min(left, most, self.cut_after(position) - position)

    def cut_after(self, position: int) -> int:
        """Where a batch that begins at `position` must end at the latest."""
        cut = self.adopted
        if position < self.committed:
            cut = min(cut, self.committed)
        if self._checks:
            cut = min(cut, self._checks[0].position)
        return cut

    def verify(self, records: RecordsNext, count: int, end_offset: int) -> None:
        """Verify that the first `count` records still are what the lineage says (H13).

        Args:
            records: as `next_event` gave them.
            count: events read, at least 1.
            end_offset: of the input after the last of them.

        Raises:
            ReplayDivergedError: without the place, which is the input at `end_offset`.
        """
        if records.end_offset == UNKNOWN_OFFSET:
            return
        is_whole = count == records.left
        if end_offset > records.end_offset or (is_whole and end_offset != records.end_offset):
            raise ReplayDivergedError(
                f"task {self.name}: {count} records end at offset {end_offset}, the lineage says "
                f"{records.end_offset}: the input was changed by compaction or retention"
            )

    def verify_merged(self, batch: MergedBatch, parts: tuple[MergedInput, ...]) -> None:
        """Verify that a merged batch has taken of its inputs what the lineage says (H13).

        Raises:
            ReplayDivergedError: the inputs were changed.
        """
        if parts != batch.parts:
            raise ReplayDivergedError(
                f"task {self.name}: a merged batch took {parts}, the lineage says {batch.parts}: "
                "an input was changed by compaction or retention"
            )

    def attachment(self, position: int, index: int, k: int, kind: int) -> bytes:
        """What a record had of the outside when it was processed first: its payload.

        Asked again, it is the same again: until `next_event` is asked for a later position.

        Args:
            position: of the event, the last `next_event`'s or a later one.
            index: of the logical record within the event.
            k: how many attachments the record has before it.
            kind: of what is asked for, as in the attachment.

        Raises:
            ReplayDivergedError: it had none, or one of another kind.
        """
        found = self._attachments.get((position, index, k))
        if found is None or found.kind != kind:
            had = "nothing" if found is None else f"kind {found.kind}"
            raise ReplayDivergedError(
                f"task {self.name}, event {position}: record {index} asks the outside for kind "
                f"{kind} as number {k}, the lineage has {had} there; is the program deterministic?"
            )
        return found.payload

    # -- outputs ---------------------------------------------------------------------------------

    def suppressed(self, out: OutPartition, position: int, first: int, count: int) -> int:
        """How many of a batch's outputs to a partition are out already, from the first on.

        Args:
            out: the output partition.
            position: the task's, at the end of the batch.
            first: sequence of the first output.
            count: of the outputs.
        """
        if out[0] not in self._internal:
            return count if position <= self.committed else 0
        last_valid = self._last_valid.get(out, 0)
        if last_valid < first + count:
            self._last_valid.pop(out, None)
        return min(count, max(0, last_valid + 1 - first))

    def is_stored(self, out: OutPartition, first: int, count: int) -> bool:
        """Whether a scan found outputs among whose sequences these are: then they are compared."""
        if out not in self._stored:
            return False
        scanned = self._scanned[out]
        if first >= scanned.stop:
            del self._stored[out]  # what is left was made before the base
            return False
        return first + count > scanned.start

    def compare(
        self,
        out: OutPartition,
        first: int,
        count: int,
        made: Callable[[int], Any],
        is_same: Callable[[Any, Any], bool] = eq,
    ) -> None:
        """Compare outputs with those that a scan has found under the same sequences.

        Args:
            out: the output partition; `is_stored` was true of it.
            first: sequence of the first output.
            count: of the outputs.
            made: gives the output of an index below `count`, as stored ones are.
            is_same: compares such a one with a stored one.

        Raises:
            ReplayDivergedError: naming topic and partition.
        """
        stored = self._stored[out]
        for index in range(count):
            there = stored.pop(first + index, None)
            if there is None:
                continue
            here = made(index)
            if not is_same(here, there):
                raise ReplayDivergedError(
                    f"task {self.name}, sequence {first + index}: replay made {here}, but "
                    f"{there} is stored; is the program deterministic?"
                ).at(self._topics[out[0]], out[1])

    def is_checked_at(self, position: int) -> bool:
        """Whether the hashes of what was made are known of this position."""
        return bool(self._checks) and self._checks[0].position == position

    def check(self, made: OutputHashes) -> None:
        """Compare all that was made up to a position with what was made before (H44).

        Args:
            made: the hashes at a position of which `is_checked_at` is true.

        Raises:
            ReplayDivergedError: naming the topic.
        """
        before = self._checks.popleft()
        for output, columns in made.differences(before).items():
            raise ReplayDivergedError(
                f"task {self.name}: the {' and '.join(columns)} of what replay made up to event "
                f"{made.position} are not those of what was made before; is the program "
                "deterministic?"
            ).at(self._topics[output])
