"""All errors that kstash raises, as one tree sorted by whose fault it is.

- `ProgramError`: the user's code or its topology. Fix the program.
- `ConfigError`: a setting. Fix the configuration.
- `ClusterError`: Kafka, its topics or the network. Fix the cluster, or wait for it.
- `ProtocolError`: bytes in Kafka that break the lineage protocol. Never ignored.
- `StateError`: the disk under the state directory.
- `StepDeadlineError`: kstash itself waited longer than it may.
- `WorkerFailedError`: a supervised worker does not stay alive; what ended it is in its last lines.

Operating errors carry the ids of the case (topic, partition, offset, setting) as attributes and in
their message. Programmer errors inside kstash are `assert`s. The bases are in `kstash` as well.
"""

from kstash.errors.base import (
    KstashError,
    LocatedError,
)
from kstash.errors.cluster import (
    AccessRefusedError,
    ApplicationIdTakenError,
    ApplicationRunningError,
    BookmarkTooLargeError,
    CheckpointStoreError,
    ClusterError,
    KafkaUnavailableError,
    MemberFencedError,
    OffsetOutOfRangeError,
    ProducerFailedError,
    ProducerRefusedError,
    RecordRefusedError,
    RecordTooLargeError,
    RecordUnreadableError,
    ResetUnfinishedError,
    RightMissingError,
    TopicMadeAnewError,
    TopicMismatchError,
    TopicMissingError,
    TopicSharedError,
)
from kstash.errors.program import (
    ConfigError,
    MisplacedKeyError,
    NullKeyError,
    OpenFilesError,
    OperatorError,
    OutsideCallError,
    ProcessorError,
    ProgramChangedError,
    ProgramError,
    SerdeError,
    SkipTooLateError,
    TimestampError,
    TopologyError,
    UnknownWordError,
)
from kstash.errors.protocol import (
    CommittedPositionLostError,
    ForeignRecordError,
    IncarnationFencedError,
    LineageGapError,
    ProtocolError,
    ReplayDivergedError,
    SequenceGapError,
    WireCorruptError,
)
from kstash.errors.worker import (
    CheckpointCorruptError,
    StateError,
    StepDeadlineError,
    WorkerFailedError,
)

__all__ = [
    "AccessRefusedError",
    "ApplicationIdTakenError",
    "ApplicationRunningError",
    "BookmarkTooLargeError",
    "CheckpointCorruptError",
    "CheckpointStoreError",
    "ClusterError",
    "CommittedPositionLostError",
    "ConfigError",
    "ForeignRecordError",
    "IncarnationFencedError",
    "KafkaUnavailableError",
    "KstashError",
    "LineageGapError",
    "LocatedError",
    "MemberFencedError",
    "MisplacedKeyError",
    "NullKeyError",
    "OffsetOutOfRangeError",
    "OpenFilesError",
    "OperatorError",
    "OutsideCallError",
    "ProcessorError",
    "ProducerFailedError",
    "ProducerRefusedError",
    "ProgramChangedError",
    "ProgramError",
    "ProtocolError",
    "RecordRefusedError",
    "RecordTooLargeError",
    "RecordUnreadableError",
    "ReplayDivergedError",
    "ResetUnfinishedError",
    "RightMissingError",
    "SequenceGapError",
    "SerdeError",
    "SkipTooLateError",
    "StateError",
    "StepDeadlineError",
    "TimestampError",
    "TopicMadeAnewError",
    "TopicMismatchError",
    "TopicMissingError",
    "TopicSharedError",
    "TopologyError",
    "UnknownWordError",
    "WireCorruptError",
    "WorkerFailedError",
]

# Shown as what users import, above all in the last line of a traceback.
for _name in __all__:
    globals()[_name].__module__ = __name__
for _base in (KstashError, ProgramError, ConfigError, ClusterError, ProtocolError, StateError):
    _base.__module__ = "kstash"
del _base, _name
