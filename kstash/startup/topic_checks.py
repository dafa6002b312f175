"""Whether existing topics fit the application (protocol, H13, H16, H20, H23)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import structlog

from kstash.core.kinds import OutputKind
from kstash.errors import TopicMismatchError
from kstash.ports.kafka import TopicInfo
from kstash.settings import derived
from kstash.settings.config import Config
from kstash.startup.topic_settings import (
    LONG_MAX,
    checkpoints_topic_config,
    internal_topic_config,
    lineage_topic_config,
)
from kstash.stores.topic import CHUNK_BYTES
from kstash.topology.model import Stage, StageOutput, Topology

log = structlog.get_logger("kstash.kafka")

BATCH_OVERHEAD_BYTES = 4096
"""Bytes of a record batch besides value and lineage header: identity header, key, framing."""

LINEAGE_RECORD_BYTES_MAX = 16_384
"""Largest size of a segment of `core.stash.SEGMENT_ENTRIES_MAX` entries."""

_NOT_EVERYWHERE = frozenset(
    {"retention.bytes", "message.timestamp.before.max.ms", "message.timestamp.after.max.ms"}
)
"""Settings that older brokers do not know, or that have the needed value by default."""

_INTERNAL_SETTINGS = (
    "cleanup.policy",
    "retention.ms",
    "retention.bytes",
    "message.timestamp.type",
    "message.timestamp.before.max.ms",
    "message.timestamp.after.max.ms",
)
"""Settings by which Kafka deletes frames, or refuses them."""


def frame_message_bytes(config: Config) -> int:
    """Largest record of an internal topic, by the settings."""
    return config.frame_bytes_max + config.lineage_header_bytes_max + BATCH_OVERHEAD_BYTES


def check_partition_count(topic: TopicInfo, needed: int, application_id: str) -> None:
    """Refuse a topic of the application's own that has another number of partitions (H16)."""
    if topic.partition_count != needed:
        raise TopicMismatchError(
            topic.name,
            "partition count",
            found=topic.partition_count,
            needed=f"{needed}, as many as the largest input has",
            # Adding partitions would move keys away from their state (H16).
            fix="give the program another application_id, and it starts without state beside the "
            "old one. Or give up the state of this one, and make all its outputs again: stop all "
            f"workers, then `kstash reset {application_id}`",
        )


def check_copartitioning(stage: Stage, found: Mapping[str, TopicInfo], largest: int) -> None:
    """Refuse inputs of one keyed state that have different partition counts.

    A topic that is missing will get `largest` partitions.
    """
    if not stage.needs_copartitioning:
        return
    topics = [entry.topic for entry in stage.inputs]
    counts = {t: found[t].partition_count if t in found else largest for t in topics}
    needed = max(counts.values())
    for topic, count in counts.items():
        if count != needed:
            raise TopicMismatchError(
                topic,
                "partition count",
                found=count,
                needed=f"{needed}, as all inputs of stage {stage.name!r} must have",
                fix="`.repartition()` the stream before the state, or kafka-topics.sh --alter "
                f"--topic {topic} --partitions {needed} while the topic is empty",
            )


def check_user_settings(topology: Topology, found: Mapping[str, TopicInfo], config: Config) -> None:
    """Refuse compacted inputs, and sinks that lose what their readers need."""
    if not derived.guarantee(config).logs_lineage:
        return
    for topic in topology.input_topics:
        _check_is_log(found[topic])
    for stage in topology.stages:
        for output in stage.outputs:
            if output.kind is OutputKind.IMMEDIATE:
                _check_immediate_sink(output, found[output.topic], config)


def check_topic_settings(
    topology: Topology, found: Mapping[str, TopicInfo], config: Config
) -> None:
    """Refuse wrong settings of the application's own topics, and any that lose acked records."""
    _check(found[topology.lineage_topic], lineage_topic_config(), "cleanup.policy")
    if topology.checkpoints_topic in found:
        _check(found[topology.checkpoints_topic], checkpoints_topic_config(), "cleanup.policy")
        _check_record_size(found[topology.checkpoints_topic], CHUNK_BYTES + BATCH_OVERHEAD_BYTES)
    for topic in topology.internal_topics:
        # All at once: `delete` with the former retention would delete records before they are read.
        _check(found[topic], internal_topic_config(), *_INTERNAL_SETTINGS)
        _check_record_size(found[topic], frame_message_bytes(config))
    _check_record_size(
        found[topology.lineage_topic], LINEAGE_RECORD_BYTES_MAX + BATCH_OVERHEAD_BYTES
    )
    _check_durability(found.values(), derived.guarantee(config).logs_lineage)


