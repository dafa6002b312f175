"""What a task group in recovery asks for: the effects of `GroupCore`.

Order contract: each effect is carried out wholly, and is durable where it appends, before the event
that answers it is given to `GroupCore.step`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kstash.core.ids import TaskId
from kstash.core.plan import TaskPlan
from kstash.core.records import Checkpoint, Seal, Start
from kstash.core.skips import Asked
from kstash.core.tail_scan import TailScan
from kstash.core.wire import Fence


@dataclass(frozen=True, slots=True)
class ReadLineage:
    """Read the lineage partition.

    Attributes:
        start: offset of the first record.
        through: offset of the last one, which is read too; None: to the end that is listed now.
    """

    start: int
    through: int | None


@dataclass(frozen=True, slots=True)
class AppendGeneration:
    """Append a CONFIG with a fresh nonce and the topic's creation time; `retries=0`."""


@dataclass(frozen=True, slots=True)
class AppendClaim:
    """Append a CLAIM with a fresh nonce for every attempt; `retries=0` (H34)."""


@dataclass(frozen=True, slots=True)
class FenceOutputs:
    """Fence every output partition, and wait for all of it.

    Append a marker to every partition of the internal topics that the group's tasks write, run
    `init_transactions()` for the sinks, and only then read the committed position.

    Attributes:
        marker: what is appended.
    """

    marker: Fence


@dataclass(frozen=True, slots=True)
class AppendSeal:
    """Append a SEAL.

    Attributes:
        record: the SEAL.
    """

    record: Seal


@dataclass(frozen=True, slots=True)
class VerifyCheckpoints:
    """Find out which of these checkpoints this worker can open.

    Attributes:
        candidates: by task, best first; of some tasks none.
    """

    candidates: Mapping[TaskId, Sequence[Checkpoint]]


@dataclass(frozen=True, slots=True)
class ScanTails:
    """Feed each scan with its tails, from its `starts` on.

    Internal topics are read to the own FENCE, sinks to the end listed after
    `init_transactions()`.

    Attributes:
        scans: of the group's tasks; empty when no incarnation ever started.
        missing_inputs: by stage, inputs whose first offset must be found now.
    """

    scans: Sequence[TailScan]
    missing_inputs: Mapping[int, Sequence[int]]


@dataclass(frozen=True, slots=True)
class LocateSkips:
    """Count the events before places that are to be passed over from now on (H50).

    Attributes:
        asked: one question or more.
    """

    asked: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class AppendStart:
    """Append START and wait for it.

    Attributes:
        record: the START.
    """

    record: Start


@dataclass(frozen=True, slots=True)
class Recover:
    """Open each base, append the lineage that only headers held, replay to `adopted`.

    Attributes:
        plans: of all tasks of the group.
    """

    plans: Mapping[TaskId, TaskPlan]


@dataclass(frozen=True, slots=True)
class GoLive:
    """The group is live."""


Effect = (
    ReadLineage
    | AppendGeneration
    | AppendClaim
    | FenceOutputs
    | AppendSeal
    | VerifyCheckpoints
    | ScanTails
    | LocateSkips
    | AppendStart
    | Recover
    | GoLive
)
