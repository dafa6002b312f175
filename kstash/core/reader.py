"""The reader rule: which records of an internal topic or an immediate sink count.

A reader keeps one `ReaderTable` per partition it reads and saves it together with its offset.

Invariants:

- what was accepted once is never withdrawn;
- accepted sequences of a task are dense: 1, 2, 3 … on an internal topic read from its beginning;
- no record of an incarnation is accepted behind a FENCE or record of a higher one of its group.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kstash.core.ids import NO_INCARNATION, Incarnation, TaskId
from kstash.core.wire import End, Fence, Identity, Marker
from kstash.errors import SequenceGapError, WireCorruptError


@dataclass(slots=True)
class ReaderTable:
    """The reader rule's state for one partition.

    Attributes:
        max_incarnation: highest incarnation seen per (application, task group), also of groups of
            which only a FENCE was seen.
        last_seq: last accepted sequence per (application, task).
        ends: counted END markers of a bounded run, per (application, task): the run.
        is_internal: the partition is an internal topic's, read from its beginning.
    """

    is_internal: bool = True
    max_incarnation: dict[tuple[int, int], Incarnation] = field(default_factory=dict)
    last_seq: dict[tuple[int, TaskId], int] = field(default_factory=dict)
    ends: dict[tuple[int, TaskId], int] = field(default_factory=dict)

    def accept(self, identity: Identity) -> int:
        """Apply the rule to one record or frame.

        Returns:
            How many of its `count` logical records to skip at its head: 0 takes all of them,
            `count` drops the record wholly (it is not an event then).

        Raises:
            SequenceGapError: records of the writer are missing before this one.
        """
        if not self._passes_fence(identity.application, identity.task, identity.incarnation):
            return identity.count
        writer = identity.application, identity.task
        last = self.last_seq.get(writer)
        first = identity.first_seq
        if identity.incarnation == NO_INCARNATION:
            # Written under a guarantee without recovery: the rule drops nothing.
            self.last_seq[writer] = first + identity.count - 1
            return 0
        if last is None:
            last = 0 if self.is_internal else first - 1
        if first > last + 1:
            raise SequenceGapError(
                f"task {identity.task} of incarnation {identity.incarnation} wrote sequence "
                f"{first}, but the last one seen was {last}"
            )
        skip = min(last + 1 - first, identity.count)
        if skip < identity.count:
            self.last_seq[writer] = first + identity.count - 1
        return skip

    def mark(self, marker: Marker) -> None:
        """Take a FENCE or END into account (markers are not events)."""
        if isinstance(marker, Fence):
            for group, incarnation in marker.incarnations:
                self._raise(marker.application, group, incarnation)
        elif self._end_counts(marker):
            self.ends[marker.application, marker.task] = marker.run

    def is_newest(self, application: int, group: int, incarnation: Incarnation) -> bool:
        """Whether no higher incarnation of a task group was seen."""
        return incarnation >= self.max_incarnation.get((application, group), NO_INCARNATION)

    def _end_counts(self, end: End) -> bool:
        if not self._passes_fence(end.application, end.task, end.incarnation):
            return False
        return end.last_seq == self.last_seq.get((end.application, end.task), 0)

    def _passes_fence(self, application: int, task: TaskId, incarnation: Incarnation) -> bool:
        known = self.max_incarnation.get((application, task.partition), NO_INCARNATION)
        if incarnation < known:
            return False
        if incarnation > known:
            self._raise(application, task.partition, incarnation)
        return True

    def _raise(self, application: int, group: int, incarnation: Incarnation) -> None:
        known = self.max_incarnation.get((application, group), NO_INCARNATION)
        if incarnation <= known:
            return
        self.max_incarnation[application, group] = incarnation
        if incarnation.generation > known.generation > 0:
            # The lineage topic was made anew: sequences of the group start over.
            for writer in [w for w in self.last_seq if w[0] == application]:
                if writer[1].partition == group:
                    self.last_seq[writer] = 0

    def copy(self) -> ReaderTable:
        """Return an independent copy (for a checkpoint)."""
        return ReaderTable(
            self.is_internal, dict(self.max_incarnation), dict(self.last_seq), dict(self.ends)
        )

    def to_json(self) -> dict[str, Any]:
        """Return the table as JSON data, to be saved with the offset."""
        return {
            "internal": self.is_internal,
            "inc": [[*k, *v] for k, v in sorted(self.max_incarnation.items())],
            "seq": [[a, *t, v] for (a, t), v in sorted(self.last_seq.items())],
            "end": [[a, *t, v] for (a, t), v in sorted(self.ends.items())],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ReaderTable:
        """Restore a saved table.

        Raises:
            WireCorruptError: not what `to_json` gives.
        """
        try:
            return cls(
                bool(data["internal"]),
                {(int(a), int(g)): Incarnation(int(x), int(y)) for a, g, x, y in data["inc"]},
                _task_table(data["seq"]),
                _task_table(data["end"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise WireCorruptError(f"malformed reader table: {error!r}") from error


def _task_table(rows: Any) -> dict[tuple[int, TaskId], int]:
    return {(int(a), TaskId(int(s), int(p))): int(v) for a, s, p, v in rows}
