"""Bytes of identity headers and markers (layouts: wire-format.md).

What Kafka's batch CRC covers (record headers) has a version byte only; what is kept in the lineage
topic ends with a CRC-32 besides (`core.record_codec`). Garbage gives `WireCorruptError`, nothing
else.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from hashlib import blake2b

from kstash.core.ids import NO_INCARNATION, Incarnation, TaskId
from kstash.errors import WireCorruptError

IDENTITY_HEADER = "__kstash.s"
LINEAGE_HEADER = "__kstash.l"
MARKER_HEADER = "__kstash.m"
HEADER_PREFIX = "__kstash."

# Written into topics: never change a value, only add.
VERSION = 1
_MARKER_FENCE, _MARKER_END = 1, 2

_IDENTITY = struct.Struct(">BQHIQQQIQ")
_IDENTITY_PREFIX = struct.Struct(">BQHIQQQI")
SEQUENCE = struct.Struct(">Q")
_FENCE_GROUP = struct.Struct(">IQQ")
_MARKER = struct.Struct(">BBQ")
_END = struct.Struct(">QHIQQQQ")


def application_tag(application_id: str) -> int:
    """Return the 64-bit tag that stands for an application in identity headers and markers."""
    return int.from_bytes(blake2b(application_id.encode(), digest_size=8).digest(), "big")


@dataclass(slots=True)  # Not frozen: that takes twice the time, for each record that is read.
class Identity:
    """Identity header: who produced this record, and which outputs it is. Nobody changes one.

    Attributes:
        application: tag of the application.
        task: that made the output.
        incarnation: of the task's group.
        position: the task's, at the end of the batch that made the output.
        count: of logical records, 1 or more; 1 in a sink.
        first_seq: sequence of the first of them, 1 or more.
    """

    application: int
    task: TaskId
    incarnation: Incarnation
    position: int
    count: int
    first_seq: int

    def encode(self) -> bytes:
        """Return the header's 51 bytes."""
        return self.encode_prefix() + SEQUENCE.pack(self.first_seq)

    def encode_prefix(self) -> bytes:
        """Return all but the sequence, which is last: a batch of sink records shares the rest."""
        return _IDENTITY_PREFIX.pack(
            VERSION, self.application, *self.task, *self.incarnation, self.position, self.count
        )


WRITER_BYTES = slice(1, 15)
"""Where an identity header says who wrote the record."""


def writer_bytes(application: int, task: TaskId) -> bytes:
    """What stands at `WRITER_BYTES` of every identity header of a task."""
    return Identity(application, task, NO_INCARNATION, 0, 1, 1).encode()[WRITER_BYTES]


def decode_identity(data: bytes) -> Identity:
    """Decode an identity header.

    Raises:
        WireCorruptError: wrong length or version, or a count or sequence of 0.
    """
    if len(data) != _IDENTITY.size:
        raise WireCorruptError(f"identity header of {len(data)} bytes, {_IDENTITY.size} needed")
    version, app, stage, partition, gen, inc, position, count, seq = _IDENTITY.unpack(data)
    if version != VERSION:
        raise WireCorruptError(f"identity header of version {version}, known: {VERSION}")
    if count == 0 or seq == 0:
        raise WireCorruptError(f"identity header with count {count} and sequence {seq}")
    return Identity(app, TaskId(stage, partition), Incarnation(gen, inc), position, count, seq)


@dataclass(frozen=True, slots=True)
class Fence:
    """Marker: records of older incarnations of these task groups are void after it.

    Attributes:
        application: tag of the application.
        incarnations: (task group, the incarnation that fences it), one or more.
    """

    application: int
    incarnations: tuple[tuple[int, Incarnation], ...]


@dataclass(frozen=True, slots=True)
class End:
    """Marker: a task of a bounded run has produced everything, as far as this partition goes.

    Like an output, it fixes the history up to the task's `position`: after a counted END a
    successor must not find another one.

    Attributes:
        application: tag of the application.
        run: id of the bounded run.
        task: that is at its end.
        incarnation: of the task's group.
        last_seq: sequence of its last output to this partition, 0 without any.
        position: of the task, which is its last.
    """

    application: int
    run: int
    task: TaskId
    incarnation: Incarnation
    last_seq: int
    position: int


Marker = Fence | End


def encode_marker(marker: Marker) -> bytes:
    """Return the bytes of a marker header, CRC included."""
    if isinstance(marker, Fence):
        body = _MARKER.pack(VERSION, _MARKER_FENCE, marker.application) + b"".join(
            _FENCE_GROUP.pack(group, *incarnation) for group, incarnation in marker.incarnations
        )
    else:
        body = _MARKER.pack(VERSION, _MARKER_END, marker.application) + _END.pack(
            marker.run, *marker.task, *marker.incarnation, marker.last_seq, marker.position
        )
    return with_checksum(body)


def decode_marker(data: bytes) -> Marker:
    """Decode a marker header.

    Raises:
        WireCorruptError: not a marker of a known version, or its checksum is wrong.
    """
    body = without_checksum(data)
    try:
        version, kind, application = _MARKER.unpack_from(body)
        rest = body[_MARKER.size :]
        if version != VERSION:
            raise WireCorruptError(f"marker of version {version}, known: {VERSION}")
        if kind == _MARKER_FENCE:
            return Fence(
                application,
                tuple((g, Incarnation(a, b)) for g, a, b in _FENCE_GROUP.iter_unpack(rest)),
            )
        if kind == _MARKER_END:
            run, stage, partition, gen, inc, last_seq, position = _END.unpack(rest)
            task = TaskId(stage, partition)
            return End(
                application=application,
                run=run,
                task=task,
                incarnation=Incarnation(gen, inc),
                last_seq=last_seq,
                position=position,
            )
    except struct.error as error:
        raise WireCorruptError(f"marker of {len(data)} bytes is malformed: {error}") from error
    raise WireCorruptError(f"marker of unknown kind {kind}")


def with_checksum(body: bytes) -> bytes:
    """Append the CRC-32 of `body`."""
    return body + zlib.crc32(body).to_bytes(4, "big")


def without_checksum(data: bytes | None) -> bytes:
    """Return what `with_checksum` was given.

    Raises:
        WireCorruptError: too short, or the checksum is wrong.
    """
    if data is None or len(data) < 5:
        raise WireCorruptError(
            f"{0 if data is None else len(data)} bytes are too short for a record"
        )
    body, checksum = data[:-4], data[-4:]
    if zlib.crc32(body).to_bytes(4, "big") != checksum:
        raise WireCorruptError("checksum mismatch")
    return body
