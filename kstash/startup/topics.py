"""The topics of an application: their settings, their creation, and checks of existing ones.

Protocol, sections 1 and 9 (H13, H16, H20, H23). A mismatch names topic, setting, what was found,
what is needed and the command that fixes it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import structlog

from kstash.core import names
from kstash.errors import (
    ResetUnfinishedError,
    RightMissingError,
    TopicMismatchError,
    TopicMissingError,
)
from kstash.failpoints import around
from kstash.ports.kafka import Admin, NewTopic, TopicInfo
from kstash.settings.config import OWN_MESSAGE_BYTES_MAX, Config
from kstash.startup.rights import check_rights, explained
from kstash.stores.topic import CHUNK_BYTES
from kstash.topology.model import Stage, StageOutput, Topology

log = structlog.get_logger("kstash.kafka")

MINUTE_MS = 60_000
LONG_MAX = 2**63 - 1
BATCH_OVERHEAD_BYTES = 4096
"""Bytes of a record batch besides value and lineage header: identity header, key, framing."""

LINEAGE_RECORD_BYTES_MAX = 16_384
"""What a segment of `core.stash.SEGMENT_ENTRIES_MAX` entries takes."""

_NOT_EVERYWHERE = frozenset(
    {"retention.bytes", "message.timestamp.before.max.ms", "message.timestamp.after.max.ms"}
)
"""Settings that older brokers do not know, or whose default is what is needed."""

_INTERNAL_SETTINGS = (
    "cleanup.policy",
    "retention.ms",
    "retention.bytes",
    "message.timestamp.type",
    "message.timestamp.before.max.ms",
    "message.timestamp.after.max.ms",
)
"""By which Kafka itself takes frames away, or does not take them."""


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
        # Brokers refuse what claims to be of the future, and roll segments by what records say.
        "message.timestamp.type": "LogAppendTime",
        "unclean.leader.election.enable": "false",
    }


def checkpoints_topic_config() -> dict[str, str]:
    """Settings of the checkpoints topic: what is deleted frees its space soon."""
    return {
        "cleanup.policy": "compact",
        "max.message.bytes": str(OWN_MESSAGE_BYTES_MAX),
        "segment.ms": str(10 * MINUTE_MS),
        "segment.bytes": str(64 * 1024 * 1024),
        "max.compaction.lag.ms": str(10 * MINUTE_MS),
        # A reader that is at a file when it is deleted gets to its end (H7).
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


def check_topics(
    admin: Admin, topology: Topology, config: Config, *, has_local_state: bool = False
) -> dict[str, TopicInfo]:
    """Create what is missing, check what exists.

    Internal topics and the lineage topic are created always, user topics only with
    `create_topics`, with the cluster's default number of partitions. An application that has
    worked before does not get a new lineage topic: it would begin from nothing.

    Args:
        admin: asks and creates.
        topology: of the application.
        config: its settings.
        has_local_state: this machine has checkpoints of the application.

    Returns:
        All topics of the application by name, user topics included.

    Raises:
        TopicMissingError: user topics are missing and are not to be created, or the lineage topic
            of an application that has worked before.
        TopicMismatchError: a topic cannot be worked with.
        ResetUnfinishedError: a reset is under way, or was cut short.
        KafkaUnavailableError: Kafka did not answer.
    """
    user = list(dict.fromkeys([*topology.input_topics, *topology.output_topics]))
    own = [*topology.internal_topics, topology.lineage_topic]
    has_checkpoints = config.checkpoint_store == "topic" and config.guarantee != "none"
    if has_checkpoints:
        own.append(topology.checkpoints_topic)
    journal = names.reset_journal(config.application_id)
    try:
        found = admin.describe([*user, *own, journal])
    except RightMissingError as error:
        raise explained(error, topology, config) from error
    if journal in found:
        raise ResetUnfinishedError(config.application_id, journal)
    missing = [topic for topic in user if topic not in found]
    check_rights(topology, config, found)
    if missing and not config.create_topics:
        found |= _look_again(admin, missing)
        missing = [topic for topic in user if topic not in found]
    if missing and not config.create_topics:
        raise TopicMissingError(
            missing,
            "create them (`kstash topics create` does), or set create_topics=True",
        )
    if topology.lineage_topic not in found and config.guarantee != "none":
        others = [topic for topic in own if topic in found]
        _check_is_new(admin, topology, others, found, config, has_local_state=has_local_state)
    with around("topics.create"):
        admin.create([NewTopic(topic, -1, None, {}) for topic in missing])
    found |= admin.describe(missing, are_created=True)
    largest = max(found[topic].partition_count for topic in topology.input_topics)
    missing = [topic for topic in own if topic not in found]
    # A start that is refused makes no topics: they would have the numbers of what was refused.
    for stage in topology.stages:
        _check_copartitioning(stage, found, largest)
    _check_user_settings(topology, found, config)
    with around("topics.create"):
        admin.create(_own_topics(missing, largest, config))
    found |= admin.describe(missing, are_created=True)
    check_rights(topology, config, found)
    for topic in own:
        _check_partition_count(found[topic], largest, config.application_id)
    _check_settings(topology, found, config)
    return found


def _look_again(admin: Admin, topics: list[str]) -> dict[str, TopicInfo]:
    """Topics that may have been created a moment ago: brokers come to know them one by one."""
    log.info("topics are not there, looking again for some seconds", topics=", ".join(topics))
    return admin.describe(topics, may_be_new=True)


def _check_is_new(
    admin: Admin,
    topology: Topology,
    others: Collection[str],
    found: Mapping[str, TopicInfo],
    config: Config,
    *,
    has_local_state: bool,
) -> None:
    """Refuse to make a lineage topic anew: what it held is lost, and all would be counted again.

    `others`: its own topics that are there.
    """
    ends = admin.end_offsets([(t, p) for t in others for p in range(found[t].partition_count)])
    if not has_local_state and not any(ends.values()):
        return
    if _look_again(admin, [topology.lineage_topic]):
        return  # another worker has just made it: creating it finds it there
    raise TopicMissingError(
        [topology.lineage_topic],
        "the application has worked before, and what it knew of that was in this topic; restore "
        "it, or start afresh, which gives up the state and makes all outputs again: stop all "
        "workers, then "
        f"`kstash reset {config.application_id}`",
    )


def _own_topics(topics: Iterable[str], partition_count: int, config: Config) -> list[NewTopic]:
    configs = {
        names.lineage_topic(config.application_id): lineage_topic_config(),
        names.checkpoints_topic(config.application_id): checkpoints_topic_config(),
    }
    replication_factor = config.internal_replication_factor
    durable = {"min.insync.replicas": "2"} if (replication_factor or 0) >= 3 else {}
    return [
        NewTopic(
            topic,
            partition_count,
            replication_factor,
            configs.get(topic, _internal_for(config)) | durable,
        )
        for topic in topics
    ]


def _internal_for(config: Config) -> dict[str, str]:
    """Of a new internal topic, which takes the frames that the settings ask for."""
    needed = max(OWN_MESSAGE_BYTES_MAX, _frame_message_bytes(config))
    return internal_topic_config() | {"max.message.bytes": str(needed)}


def _frame_message_bytes(config: Config) -> int:
    return config.frame_bytes_max + config.lineage_header_bytes_max + BATCH_OVERHEAD_BYTES


def _check_partition_count(topic: TopicInfo, needed: int, application_id: str) -> None:
    if topic.partition_count != needed:
        raise TopicMismatchError(
            topic.name,
            "partition count",
            found=topic.partition_count,
            needed=f"{needed}, as many as the largest input has",
            # Adding partitions would move keys away from their state (H16).
            fix="give the program another application_id, and it begins anew beside what is "
            "there. To give up the state of this one, and to make all its outputs again: stop all "
            f"workers, then `kstash reset {application_id}`",
        )


def _check_copartitioning(stage: Stage, found: Mapping[str, TopicInfo], largest: int) -> None:
    """Keyed state behind several inputs needs them spread alike; new ones are as `largest`."""
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


def _check_user_settings(
    topology: Topology, found: Mapping[str, TopicInfo], config: Config
) -> None:
    if not config.has_lineage:
        return
    for topic in topology.input_topics:
        _check_is_log(found[topic])
    for stage in topology.stages:
        for output in stage.outputs:
            if not output.internal and not output.is_transactional:
                _check_immediate_sink(output, found[output.topic], config)


def _check_settings(topology: Topology, found: Mapping[str, TopicInfo], config: Config) -> None:
    _check(found[topology.lineage_topic], lineage_topic_config(), "cleanup.policy")
    if topology.checkpoints_topic in found:
        _check(found[topology.checkpoints_topic], checkpoints_topic_config(), "cleanup.policy")
        _check_record_size(found[topology.checkpoints_topic], CHUNK_BYTES + BATCH_OVERHEAD_BYTES)
    for topic in topology.internal_topics:
        # All at once: `delete` with a retention of before would take what nobody has read yet.
        _check(found[topic], internal_topic_config(), *_INTERNAL_SETTINGS)
        _check_record_size(found[topic], _frame_message_bytes(config))
    _check_record_size(
        found[topology.lineage_topic], LINEAGE_RECORD_BYTES_MAX + BATCH_OVERHEAD_BYTES
    )
    _check_durability(found.values(), config.has_lineage)


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
    """Refuse a compacted input, without a word that would put retention on somebody's table."""
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
            "readers need to tell what they have seen",
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
    """What every one of these topics takes as one batch of records, in bytes."""
    limits = (int(topic.config.get("max.message.bytes", str(LONG_MAX))) for topic in topics)
    return min(limits, default=LONG_MAX)


def _check_durability(topics: Iterable[TopicInfo], recovers: bool) -> None:
    """What has been read must stay in the log (H20)."""
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
