"""What recovery must know of a task, and how the task comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kstash.core.determinants import Determinant, InputPlace
from kstash.core.hashes import OutputHashes
from kstash.core.ids import OutPartition, TaskId
from kstash.core.lineage import Owner
from kstash.core.reader import ReaderState
from kstash.core.records import Checkpoint


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """How one task comes back.

    Attributes:
        task: its id.
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
        readers: reader state per internal input at `position`.
        places: how far the inputs are within their frames at `position`, where the task merges.
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
    readers: Mapping[int, ReaderState]
    scan_from: Mapping[OutPartition, int]
    places: Mapping[int, InputPlace] = field(default_factory=dict)
    fresh_stores: frozenset[str] = frozenset()
    logs: bool = False
    made: OutputHashes = field(default_factory=lambda: OutputHashes(0, 0, {}))
    checks: tuple[OutputHashes, ...] = ()
    said_by: tuple[OutPartition, int] | None = None

    def logs_runs(self, inputs: int) -> bool:
        """Whether this incarnation logs which records it took, of a task of so many inputs.

        Which of several comes next is decided anew each time. Of one, the events follow by
        themselves, unless something else decides what the task does, too.
        """
        return inputs != 1 or self.logs

    @property
    def base_label(self) -> str | None:
        """Label of the base's files; None when it has none, as of a stage that had no store yet."""
        return self.base.label if self.base is not None and self.base.files else None
