"""The rights that an application needs (docs/operating, "Rights"), checked when it starts.

The cluster reports a client's rights with each topic that it describes. This is checked before the
first record: otherwise a missing right would show only at the first crash, or at the first purge.
"""

from __future__ import annotations

from collections.abc import Mapping

from kstash.core.kinds import OutputKind
from kstash.errors import RightMissingError
from kstash.ports.kafka import TopicInfo
from kstash.settings import derived
from kstash.settings.config import Config
from kstash.topology.model import Topology


def rights_needed(topology: Topology, config: Config) -> dict[str, tuple[str, ...]]:
    """Operations on each topic of an application that its workers need."""
    recovers = derived.guarantee(config).logs_lineage
    wanted: dict[str, dict[str, None]] = {}

    def want(topic: str, *operations: str) -> None:
        wanted.setdefault(topic, {}).update(dict.fromkeys(operations))

    for topic in topology.input_topics:
        want(topic, "READ")
    for stage in topology.stages:
        for output in stage.outputs:
            want(output.topic, "WRITE")
            if recovers and output.kind is OutputKind.IMMEDIATE:
                want(output.topic, "READ")  # a recovery reads its end
    for topic in topology.internal_topics:
        want(topic, "READ", "WRITE")
        if derived.guarantee(config).recovers:
            want(topic, "DELETE")  # what nobody needs any more is purged
    if derived.guarantee(config).recovers:
        want(topology.lineage_topic, "READ", "WRITE")
        if config.checkpoint_store == "topic":
            want(topology.checkpoints_topic, "READ", "WRITE")
    return {topic: tuple(operations) for topic, operations in wanted.items()}


def explained(error: RightMissingError, topology: Topology, config: Config) -> RightMissingError:
    """The error for topics that may not even be described, with what is needed there.

    READ and WRITE include DESCRIBE, so its lack says little about them.
    """
    wanted = rights_needed(topology, config)
    missing = [
        (kind, name, operation)
        for kind, name, lacking in error.missing
        for operation in (wanted.get(name, (lacking,)) if lacking == "DESCRIBE" else (lacking,))
    ]
    return RightMissingError(missing)


def check_rights(topology: Topology, config: Config, found: Mapping[str, TopicInfo]) -> None:
    """Check the rights on those topics that exist.

    A lack of DESCRIBE or DESCRIBE_CONFIGS shows when topics are described, one of CREATE when a
    topic is created, and those on groups and transactional ids at their first use. A cluster that
    does not report the client's rights is not asked again.

    Raises:
        RightMissingError: names all missing rights.
    """
    missing = [
        ("topic", topic, operation)
        for topic, operations in rights_needed(topology, config).items()
        if topic in found
        for operation in operations
        if (allowed := found[topic].operations) and operation not in allowed
    ]
    if missing:
        raise RightMissingError(missing)
