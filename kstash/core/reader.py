"""The reader rule: which records of an internal topic or an immediate sink count.

A reader keeps one `ReaderState` per partition it reads and saves it together with its offset.

Invariants:

- what was accepted once is never withdrawn;
- accepted sequences of a task are dense: 1, 2, 3 … on an internal topic read from its beginning;
- no record of an incarnation is accepted after a FENCE or record of a higher one of its group,
  nor on an internal topic before the FENCE of its own incarnation.

`NO_INCARNATION` is none: what the guarantees without fences write. Their own internal topics take
all of it, those of the exact guarantees nothing: it can only be late, since who changes the
guarantee drains first. A reader of a sink takes it always, as any other reader there (H57).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kstash.core.fields import flag, number, signed, tag
from kstash.core.ids import NO_INCARNATION, Incarnation, TaskId
from kstash.core.wire import End, Fence, Identity, Marker
from kstash.errors import SequenceGapError, WireCorruptError

UNKNOWN_SEQUENCE = -1
"""Of a writer whose next numbered record, whatever its number is, is the next one."""


@dataclass(slots=True)
class ReaderState:
    """The reader rule's state for one partition.

    Attributes:
        max_incarnation: highest incarnation seen per (application, task group), also of groups of
            which only a FENCE was seen.
        last_seq: last accepted sequence per (application, task).
        ends: counted END markers of a bounded run, per (application, task): the run.
        times: greatest event time heard, per (application, task) that says it, in Unix ms.
        returned: per (application, task) that says times, the run after whose END it has written.
        is_internal: the partition is an internal topic's, read from its beginning.
        is_fenced: the reader's own guarantee has fences; of an internal topic only, and not saved.
        application: tag of the one application that may write there, likewise; None: anybody.
            Neither says what was read, so states are equal without them.
    """

    is_internal: bool = True
    max_incarnation: dict[tuple[int, int], Incarnation] = field(default_factory=dict)
    last_seq: dict[tuple[int, TaskId], int] = field(default_factory=dict)
    ends: dict[tuple[int, TaskId], int] = field(default_factory=dict)
    times: dict[tuple[int, TaskId], int] = field(default_factory=dict)
    returned: dict[tuple[int, TaskId], int] = field(default_factory=dict)
    is_fenced: bool = field(default=True, compare=False)
    application: int | None = field(default=None, compare=False)

    def accept(self, identity: Identity) -> int:
        """Apply the rule to one record or frame.

        Returns:
            How many of its `count` logical records to skip at its head: 0 takes all of them,
            `count` drops the record wholly (it is not an event then).

        Raises:
            SequenceGapError: records of the writer are missing before this one.
        """
        writer = identity.application, identity.task
        if identity.incarnation == NO_INCARNATION:
            if not self._takes_unfenced:
                return identity.count
            # Its number may come again with something else, and the next ones follow from another.
            self.last_seq[writer] = UNKNOWN_SEQUENCE
            return 0
        if not self._passes_fence(identity.application, identity.task, identity.incarnation):
            return identity.count
        first = identity.first_seq
        last = self.last_seq.get(writer, 0 if self.is_internal else UNKNOWN_SEQUENCE)
        if last == UNKNOWN_SEQUENCE:
            last = first - 1
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

    def hear(self, writer: tuple[int, TaskId], time_ms: int) -> int:
        """A record was taken whose writer says an event time; returns the greatest one heard."""
        if writer in self.ends:
            self.returned[writer] = self.ends[writer]
        latest = max(time_ms, self.times.get(writer, time_ms))
        self.times[writer] = latest
        return latest

    def is_out(self, writer: tuple[int, TaskId]) -> bool:
        """Whether a writer has said END, and nothing of it came since."""
        run = self.ends.get(writer)
        return run is not None and self.returned.get(writer) != run

    @property
    def _takes_unfenced(self) -> bool:
        return not (self.is_internal and self.is_fenced)

    def _end_counts(self, end: End) -> bool:
        if end.incarnation == NO_INCARNATION:
            # After all that the same producer wrote, whatever the numbers were.
            return self._takes_unfenced
        if not self._passes_fence(end.application, end.task, end.incarnation):
            return False
        writer = end.application, end.task
        if self.last_seq.get(writer) == UNKNOWN_SEQUENCE:
            # Of this incarnation nothing came since: all that it counts was there before (H57).
            self.last_seq[writer] = end.last_seq
        return end.last_seq == self.last_seq.get(writer, 0)

    def _passes_fence(self, application: int, task: TaskId, incarnation: Incarnation) -> bool:
        known = self.max_incarnation.get((application, task.partition))
        if self.needs_fence() and (known is None or incarnation > known):
            return False
        if known is None:
            known = NO_INCARNATION
        if incarnation < known:
            return False
        if incarnation > known:
            self._raise(application, task.partition, incarnation)
        return True

    def needs_fence(self) -> bool:
        """Whether a record is void whose own incarnation's FENCE was not seen (H46, H45).

        Each incarnation writes one before its first frame. Where there is none, the topic was made
        anew by a reset, and who writes there does not know it yet; that of an incarnation before
        may have been on its way.
        """
        return self.is_internal

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
                    self.times.pop(writer, None)

    def copy(self) -> ReaderState:
        """Return an independent copy (for a checkpoint)."""
        return ReaderState(
            is_internal=self.is_internal,
            max_incarnation=dict(self.max_incarnation),
            last_seq=dict(self.last_seq),
            ends=dict(self.ends),
            times=dict(self.times),
            returned=dict(self.returned),
            is_fenced=self.is_fenced,
            application=self.application,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON data, to be saved with the offset."""
        return {
            "internal": self.is_internal,
            "inc": [[*k, *v] for k, v in sorted(self.max_incarnation.items())],
            "seq": [[a, *t, v] for (a, t), v in sorted(self.last_seq.items())],
            "end": [[a, *t, v] for (a, t), v in sorted(self.ends.items())],
        } | {
            name: [[a, *t, v] for (a, t), v in sorted(table.items())]
            for name, table in (("time", self.times), ("back", self.returned))
            if table
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ReaderState:
        """Restore a saved state.

        Raises:
            WireCorruptError: not what `to_json` gives.
        """
        try:
            return cls(
                flag(data["internal"]),
                {(tag(a), number(g)): Incarnation(tag(x), tag(y)) for a, g, x, y in data["inc"]},
                last_seq=_by_task(data["seq"], lambda value: number(value + 1) - 1),
                ends=_by_task(data["end"], tag),
                times=_by_task(data.get("time", ()), signed),
                returned=_by_task(data.get("back", ()), tag),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise WireCorruptError(f"malformed reader state: {error!r}") from error


def _by_task(rows: Any, read: Callable[[Any], int]) -> dict[tuple[int, TaskId], int]:
    return {(tag(a), TaskId(number(s), number(p))): read(value) for a, s, p, value in rows}
