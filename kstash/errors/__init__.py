"""All errors that kstash raises, as one tree sorted by whose fault it is.

- `ProgramError`: the user's code or its topology. Fix the program.
- `ConfigError`: a setting. Fix the configuration.
- `ClusterError`: Kafka, its topics or the network. Fix the cluster, or wait for it.
- `ProtocolError`: bytes in Kafka that break the lineage protocol. Never ignored.
- `StateError`: the disk under the state directory.
- `StepDeadlineError`: kstash itself waited longer than it may.
- `WorkerFailedError`: a supervised worker does not stay alive; what ended it is in its last lines.

Operating errors carry the ids of the case (topic, partition, offset, setting) as attributes and in
their message. Programmer errors inside kstash are `assert`s.
"""

from kstash.errors.base import KstashError as KstashError
from kstash.errors.base import LocatedError as LocatedError
from kstash.errors.base import shown as shown
from kstash.errors.base import told as told
from kstash.errors.cluster import AccessRefusedError as AccessRefusedError
from kstash.errors.cluster import ApplicationIdTakenError as ApplicationIdTakenError
from kstash.errors.cluster import ApplicationRunningError as ApplicationRunningError
from kstash.errors.cluster import BookmarkTooLargeError as BookmarkTooLargeError
from kstash.errors.cluster import CheckpointStoreError as CheckpointStoreError
from kstash.errors.cluster import ClusterError as ClusterError
from kstash.errors.cluster import KafkaUnavailableError as KafkaUnavailableError
from kstash.errors.cluster import MemberFencedError as MemberFencedError
from kstash.errors.cluster import OffsetOutOfRangeError as OffsetOutOfRangeError
from kstash.errors.cluster import ProducerFailedError as ProducerFailedError
from kstash.errors.cluster import ProducerRefusedError as ProducerRefusedError
from kstash.errors.cluster import RecordRefusedError as RecordRefusedError
from kstash.errors.cluster import RecordTooLargeError as RecordTooLargeError
from kstash.errors.cluster import RecordUnreadableError as RecordUnreadableError
from kstash.errors.cluster import ResetUnfinishedError as ResetUnfinishedError
from kstash.errors.cluster import RightMissingError as RightMissingError
from kstash.errors.cluster import TopicMadeAnewError as TopicMadeAnewError
from kstash.errors.cluster import TopicMismatchError as TopicMismatchError
from kstash.errors.cluster import TopicMissingError as TopicMissingError
from kstash.errors.cluster import TopicSharedError as TopicSharedError
from kstash.errors.program import ConfigError as ConfigError
from kstash.errors.program import MisplacedKeyError as MisplacedKeyError
from kstash.errors.program import NullKeyError as NullKeyError
from kstash.errors.program import OpenFilesError as OpenFilesError
from kstash.errors.program import OperatorError as OperatorError
from kstash.errors.program import ProgramChangedError as ProgramChangedError
from kstash.errors.program import ProgramError as ProgramError
from kstash.errors.program import SerdeError as SerdeError
from kstash.errors.program import SkipTooLateError as SkipTooLateError
from kstash.errors.program import TopologyError as TopologyError
from kstash.errors.program import UnknownWordError as UnknownWordError
from kstash.errors.protocol import CommittedPositionLostError as CommittedPositionLostError
from kstash.errors.protocol import ForeignRecordError as ForeignRecordError
from kstash.errors.protocol import IncarnationFencedError as IncarnationFencedError
from kstash.errors.protocol import LineageGapError as LineageGapError
from kstash.errors.protocol import ProtocolError as ProtocolError
from kstash.errors.protocol import ReplayDivergedError as ReplayDivergedError
from kstash.errors.protocol import SequenceGapError as SequenceGapError
from kstash.errors.protocol import WireCorruptError as WireCorruptError
from kstash.errors.worker import CheckpointCorruptError as CheckpointCorruptError
from kstash.errors.worker import JobCancelledError as JobCancelledError
from kstash.errors.worker import StateError as StateError
from kstash.errors.worker import StepDeadlineError as StepDeadlineError
from kstash.errors.worker import WorkerFailedError as WorkerFailedError
