"""The topics of an application at a start: missing ones are created, existing ones checked.

Protocol, sections 1 and 9 (H13, H16, H20, H23). A mismatch names the topic, the setting, the value
that was found, the value that is needed and the command that fixes it (`topic_checks`).
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
from kstash.settings import derived
from kstash.settings.config import OWN_MESSAGE_BYTES_MAX, Config
from kstash.startup.rights import check_rights, explained
from kstash.startup.topic_checks import (
    check_copartitioning,
    check_partition_count,
    check_topic_settings,
    check_user_settings,
    frame_message_bytes,
)
from kstash.startup.topic_settings import (
    checkpoints_topic_config,
    durable,
    internal_topic_config,
    lineage_topic_config,
)
from kstash.topology.model import Topology

log = structlog.get_logger("kstash.kafka")


def check_topics(
    admin: Admin, topology: Topology, config: Config, *, has_local_state: bool = False
) -> dict[str, TopicInfo]:
    """Create what is missing, check what exists.

    Internal topics and the lineage topic are always created, user topics only with `create_topics`,
    with the cluster's default number of partitions. An application that ran before does not get a
    new lineage topic: it would begin without its state.

    Args:
        admin: asks and creates.
        topology: of the application.
        config: its settings.
        has_local_state: this machine has checkpoints of the application.

    Returns:
        All topics of the application by name, user topics included.

    Raises:
        TopicMissingError: user topics are missing and are not to be created, or the lineage topic
            of an application that ran before is missing.
        TopicMismatchError: a topic does not fit.
        ResetUnfinishedError: a reset is under way, or was cut short.
        KafkaUnavailableError: Kafka did not answer.
    """
    user = list(dict.fromkeys([*topology.input_topics, *topology.output_topics]))
    own = [*topology.internal_topics, topology.lineage_topic]
    if config.checkpoint_store == "topic" and derived.guarantee(config).recovers:
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
    if topology.lineage_topic not in found and derived.guarantee(config).recovers:
        others = [topic for topic in own if topic in found]
        _check_is_new(admin, topology, others, found, config, has_local_state=has_local_state)
    with around("topics.create"):
        admin.create([NewTopic(topic, -1, None, {}) for topic in missing])
    found |= admin.describe(missing, are_created=True)
    largest = max(found[topic].partition_count for topic in topology.input_topics)
    missing = [topic for topic in own if topic not in found]
    # A start that is refused makes no topics: they would get partition counts by wrong inputs.
    for stage in topology.stages:
        check_copartitioning(stage, found, largest)
    check_user_settings(topology, found, config)
    with around("topics.create"):
        admin.create(_own_topics(missing, largest, config))
    found |= admin.describe(missing, are_created=True)
    check_rights(topology, config, found)
    for topic in own:
        check_partition_count(found[topic], largest, config.application_id)
    check_topic_settings(topology, found, config)
    return found


def _found_now(admin: Admin, missing: list[str]) -> dict[str, TopicInfo]:
    """User topics that were missing a moment ago; one that is still missing is an error."""
    found = _describe_again(admin, missing)
    if still := [topic for topic in missing if topic not in found]:
        raise TopicMissingError(
            still, "create them (`kstash topics create` does), or set create_topics=True"
        )
    return found


def _describe_again(admin: Admin, topics: list[str]) -> dict[str, TopicInfo]:
    """Topics that may have been created a moment ago: brokers learn of them one after another."""
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
    """Refuse to make a lineage topic again: the old one is lost, and all would be counted again.

    `others`: the application's own topics that exist.
    """
    ends = admin.end_offsets([(t, p) for t in others for p in range(found[t].partition_count)])
    if not has_local_state and not any(ends.values()):
        return
    if _describe_again(admin, [topology.lineage_topic]):
        return  # another worker has just made it, and `create` accepts that
    raise TopicMissingError(
        [topology.lineage_topic],
        "the application ran before, and this topic held its lineage; restore the topic, or start "
        "afresh, which gives up the state and makes all outputs again: stop all workers, then "
        f"`kstash reset {config.application_id}`",
    )


def _own_topics(topics: Iterable[str], partition_count: int, config: Config) -> list[NewTopic]:
    configs = {
        names.lineage_topic(config.application_id): lineage_topic_config(),
        names.checkpoints_topic(config.application_id): checkpoints_topic_config(),
    }
    replication_factor = config.internal_replication_factor
    added = durable(replication_factor or 0)
    return [
        NewTopic(
            topic,
            partition_count,
            replication_factor,
            configs.get(topic, _internal_for(config)) | added,
        )
        for topic in topics
    ]


def _internal_for(config: Config) -> dict[str, str]:
    """The settings of a new internal topic, which must accept the largest frames of `config`."""
    needed = max(OWN_MESSAGE_BYTES_MAX, frame_message_bytes(config))
    return internal_topic_config() | {"max.message.bytes": str(needed)}
