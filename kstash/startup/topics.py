"""The topics of an application at a start: creates what is missing, has checked what exists.

Protocol, sections 1 and 9 (H13, H16, H20, H23). A mismatch names topic, setting, what was found,
what is needed and the command that fixes it (`topic_checks`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import structlog

from kstash.core import names
from kstash.errors import (
    ResetUnfinishedError,
    RightMissingError,
    TopicMissingError,
)
from kstash.failpoints import around
from kstash.ports.kafka import Admin, NewTopic, TopicInfo
from kstash.settings.config import OWN_MESSAGE_BYTES_MAX, Config
from kstash.startup.rights import check_rights, explained
from kstash.startup.topic_checks import (
    check_copartitioning,
    check_partition_count,
    check_settings,
    check_user_settings,
    frame_message_bytes,
)
from kstash.startup.topic_settings import (
    checkpoints_topic_config,
    internal_topic_config,
    lineage_topic_config,
)
from kstash.topology.model import Topology

log = structlog.get_logger("kstash.kafka")


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
    if config.checkpoint_store == "topic" and config.guaranteed.recovers:
        own.append(topology.checkpoints_topic)
    journal = names.reset_journal(config.application_id)
    try:
        found = admin.describe([*user, *own, journal])
    except RightMissingError as error:
        raise explained(error, topology, config) from error
    if journal in found:
        raise ResetUnfinishedError(config.application_id, journal)
    check_rights(topology, config, found)
    if (missing := [topic for topic in user if topic not in found]) and not config.create_topics:
        found |= _found_now(admin, missing)
        missing = []
    if topology.lineage_topic not in found and config.guaranteed.recovers:
        others = [topic for topic in own if topic in found]
        _check_is_new(admin, topology, others, found, config, has_local_state=has_local_state)
    with around("topics.create"):
        admin.create([NewTopic(topic, -1, None, {}) for topic in missing])
    found |= admin.describe(missing, are_created=True)
    largest = max(found[topic].partition_count for topic in topology.input_topics)
    missing = [topic for topic in own if topic not in found]
    # A start that is refused makes no topics: they would have the numbers of what was refused.
    for stage in topology.stages:
        check_copartitioning(stage, found, largest)
    check_user_settings(topology, found, config)
    with around("topics.create"):
        admin.create(_own_topics(missing, largest, config))
    found |= admin.describe(missing, are_created=True)
    check_rights(topology, config, found)
    for topic in own:
        check_partition_count(found[topic], largest, config.application_id)
    check_settings(topology, found, config)
    return found


def _found_now(admin: Admin, missing: list[str]) -> dict[str, TopicInfo]:
    """User topics that were missing a moment ago: all of them, or it is an error."""
    found = _look_again(admin, missing)
    if still := [topic for topic in missing if topic not in found]:
        raise TopicMissingError(
            still, "create them (`kstash topics create` does), or set create_topics=True"
        )
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
    needed = max(OWN_MESSAGE_BYTES_MAX, frame_message_bytes(config))
    return internal_topic_config() | {"max.message.bytes": str(needed)}
