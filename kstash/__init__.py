"""kstash: exactly-once stream processing on Apache Kafka, at the latency of at-least-once.

Everything public is here, in `kstash.readers` (for programs that read what kstash wrote), in
`kstash.broker` (a Kafka for development) and in `kstash.testing`.
"""

from kstash.app import App, FinalState
from kstash.config import Config
from kstash.errors import (
    CheckpointCorruptError,
    ClusterError,
    CommittedPositionLostError,
    ConfigError,
    IncarnationFencedError,
    KafkaUnavailableError,
    KstashError,
    LineageGapError,
    MemberFencedError,
    NullKeyError,
    OffsetOutOfRangeError,
    OperatorError,
    ProducerFailedError,
    ProgramChangedError,
    ProgramError,
    ProtocolError,
    RecordTooLargeError,
    ReplayDivergedError,
    SequenceGapError,
    SerdeError,
    StateError,
    StepDeadlineError,
    TopicMismatchError,
    TopicMissingError,
    TopologyError,
    WireCorruptError,
)
from kstash.serdes import Serde, float_text, int_text, json, msgpack, number_text, raw, text
from kstash.streams import Record, Stream
from kstash.topology import Topology

__all__ = [
    "App",
    "CheckpointCorruptError",
    "ClusterError",
    "CommittedPositionLostError",
    "Config",
    "ConfigError",
    "FinalState",
    "IncarnationFencedError",
    "KafkaUnavailableError",
    "KstashError",
    "LineageGapError",
    "MemberFencedError",
    "NullKeyError",
    "OffsetOutOfRangeError",
    "OperatorError",
    "ProducerFailedError",
    "ProgramChangedError",
    "ProgramError",
    "ProtocolError",
    "Record",
    "RecordTooLargeError",
    "ReplayDivergedError",
    "SequenceGapError",
    "Serde",
    "SerdeError",
    "StateError",
    "StepDeadlineError",
    "Stream",
    "TopicMismatchError",
    "TopicMissingError",
    "Topology",
    "TopologyError",
    "WireCorruptError",
    "float_text",
    "int_text",
    "json",
    "msgpack",
    "number_text",
    "raw",
    "text",
]
