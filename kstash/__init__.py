"""kstash: exactly-once stream processing on Apache Kafka, at the latency of at-least-once.

Everything public is here, in `kstash.readers` (for programs that read what kstash wrote), in
`kstash.broker` (a Kafka for development) and in `kstash.testing`.
"""

from importlib import metadata

from kstash.app import App
from kstash.errors import (
    AccessRefusedError,
    ApplicationIdTakenError,
    ApplicationRunningError,
    BookmarkTooLargeError,
    CheckpointCorruptError,
    CheckpointStoreError,
    ClusterError,
    CommittedPositionLostError,
    ConfigError,
    ForeignRecordError,
    IncarnationFencedError,
    KafkaUnavailableError,
    KstashError,
    LineageGapError,
    LocatedError,
    MemberFencedError,
    MisplacedKeyError,
    NullKeyError,
    OffsetOutOfRangeError,
    OpenFilesError,
    OperatorError,
    ProducerFailedError,
    ProducerRefusedError,
    ProgramChangedError,
    ProgramError,
    ProtocolError,
    RecordRefusedError,
    RecordTooLargeError,
    RecordUnreadableError,
    ReplayDivergedError,
    ResetUnfinishedError,
    RightMissingError,
    SequenceGapError,
    SerdeError,
    SkipTooLateError,
    StateError,
    StepDeadlineError,
    TopicMadeAnewError,
    TopicMismatchError,
    TopicMissingError,
    TopicSharedError,
    TopologyError,
    UnknownWordError,
    WireCorruptError,
    WorkerFailedError,
)
from kstash.ports.state import FinalState
from kstash.serdes import Serde, float_text, int_text, json, msgpack, number_text, raw, text
from kstash.settings.config import Config
from kstash.surface.keyed import KeyedStream
from kstash.surface.streams import Delivery, Stream
from kstash.topology.model import Topology
from kstash.topology.record import DELETE, Deletion, Record

__version__ = metadata.version("kstash")

# Shown as what users import, above all in the last line of a traceback.
for _error in list(globals().values()):
    if isinstance(_error, type) and issubclass(_error, KstashError):
        _error.__module__ = __name__
del _error

__all__ = [
    "DELETE",
    "AccessRefusedError",
    "App",
    "ApplicationIdTakenError",
    "ApplicationRunningError",
    "BookmarkTooLargeError",
    "CheckpointCorruptError",
    "CheckpointStoreError",
    "ClusterError",
    "CommittedPositionLostError",
    "Config",
    "ConfigError",
    "Deletion",
    "Delivery",
    "FinalState",
    "ForeignRecordError",
    "IncarnationFencedError",
    "KafkaUnavailableError",
    "KeyedStream",
    "KstashError",
    "LineageGapError",
    "LocatedError",
    "MemberFencedError",
    "MisplacedKeyError",
    "NullKeyError",
    "OffsetOutOfRangeError",
    "OpenFilesError",
    "OperatorError",
    "ProducerFailedError",
    "ProducerRefusedError",
    "ProgramChangedError",
    "ProgramError",
    "ProtocolError",
    "Record",
    "RecordRefusedError",
    "RecordTooLargeError",
    "RecordUnreadableError",
    "ReplayDivergedError",
    "ResetUnfinishedError",
    "RightMissingError",
    "SequenceGapError",
    "Serde",
    "SerdeError",
    "SkipTooLateError",
    "StateError",
    "StepDeadlineError",
    "Stream",
    "TopicMadeAnewError",
    "TopicMismatchError",
    "TopicMissingError",
    "TopicSharedError",
    "Topology",
    "TopologyError",
    "UnknownWordError",
    "WireCorruptError",
    "WorkerFailedError",
    "__version__",
    "float_text",
    "int_text",
    "json",
    "msgpack",
    "number_text",
    "raw",
    "text",
]
