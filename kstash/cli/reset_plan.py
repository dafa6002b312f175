"""What a reset would delete and make: determined before anything is changed."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from kstash.cli.folders import folder_program, folders_of
from kstash.cli.lineage_history import read_history
from kstash.core import names
from kstash.core.manifest import Manifest
from kstash.core.wire import (
    IDENTITY_HEADER,
    MARKER_HEADER,
    application_tag,
    decode_identity,
    decode_marker,
)
from kstash.errors import ConfigError, RecordUnreadableError, WireCorruptError
from kstash.kafka.console import KafkaConsole
from kstash.ports.kafka import Headers, Message, NewTopic, Partition, TopicInfo
from kstash.settings.config import Config
from kstash.startup.topic_settings import durable, lineage_topic_config
from kstash.stores.objects import ObjectCheckpointStore, open_store


@dataclass(slots=True)
class Plan:
    """What a reset deletes, and what it makes.

    Attributes:
        lineage: the lineage topic, when it exists.
        journal: of a reset that was cut short, when it exists.
        starts: (partition, key, value) of a START of each program that ever ran: for the journal.
        group_count: task groups that the application had, as far as is known; 0: none.
        made: the lineage topic as it is made; None when nothing shows that the application ran.
        topics: all other topics to delete.
        groups: consumer groups to delete.
        folders: state folders to delete.
        files: URIs in the object store to delete.
        generation: of the new lineage topic, in Unix ms: above the old one.
        first: where inputs begin; empty: by `auto_offset_reset`.
        left_alone: topics that have names like the application's, and are not known to be its own.
    """

    lineage: TopicInfo | None = None
    journal: TopicInfo | None = None
    starts: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    group_count: int = 0
    made: NewTopic | None = None
    topics: list[TopicInfo] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    generation: int = 0
    first: dict[Partition, int] = field(default_factory=dict)
    left_alone: list[str] = field(default_factory=list)

    @property
    def has_any(self) -> bool:
        """Whether anything of the application was found."""
        topics = self.journal or self.lineage or self.topics
        return bool(topics or self.groups or self.folders or self.files)


def make_plan(config: Config, kafka: KafkaConsole, moment: str | int | None) -> Plan:
    """Find everything that belongs to an application, and where its inputs are to begin.

    Raises:
        ConfigError: `moment` is given, and it is not known which inputs the application has.
        StateError: a state folder is in use.
    """
    name = config.application_id
    topics = {info.name: info for info in kafka.admin.topics()}
    plan = Plan(
        lineage=topics.get(names.lineage_topic(name)),
        journal=topics.get(names.reset_journal(name)),
        folders=folders_of(config),
    )
    history = read_history(kafka, [topic for topic in (plan.journal, plan.lineage) if topic])
    plan.generation = max(time.time_ns() // 1_000_000, history.generation + 1)
    plan.starts = list(history.starts.values())
    on_disk = [found for folder in plan.folders if (found := folder_program(folder))]
    programs = [*history.programs.values(), *on_disk]
    plan.topics, plan.left_alone = _own_topics(name, kafka, topics, programs)
    current = {t for p in (history.newest.values() or on_disk) for t in inputs_of(p)}
    _size(plan, config, topics, current)
    plan.groups = kafka.groups.existing([name, names.positions_group(name)])
    if (store := object_store(config)) is not None:
        plan.files = store.everything()
    if moment is not None:
        inputs = sorted({t for p in programs for t in inputs_of(p)} & topics.keys())
        if not inputs:
            raise ConfigError(
                f"it is not known what {name!r} reads, since it has never run or its lineage is "
                "gone: leave --to out, and set auto_offset_reset",
                "--to",
            )
        partitions = [
            (topic, number) for topic in inputs for number in range(topics[topic].partition_count)
        ]
        plan.first = _offsets(kafka, partitions, moment)
    return plan


def inputs_of(program: Manifest) -> set[str]:
    """The topics that a program reads and that are not its own."""
    return {topic for s in program.stages for topic, internal in s.inputs if not internal}


def _own_topics(
    name: str, kafka: KafkaConsole, topics: dict[str, TopicInfo], programs: list[Manifest]
) -> tuple[list[TopicInfo], list[str]]:
    """Internal and checkpoint topics; and names of topics that may belong to others."""
    own, others = [], []
    known = {t for p in programs for s in p.stages for t, internal in s.inputs if internal}
    for topic, info in topics.items():
        if topic == names.checkpoints_topic(name):
            own.append(info)
        elif topic in known or (topic.startswith(f"{name}-") and names.is_internal(topic)):
            # Ids may share a prefix, as `a` and `a-b`, and older versions did not keep the topics
            # of such applications apart: the writer's tag decides.
            tags = _writers(kafka, info)
            is_own = topic in known or names.is_internal_of(name, topic)
            if tags == {application_tag(name)} or (is_own and not tags):
                own.append(info)
            else:
                others.append(topic)
    return own, others


def _size(plan: Plan, config: Config, topics: dict[str, TopicInfo], inputs: set[str]) -> None:
    """Set the number of task groups that there were, and the lineage topic that is made."""
    kept = [topic for topic in (plan.lineage, plan.journal) if topic]
    # Each of these was made with as many partitions as the largest input had.
    old = [*kept, *plan.topics]
    read = [topics[topic] for topic in inputs & topics.keys()]
    plan.group_count = max((topic.partition_count for topic in [*old, *read]), default=0)
    if plan.group_count == 0:
        return
    # Where all inputs exist, the largest of them decides: it may have grown since.
    like = read if read and inputs <= topics.keys() else [*old, *read]
    count = max(topic.partition_count for topic in like)
    known = max(topic.replication_factor for topic in kept or like)
    replicas = config.internal_replication_factor or known
    settings = lineage_topic_config() | durable(replicas)
    plan.made = NewTopic(names.lineage_topic(config.application_id), count, replicas, settings)


def _writers(kafka: KafkaConsole, info: TopicInfo) -> set[int]:
    """Tags of the applications that wrote the first record of each partition."""
    tags: set[int] = set()
    for number in range(info.partition_count):
        for message in kafka.read({(info.name, number): -2}, uncommitted=True):
            tag = _tag_of(message)
            if tag is not None:
                tags.add(tag)
            break
    return tags


def _tag_of(message: Message) -> int | None:
    headers: Headers = []
    with suppress(RecordUnreadableError):
        headers = message.headers() or []
    for name, value in headers:
        with suppress(WireCorruptError):
            if name == IDENTITY_HEADER:
                return decode_identity(value or b"").application
            if name == MARKER_HEADER:
                return decode_marker(value or b"").application
    return None


def _offsets(
    kafka: KafkaConsole, partitions: list[Partition], moment: str | int
) -> dict[Partition, int]:
    if isinstance(moment, int):
        return kafka.admin.offsets_at(partitions, moment)
    if moment == "latest":
        return kafka.admin.stable_ends(partitions)
    return kafka.admin.start_offsets(partitions)


def object_store(config: Config) -> ObjectCheckpointStore | None:
    """The object store that the settings name; None: checkpoints are in Kafka or nowhere."""
    if config.checkpoint_store in ("topic", "none"):
        return None
    return open_store(config.checkpoint_store, config.application_id)
