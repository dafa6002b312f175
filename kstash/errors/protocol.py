"""Bytes in Kafka that break the lineage protocol."""

from __future__ import annotations

from kstash.errors.base import LocatedError


class ProtocolError(LocatedError):
    """What was read from Kafka breaks the lineage protocol."""


class WireCorruptError(ProtocolError):
    """Bytes that kstash should have written do not decode."""


class SequenceGapError(ProtocolError):
    """A reader saw a sequence number jump: records of the writer are missing in the partition."""


class IncarnationFencedError(ProtocolError):
    """A higher incarnation of the task group exists: this one is the zombie and must stop."""


class ReplayDivergedError(ProtocolError):
    """Replay made another output than the one that is stored.

    The program is not deterministic (threads, `hash()`, a clock or a network call inside an
    operator), or its code was changed between crash and restart.
    """


class LineageGapError(ProtocolError):
    """Lineage that recovery needs is in neither the lineage topic nor any output partition.

    Attributes:
        said_by: (output partition, offset) of the record that needs it, when it is one.
        stage: number of the stage that wrote the record.
    """

    def __init__(
        self,
        detail: str,
        *,
        said_by: tuple[tuple[int, int], int] | None = None,
        stage: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.said_by = said_by
        self.stage = stage


class ForeignRecordError(ProtocolError):
    """A record in a sink claims what cannot be: it was damaged, or somebody else wrote it."""


class CommittedPositionLostError(ProtocolError):
    """A checkpoint exists, but the committed position of its sinks does not.

    Replay cannot know which outputs are out already.
    """

    is_lasting = True
