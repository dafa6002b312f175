"""Decodes what a lineage partition holds."""

from __future__ import annotations

import structlog

from kstash.core.file_names import check_file_names
from kstash.core.record_codec import decode_record
from kstash.core.record_keys import CHECKPOINT, CLAIM, HINT, RELEASE, RUN, SEAL, key_incarnation
from kstash.core.records import Checkpoint, Claim, Gone, LineageRecord
from kstash.errors import CheckpointCorruptError, KafkaUnavailableError, LocatedError
from kstash.ports.kafka import Headers, Message, Partition
from kstash.runtime.places import located

log = structlog.get_logger("kstash.recovery")


class LineageReader:
    """Decodes the records of one pass over a lineage partition.

    Of a task's hints only the last one before a CLAIM is decoded: there are thousands that
    compaction has not got to, and the others say less.
    """

    def __init__(self) -> None:
        self._records: list[tuple[int, LineageRecord | Gone]] = []
        self._hints: dict[bytes, Message] = {}

    def take(self, message: Message, _: Headers) -> None:
        """Take one record; in order.

        Raises:
            WireCorruptError: naming topic, partition and offset.
        """
        key = message.key()
        if key is not None and message.value() is not None and _is_hint(key):
            self._hints[key] = message
            return
        record = lineage_record(message)
        if record is None:
            return
        if isinstance(record, Checkpoint):
            _tell_unsound(record, message)
        if isinstance(record, Claim):
            self._decode_hints()  # those after it are void for the incarnations before
        self._records.append((message.offset(), record))

    def read(self) -> list[tuple[int, LineageRecord | Gone]]:
        """Offset and record of what was taken, in order, without the hints that others replace."""
        self._decode_hints()
        return sorted(self._records, key=lambda entry: entry[0])

    def _decode_hints(self) -> None:
        for message in self._hints.values():
            record = lineage_record(message)
            assert record is not None, "hints without a value are not kept"
            self._records.append((message.offset(), record))
        self._hints.clear()


def too_slow(partition: Partition, seconds: float, seconds_max: float) -> KafkaUnavailableError:
    """The error for a read that took longer than tombstones stay in the topic."""
    topic, number = partition
    return KafkaUnavailableError(
        f"reading topic {topic!r}, partition {number} took {seconds:.0f} s, longer than tombstones "
        f"stay there ({seconds_max:.0f} s): it is read anew. Should that be as slow each time: "
        f"kafka-configs.sh --alter --entity-type topics --entity-name {topic} "
        f"--add-config delete.retention.ms={4000 * seconds:.0f}"
    )


def lineage_record(message: Message) -> LineageRecord | Gone | None:
    """Decode a record of the lineage topic; None for a tombstone that says nothing.

    Raises:
        WireCorruptError: naming topic, partition and offset.
    """
    key, value = message.key(), message.value()
    try:
        if value is None:
            is_said = key is not None and key_incarnation(key)[1] in _TOLD_GONE
            return Gone(key) if is_said and key is not None else None
        return decode_record(key, value)
    except LocatedError as error:
        raise located(error, message) from error


_TOLD_GONE = frozenset({CHECKPOINT, HINT, RELEASE, CLAIM, SEAL, RUN})
"""Kinds whose tombstones a view takes into account; most are of segments."""


def _tell_unsound(checkpoint: Checkpoint, message: Message) -> None:
    """Say that a checkpoint will not be used, whatever else recovery finds (`core.file_names`)."""
    try:
        check_file_names(checkpoint)
    except CheckpointCorruptError as error:
        log.warning(
            "checkpoint record is damaged, falling back to an older one",
            topic=message.topic(),
            partition=message.partition(),
            offset=message.offset(),
            position=checkpoint.position,
            reason=str(error),
        )


def _is_hint(key: bytes) -> bool:
    try:
        return key_incarnation(key)[1] == HINT
    except LocatedError:
        return False  # whoever decodes it raises
