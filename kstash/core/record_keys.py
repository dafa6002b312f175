"""Keys of the records of the lineage topic (layouts: wire-format.md).

Incarnation, kind, then what distinguishes records of one kind; CONFIG and CLAIM carry a nonce
instead of an incarnation, because none exists yet. No two records share a key (H8), but for HINTs:
compaction keeps the newest one.
"""

from __future__ import annotations

import struct

from kstash.core.ids import NO_INCARNATION, Incarnation, TaskId
from kstash.core.records import (
    BoundedRun,
    Checkpoint,
    Claim,
    Generation,
    Hint,
    LineageRecord,
    Release,
    Seal,
    Segment,
    Start,
)
from kstash.errors import WireCorruptError

# Written into topics: never change a value, only add.
CONFIG, CLAIM, SEAL, START, RELEASE, RUN, SEGMENT, HINT, CHECKPOINT = range(1, 10)

KINDS: dict[type, int] = {
    Generation: CONFIG,
    Claim: CLAIM,
    Seal: SEAL,
    Start: START,
    Release: RELEASE,
    BoundedRun: RUN,
    Segment: SEGMENT,
    Hint: HINT,
    Checkpoint: CHECKPOINT,
}

_HEAD = struct.Struct(">QQB")
_TASK = struct.Struct(">HIQ")


def encode_key(record: LineageRecord) -> bytes:
    """Return the Kafka key of a lineage record."""
    if isinstance(record, Generation):
        return _HEAD.pack(*NO_INCARNATION, CONFIG) + record.nonce
    if isinstance(record, Claim):
        return _HEAD.pack(*NO_INCARNATION, CLAIM) + record.nonce
    head = _HEAD.pack(*record.incarnation, KINDS[type(record)])
    if isinstance(record, Segment | Hint | Checkpoint):
        # One hint a task is enough: compaction keeps the newest.
        number = 0 if isinstance(record, Hint) else record.number
        return head + _TASK.pack(*record.task, number)
    if isinstance(record, BoundedRun):
        return head + record.run.to_bytes(8, "big")
    return head


def decode_head(key: bytes) -> tuple[Incarnation, int, bytes]:
    """Return (incarnation, kind, the rest) of a key; a nonce is under `NO_INCARNATION`.

    Raises:
        struct.error: too short for a key.
    """
    generation, offset, kind = _HEAD.unpack_from(key)
    return Incarnation(generation, offset), kind, key[_HEAD.size :]


def decode_task_key(rest: bytes) -> tuple[TaskId, int]:
    """Return (task, number) of the rest of a key of SEG, HINT or CKPT; the number of a HINT is 0.

    Raises:
        struct.error: too short or too long.
    """
    stage, partition, number = _TASK.unpack(rest)
    return TaskId(stage, partition), number


def key_incarnation(key: bytes) -> tuple[Incarnation, int]:
    """Return (incarnation, kind) of a record's key, for tombstones.

    Raises:
        WireCorruptError: too short for a key.
    """
    try:
        incarnation, kind, _ = decode_head(key)
    except struct.error as error:
        raise WireCorruptError(f"malformed lineage key: {error}") from error
    return incarnation, kind
