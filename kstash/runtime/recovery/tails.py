"""Reads the tails of the output partitions of one group's tasks (protocol, section 6 step 5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from kstash.core.frames import decode_frame
from kstash.core.ids import OutPartition, TaskId
from kstash.core.lineage_codec import decode_lineage
from kstash.core.tail_scan import TailScan
from kstash.core.wire import (
    IDENTITY_HEADER,
    LINEAGE_HEADER,
    MARKER_HEADER,
    SEQUENCE,
    WRITER_BYTES,
    Identity,
    decode_identity,
    decode_marker,
    writer_bytes,
)
from kstash.errors import LocatedError, WireCorruptError
from kstash.ports.kafka import LOG_APPEND_TIME, Admin, Headers, Message, Partition
from kstash.runtime.headers import user_headers
from kstash.runtime.layout import Layout
from kstash.runtime.places import located, place_of
from kstash.runtime.task.stored import StoredRecord, framed_record
from kstash.settings.skips import SkippedPlace

log = structlog.get_logger("kstash.recovery")


@dataclass(slots=True)
class _Run:
    """Sink records of one batch, one after the other: they differ in their sequence only.

    Attributes:
        prefix: of their identity headers.
        sequence: of the last one, which was accepted.
        stored: where they are kept.
    """

    scan: TailScan
    out: OutPartition
    prefix: bytes
    sequence: int
    stored: dict[int, StoredRecord]


class TailReader:
    """Feeds the scans of a group with the records of its tasks.

    Args:
        admin: asks for the ends.
        layout: where tasks are.
        application: tag of the application id.
        skipped: what is passed over as no task's.
        scans: by task; where each output partition's tail begins.
        fence_offsets: of the own FENCE on each internal partition.

    Attributes:
        stored: accepted output records by sequence, to compare replayed ones with (I9).
    """

    def __init__(
        self,
        admin: Admin,
        layout: Layout,
        *,
        scans: Sequence[TailScan],
        fence_offsets: Mapping[Partition, int],
        application: int,
        skipped: Iterable[SkippedPlace],
    ) -> None:
        self._admin = admin
        self._fence_offsets = fence_offsets
        self._readers: dict[Partition, dict[bytes, tuple[TailScan, OutPartition]]] = {}
        self._starts: dict[Partition, int] = {}
        self._runs: dict[Partition, _Run] = {}
        # Offsets that an operator named as no task's: (first, last).
        self._foreign: dict[Partition, list[tuple[int, int]]] = {}
        for place in skipped:
            if place.index is None:
                partition = place.topic, place.partition
                last = place.offset if place.last is None else place.last
                self._foreign.setdefault(partition, []).append((place.offset, last))
        self.stored: dict[TaskId, dict[OutPartition, dict[int, StoredRecord]]] = {}
        stages = {stage.index: stage for stage in layout.topology.stages}
        for scan in scans:
            writer = writer_bytes(application, scan.task)
            for out, (offset, _) in scan.starts.items():
                partition = layout.kafka_partition(stages[scan.task.stage], out)
                self._readers.setdefault(partition, {})[writer] = scan, out
                self._starts[partition] = min(offset, self._starts.get(partition, offset))

    def ranges(self) -> dict[Partition, tuple[int, int]]:
        """What to read: internal topics to the own FENCE, sinks to the end listed now."""
        if not self._starts:
            return {}
        admin = self._admin
        # Both at once, since all groups wait: the answer is mostly there after the other one.
        asked = admin.ask_start_offsets(list(self._starts))
        ends = {partition: offset + 1 for partition, offset in self._fence_offsets.items()}
        sinks = [partition for partition in self._starts if partition not in ends]
        if sinks:
            ends.update(admin.end_offsets(sinks))
        floors = asked() or {}
        floors |= admin.start_offsets([p for p in self._starts if p not in floors])
        return {
            partition: (max(start, floors[partition]), ends[partition])
            for partition, start in self._starts.items()
        }

    def take(self, message: Message, headers: Headers) -> None:
        """Take one record of the ranges.

        Raises:
            WireCorruptError, SequenceGapError: naming topic, partition and offset.
        """
        partition = message.topic(), message.partition()
        if self._foreign and self._is_foreign(message) and not self._is_internal(partition):
            return
        if len(headers) == 1 and self._goes_on(partition, message, headers[0][1] or b""):
            return
        readers = self._readers[partition]
        is_marked = len(headers) > 1 and any(name == MARKER_HEADER for name, _ in headers)
        if is_marked and not self._is_internal(partition):
            return  # on a sink a marker counts for nobody, and neither does what stands beside it
        for name, value in headers:
            if name == IDENTITY_HEADER:
                # Most records of a shared topic are others': check before decoding.
                found = readers.get((value or b"")[WRITER_BYTES])
                if found is not None:
                    # Another incarnation's record may void what follows in the run.
                    self._runs.pop(partition, None)
                    self._take(*found, message, value or b"", headers)
            elif name == MARKER_HEADER:
                for scan, out in readers.values():
                    if out in scan.internal:  # on a sink it counts for nobody
                        self._mark(scan, out, message, value or b"")

    def _goes_on(self, partition: Partition, message: Message, value: bytes) -> bool:
        """Take the next record of a run, as nearly all of a sink are, without the rule."""
        run = self._runs.get(partition)
        if run is None or value[: -SEQUENCE.size] != run.prefix:
            return False
        (sequence,) = SEQUENCE.unpack(value[-SEQUENCE.size :])
        if sequence != run.sequence + 1:
            return False
        if not run.scan.on_next(run.out, sequence):
            return False
        run.sequence = sequence
        run.stored[sequence] = _stored(message, None)
        return True

    def _mark(self, scan: TailScan, out: OutPartition, message: Message, value: bytes) -> None:
        try:
            scan.on_marker(out, message.offset(), decode_marker(value))
        except WireCorruptError as error:
            self._damaged(message, error)

    def _take(
        self,
        scan: TailScan,
        out: OutPartition,
        message: Message,
        value: bytes,
        headers: Headers,
    ) -> None:
        # Headers are given, and decoded once: getting them from the client is half of a scan.
        try:
            identity = decode_identity(value)
            lineage = None
            if len(headers) > 1:
                chunk = dict(headers).get(LINEAGE_HEADER)
                lineage = None if chunk is None else decode_lineage(chunk)
            is_taken = scan.on_record(out, message.offset(), identity, lineage)
        except WireCorruptError as error:
            if out in scan.internal:
                self._damaged(message, error)
            else:
                # One of ours is whole: Kafka's checksum sees to that (H52).
                log.warning(
                    "record of somebody else in a sink", record=place_of(message), reason=str(error)
                )
            return
        except LocatedError as error:
            raise located(error, message) from error
        if is_taken:
            self._store(scan, out, identity, message, headers)

    def _damaged(self, message: Message, error: WireCorruptError) -> None:
        """Stop at headers on an internal topic that do not decode, unless they are nobody's."""
        if not self._is_foreign(message):
            error.skip = place_of(message, "all")
            raise located(error, message) from error

    def _is_internal(self, partition: Partition) -> bool:
        return any(out in scan.internal for scan, out in self._readers[partition].values())

    def _is_foreign(self, message: Message) -> bool:
        ranges = self._foreign.get((message.topic(), message.partition()), ())
        return any(first <= message.offset() <= last for first, last in ranges)

    def _store(
        self,
        scan: TailScan,
        out: OutPartition,
        identity: Identity,
        message: Message,
        headers: Headers,
    ) -> None:
        stored = self.stored.setdefault(scan.task, {}).setdefault(out, {})
        if out not in scan.internal:
            kept = user_headers(headers) if len(headers) > 1 else None
            stored[identity.first_seq] = _stored(message, kept)
            partition = message.topic(), message.partition()
            prefix = identity.encode_prefix()
            self._runs[partition] = _Run(scan, out, prefix, identity.first_seq, stored)
            return
        try:
            columns = decode_frame(message.value(), identity.count)
        except WireCorruptError as error:
            # Its writer needs no more than the headers; who reads it will stop, or skip it.
            place = place_of(message, "all")
            log.warning("damaged frame cannot be compared", record=place, reason=str(error))
            return
        for index in range(identity.count):
            stored[identity.first_seq + index] = framed_record(columns, index)


def _stored(message: Message, headers: Headers | None) -> StoredRecord:
    kind, timestamp = message.timestamp()
    # A topic with message.timestamp.type=LogAppendTime does not keep ours (H43).
    kept = None if kind == LOG_APPEND_TIME else timestamp
    return StoredRecord(message.key(), message.value(), kept, headers)