def _check(topic: TopicInfo, needed: Mapping[str, str], *settings: str) -> None:
    wanted = {
        name: needed[name]
        for name in settings
        if name in topic.config or name not in _NOT_EVERYWHERE
    }
    for setting, value in wanted.items():
        found = topic.config.get(setting, "unknown")
        if found != value:
            raise _mismatch(topic.name, setting, found, wanted, value)


def _is_compacted(topic: TopicInfo) -> bool:
    return "compact" in topic.config.get("cleanup.policy", "delete")


def _check_is_log(topic: TopicInfo) -> None:
    """Refuse a compacted input; the fix must not lead anybody to set a retention on a table."""
    if _is_compacted(topic):
        raise TopicMismatchError(
            topic.name,
            "cleanup.policy",
            found=topic.config["cleanup.policy"],
            needed="delete: a replay reads an input again, and compaction has taken records out",
            fix="leave that topic as it is (with another policy Kafka would delete its older "
            "values), and read one that holds every change: have its producer, or a connector, "
            "write each record to a topic that is not compacted too. Or run with "
            "guarantee='at_least_once', which takes compacted inputs",
        )


def _check_immediate_sink(output: StageOutput, topic: TopicInfo, config: Config) -> None:
    if _is_compacted(topic):
        raise TopicMismatchError(
            topic.name,
            "cleanup.policy",
            found=topic.config["cleanup.policy"],
            needed="delete for delivery='immediate': the cleaner would remove records that "
            "readers need to recognise repeats",
            fix="leave the topic as it is, and write it by "
            '.to(..., delivery="transactional"), or write to another topic',
        )
    retention_ms = int(topic.config.get("retention.ms", "-1"))
    if 0 <= retention_ms <= config.outage_ms_max:
        raise _mismatch(
            output.topic,
            "retention.ms",
            str(retention_ms),
            {"retention.ms": str(2 * config.outage_ms_max)},
            f"more than outage_ms_max ({config.outage_ms_max}), or lower that setting",
        )


def _check_record_size(topic: TopicInfo, needed: int) -> None:
    found = int(topic.config.get("max.message.bytes", str(LONG_MAX)))
    if found < needed:
        raise _mismatch(
            topic.name,
            "max.message.bytes",
            str(found),
            {"max.message.bytes": str(needed)},
            f"{needed} or more (or lower frame_bytes_max)",
        )


def batch_bytes_max(topics: Iterable[TopicInfo]) -> int:
    """The largest batch of records, in bytes, that each of these topics accepts."""
    limits = (int(topic.config.get("max.message.bytes", str(LONG_MAX))) for topic in topics)
    return min(limits, default=LONG_MAX)


def _check_durability(topics: Iterable[TopicInfo], recovers: bool) -> None:
    """Refuse settings under which records that were read may vanish from the log (H20)."""
    fragile: Sequence[str] = sorted(t.name for t in topics if t.replication_factor < 3)
    for topic in topics:
        unclean = topic.config.get("unclean.leader.election.enable", "false")
        if recovers and unclean != "false":
            value = {"unclean.leader.election.enable": "false"}
            raise _mismatch(topic.name, "unclean.leader.election.enable", unclean, value, "false")
        in_sync = int(topic.config.get("min.insync.replicas", "2"))
        if recovers and topic.replication_factor >= 3 and in_sync < 2:
            value = {"min.insync.replicas": "2"}
            raise _mismatch(topic.name, "min.insync.replicas", str(in_sync), value, "2 or more")
    if fragile:
        log.warning(
            "topics with fewer than 3 replicas lose records with a broker: fit for development",
            topics=", ".join(fragile),
        )


def _mismatch(
    topic: str, setting: str, found: str, values: Mapping[str, str], needed: str
) -> TopicMismatchError:
    """The error with a command that sets `values`; none may let Kafka delete more than before."""
    pairs = ",".join(f"{name}={value}" for name, value in values.items())
    return TopicMismatchError(
        topic,
        setting,
        found=found,
        needed=needed,
        fix="kafka-configs.sh --alter --entity-type topics "
        f"--entity-name {topic} --add-config {pairs}",
    )
