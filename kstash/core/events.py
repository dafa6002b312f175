"""What happens to a task group in recovery: the events of `GroupCore`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kstash.core.ids import TaskId
from kstash.core.records import Gone, LineageRecord


@dataclass(frozen=True, slots=True)
class Begin:
    """The group was assigned to this worker, or must start over."""


@dataclass(frozen=True, slots=True)
class LineageRead:
    """The next records of the group's lineage partition, up to what `ReadLineage` asked for.

    Attributes:
        records: (offset, record) by rising offset; the topic is compacted, so offsets have gaps.
    """

    records: Sequence[tuple[int, LineageRecord | Gone]]


@dataclass(frozen=True, slots=True)
class GenerationAppended:
    """A CONFIG is acknowledged."""


@dataclass(frozen=True, slots=True)
class ClaimAppended:
    """The last own CLAIM is acknowledged.

    Attributes:
        offset: where; it becomes the incarnation.
    """

    offset: int


@dataclass(frozen=True, slots=True)
class Fenced:
    """All FENCEs are acknowledged and the sinks' producers are initialised.

    Attributes:
        committed: the metadata read after the initialisation of each producer (H28), None where
            there was none.
    """

    committed: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class SealAppended:
    """The SEAL is acknowledged.

    Attributes:
        offset: where.
    """

    offset: int


@dataclass(frozen=True, slots=True)
class CheckpointsVerified:
    """It is known which of the candidates this worker can open.

    Attributes:
        usable: (task, label) of those that it can; of each task the best one is enough.
    """

    usable: frozenset[tuple[TaskId, str]]


@dataclass(frozen=True, slots=True)
class TailsScanned:
    """The scans are at their ends.

    Attributes:
        initial_offsets: by stage and input, what `ScanTails.missing_inputs` asked for.
    """

    initial_offsets: Mapping[int, Mapping[int, int]]


@dataclass(frozen=True, slots=True)
class SkipsLocated:
    """The places that are to be passed over are known as events.

    Attributes:
        before: of each question, how many events lie before each of its offsets, in its order.
    """

    before: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class StartAppended:
    """The START is acknowledged."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """Every task has reached its adopted end."""


Event = (
    Begin
    | LineageRead
    | GenerationAppended
    | ClaimAppended
    | Fenced
    | SealAppended
    | CheckpointsVerified
    | TailsScanned
    | SkipsLocated
    | StartAppended
    | Replayed
)
