"""What an application wrote, as its readers see it; for `TestDriver.read`."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

from kstash.core.kinds import OutputKind
from kstash.core.reader import ReaderState
from kstash.core.wire import HEADER_PREFIX, IDENTITY_HEADER, decode_identity
from kstash.errors import ConfigError
from kstash.ports.kafka import Headers, Partition
from kstash.serdes import Serde
from kstash.testing.kafka.broker import MemoryKafka
from kstash.testing.kafka.log import MemoryRecord, PartitionLog
from kstash.topology.model import StageOutput, Topology


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """One record that the application wrote, decoded with the serdes of its sink.

    Attributes:
        key: decoded key, or None.
        value: decoded value, or None.
        timestamp_ms: Unix time in milliseconds.
        partition: of the output topic.
        headers: user headers; those of kstash are left out.
    """

    key: Any
    value: Any
    _: KW_ONLY
    timestamp_ms: int
    partition: int
    headers: Headers

    @classmethod
    def of(cls, record: MemoryRecord, output: StageOutput) -> Self:
        """Decode a record of an output topic."""
        return cls(
            _decoded(output.key, record.key()),
            _decoded(output.value, record.value()),
            timestamp_ms=record.timestamp()[1],
            partition=record.partition(),
            headers=[h for h in record.headers() or [] if not h[0].startswith(HEADER_PREFIX)],
        )


class OutputReader:
    """Reads each record of one output partition once, by the reader rule.

    Attributes:
        log: what is read.
    """

    def __init__(self, log: PartitionLog, *, is_committed: bool) -> None:
        self.log = log
        self._is_committed = is_committed
        self._reader = ReaderState(is_internal=False)
        self._offset = 0

    def read(self) -> list[MemoryRecord]:
        """Records since the last call that count."""
        records, self._offset = self.log.read(
            self._offset, self.log.end_offset, is_committed=self._is_committed
        )
        return list(filter(self._counts, records))

    def _counts(self, record: MemoryRecord) -> bool:
        for name, value in record.headers() or ():
            if name == IDENTITY_HEADER and value is not None:
                return self._reader.accept(decode_identity(value)) == 0
        return True


class OutputReaders:
    """The readers of output partitions, each of which has read what it gave once.

    Args:
        kafka: the cluster.
    """

    def __init__(self, kafka: MemoryKafka) -> None:
        self._kafka = kafka
        self._readers: dict[Partition, OutputReader] = {}

    def read(self, partition: Partition, kind: OutputKind) -> list[MemoryRecord]:
        """Records of a partition since the last call that count.

        Args:
            partition: of an output topic; one that was made anew is read from its beginning.
            kind: of the output.
        """
        log = self._kafka.log(partition)
        reader = self._readers.get(partition)
        if reader is None or reader.log is not log:
            reader = OutputReader(log, is_committed=kind is OutputKind.TRANSACTIONAL)
            self._readers[partition] = reader
        return reader.read()


def output_of(topology: Topology, topic: str) -> StageOutput:
    """What is written to an output topic.

    Raises:
        ConfigError: the application has no such output topic.
    """
    for stage in topology.stages:
        for output in stage.outputs:
            if output.topic == topic and not output.internal:
                return output
    raise ConfigError(
        f"no output topic {topic!r}; the application writes {list(topology.output_topics)}"
    )


def _decoded(serde: Serde[Any] | None, data: bytes | None) -> Any:
    return None if data is None or serde is None else serde.deserialize(data)
