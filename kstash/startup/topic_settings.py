"""The settings of an application's own topics (protocol, H13, H20, H23)."""

from __future__ import annotations

from kstash.settings.config import OWN_MESSAGE_BYTES_MAX

MINUTE_MS = 60_000

LONG_MAX = 2**63 - 1


def durable(replicas: int) -> dict[str, str]:
    """The setting that makes a topic of that many replicas survive the loss of one."""
    return {"min.insync.replicas": "2"} if replicas >= 3 else {}


def lineage_topic_config() -> dict[str, str]:
    """Settings of the lineage topic (protocol, H23): compacted soon and never deleted by age."""
    return {
        "cleanup.policy": "compact",
        "max.message.bytes": str(OWN_MESSAGE_BYTES_MAX),
        "segment.ms": str(10 * MINUTE_MS),
        "segment.bytes": str(16 * 1024 * 1024),
        "max.compaction.lag.ms": str(10 * MINUTE_MS),
        # What a zombie trims must not be gone before its successor has read it (H7).
        "min.compaction.lag.ms": str(MINUTE_MS),
        "min.cleanable.dirty.ratio": "0.1",
        "delete.retention.ms": str(10 * MINUTE_MS),
        # Brokers refuse timestamps of the future, and roll segments by the records' timestamps.
        "message.timestamp.type": "LogAppendTime",
        "unclean.leader.election.enable": "false",
    }


def checkpoints_topic_config() -> dict[str, str]:
    """Settings of the checkpoints topic: deleted files free their space soon."""
    return {
        "cleanup.policy": "compact",
        "max.message.bytes": str(OWN_MESSAGE_BYTES_MAX),
        "segment.ms": str(10 * MINUTE_MS),
        "segment.bytes": str(64 * 1024 * 1024),
        "max.compaction.lag.ms": str(10 * MINUTE_MS),
        # A reader of a file that is deleted meanwhile must get to its end (H7).
        "min.compaction.lag.ms": str(MINUTE_MS),
        "min.cleanable.dirty.ratio": "0.3",
        "delete.retention.ms": str(10 * MINUTE_MS),
        "message.timestamp.type": "LogAppendTime",
        "unclean.leader.election.enable": "false",
    }


def internal_topic_config() -> dict[str, str]:
    """Settings of a repartition topic: only the purge of the protocol deletes from it."""
    return {
        "cleanup.policy": "delete",
        "max.message.bytes": str(OWN_MESSAGE_BYTES_MAX),
        "retention.ms": "-1",
        "retention.bytes": "-1",
        # A purge frees whole segments.
        "segment.bytes": str(64 * 1024 * 1024),
        "message.timestamp.type": "CreateTime",
        # Timestamps are the inputs': an odd one there must not stop the application here.
        "message.timestamp.before.max.ms": str(LONG_MAX),
        "message.timestamp.after.max.ms": str(LONG_MAX),
        "unclean.leader.election.enable": "false",
    }
