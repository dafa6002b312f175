"""`kstash reset`: forget everything that an application knows, and let it start afresh.

Order: the journal comes first, a topic with what a second run must know once the lineage topic is
gone. While it exists no worker starts, and a reset that was cut short is done again as a whole.
Then the lineage topic goes, all else after it; the new one is made then, and the journal goes last.

A worker that is no member any more may be asleep, and wake up later: what it then writes into the
topics that were made anew counts for nothing (protocol, H46), and its sinks are fenced here, behind
the deletion of what it could claim again.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from kstash.cli.folders import folder_program, folders_of
from kstash.cli.options import Connection, DryRun, connected
from kstash.cli.past import read_past, records
from kstash.cli.programs import Application, config_of
from kstash.cli.progress import Advance, bar
from kstash.core import names
from kstash.core.program import Program
from kstash.core.records import Generation, encode_key, encode_value
from kstash.core.wire import (
    IDENTITY_HEADER,
    MARKER_HEADER,
    application_tag,
    decode_identity,
    decode_marker,
)
from kstash.errors import (
    ApplicationRunningError,
    ConfigError,
    RecordUnreadableError,
    StateError,
    WireCorruptError,
)
from kstash.escape import printable
from kstash.kafka.maintenance import Upkeep
from kstash.kafka.tools import KafkaTools
from kstash.ports.kafka import Headers, Message, NewTopic, Partition, TopicInfo
from kstash.process.launch import SESSION_MARGIN_S
from kstash.settings.config import Config
from kstash.startup.topic_settings import internal_topic_config, lineage_topic_config
from kstash.stores.objects import ObjectCheckpointStore, open_store

FENCED_TOGETHER = 64
DELETED_TOGETHER = 1000


@dataclass(slots=True)
class Plan:
    """What a reset deletes, and what it makes.

    Attributes:
        lineage: the lineage topic, when it exists.
        journal: of a reset that was cut short, when it exists.
        starts: (partition, key, value) of a START of each program that ever ran: for the journal.
        group_count: task groups that the application had, as far as anything tells; 0: none.
        made: the lineage topic as it is made; None when nothing tells that the application ran.
        topics: all others to delete.
        groups: consumer groups to delete.
        folders: state folders to delete.
        files: locations in the object store to delete.
        generation: of the new lineage topic, in Unix ms: above the old one.
        first: where inputs begin; empty: where `auto_offset_reset` says.
        left_alone: topics whose names look like the application's, and that are not known to be.
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


@connected
def reset(
    connection: Connection,
    application: Application,
    dry_run: DryRun = False,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE",
            help="Where the inputs begin afterwards: earliest, latest (as of now), or a time such "
            "as 2026-01-01T00:00Z. [default: as auto_offset_reset says]",
            show_default=False,
        ),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Folder of the local state. [default: KSTASH_STATE_DIR or kstash-state]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Delete what an application knows: its internal topics, lineage, checkpoints, offsets, state.

    Inputs and outputs are never touched. Afterwards the application starts as if it had never run,
    with a new generation, so that readers take its outputs, which are made again, for new ones.
    Workers that were just stopped are waited for until their sessions have timed out, as
    KSTASH_SESSION_TIMEOUT_MS or MODULE:APP says; one that runs is refused behind that.
    Folders on other machines must be deleted there. Checkpoints in an object store are deleted when
    the settings name it (KSTASH_CHECKPOINT_STORE, or MODULE:APP).
    """
    config = config_of(application, connection, state_dir)
    moment = None if to is None else parse_moment(to)
    upkeep = Upkeep(config.bootstrap_servers, config.kafka)
    # Before anything is looked at: what workers leave behind is not all there while they stop.
    wait_s = config.session_timeout_ms / 1000 + SESSION_MARGIN_S
    upkeep.wait_for_stop(config.application_id, wait_s, lambda names: tell_wait(names, wait_s))
    with KafkaTools(config.bootstrap_servers, config.kafka) as tools:
        plan = make_plan(config, tools, upkeep, moment)
        for line in describe(plan, config, is_dry=dry_run):
            print(line)
        if not dry_run and plan.has_any:
            carry_out(plan, config, tools, upkeep)


def tell_wait(members: list[str], wait_s: float) -> None:
    """Say who is waited for, and for how long."""
    who = printable(", ".join(members))
    print(
        f"waiting up to {wait_s:g} s for {who} to leave the group: a worker that was stopped or "
        "killed keeps its place until its session has timed out",
        file=sys.stderr,
    )


def parse_moment(text: str) -> str | int:
    """`earliest`, `latest`, or Unix ms of an ISO time; without a zone it is UTC.

    Raises:
        ConfigError: it is none of these.
    """
    if text in ("earliest", "latest"):
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--to takes earliest, latest or a time such as 2026-01-01T00:00Z, not {text!r}", "--to"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


# --- what there is ------------------------------------------------------------------------------


def make_plan(config: Config, tools: KafkaTools, upkeep: Upkeep, moment: str | int | None) -> Plan:
    """Find everything that belongs to an application, and where its inputs are to begin.

    Raises:
        ConfigError: `moment` is given, and nothing says which inputs the application has.
        StateError: a state folder is in use.
    """
    name = config.application_id
    topics = {info.name: info for info in tools.topics()}
    plan = Plan(
        lineage=topics.get(names.lineage_topic(name)),
        journal=topics.get(names.reset_journal(name)),
        folders=folders_of(config),
    )
    past = read_past(tools, [topic for topic in (plan.journal, plan.lineage) if topic])
    plan.generation = max(time.time_ns() // 1_000_000, past.generation + 1)
    plan.starts = list(past.starts.values())
    on_disk = [found for folder in plan.folders if (found := folder_program(folder))]
    programs = [*past.programs.values(), *on_disk]
    plan.topics, plan.left_alone = _own_topics(name, tools, topics, programs)
    current = {t for p in (past.newest.values() or on_disk) for t in _inputs(p)}
    _size(plan, config, topics, current)
    plan.groups = upkeep.groups([name, names.positions_group(name)])
    if (store := _object_store(config)) is not None:
        plan.files = store.everything()
    if moment is not None:
        inputs = sorted({t for p in programs for t in _inputs(p)} & topics.keys())
        if not inputs:
            raise ConfigError(
                f"nothing says what {name!r} reads, since it has never run or its lineage is gone: "
                "leave --to out, and set auto_offset_reset",
                "--to",
            )
        partitions = [
            (topic, number) for topic in inputs for number in range(topics[topic].partition_count)
        ]
        plan.first = _offsets(tools, upkeep, partitions, moment)
    return plan


def _inputs(program: Program) -> set[str]:
    return {topic for s in program.stages for topic, internal in s.inputs if not internal}


def _own_topics(
    name: str, tools: KafkaTools, topics: dict[str, TopicInfo], programs: list[Program]
) -> tuple[list[TopicInfo], list[str]]:
    """Internal and checkpoint topics; and names of those that only look so."""
    own, others = [], []
    known = {t for p in programs for s in p.stages for t, internal in s.inputs if internal}
    for topic, info in topics.items():
        if topic == names.checkpoints_topic(name):
            own.append(info)
        elif topic in known or (topic.startswith(f"{name}-") and names.is_internal(topic)):
            # Another application may be called alike, `a` and `a-b`, and older versions did not
            # keep their topics apart.
            tags = _writers(tools, info)
            is_own = topic in known or names.is_internal_of(name, topic)
            if tags == {application_tag(name)} or (is_own and not tags):
                own.append(info)
            else:
                others.append(topic)
    return own, others


def _size(plan: Plan, config: Config, topics: dict[str, TopicInfo], inputs: set[str]) -> None:
    """How many task groups there were, and the lineage topic for those that there will be."""
    kept = [topic for topic in (plan.lineage, plan.journal) if topic]
    # Each was made with as many partitions as the largest input had.
    old = [*kept, *plan.topics]
    read = [topics[topic] for topic in inputs & topics.keys()]
    plan.group_count = max((topic.partition_count for topic in [*old, *read]), default=0)
    if plan.group_count == 0:
        return
    # Of inputs that are all there the largest counts now: it may have grown since.
    like = read if read and inputs <= topics.keys() else [*old, *read]
    count = max(topic.partition_count for topic in like)
    known = max(topic.replication_factor for topic in kept or like)
    replicas = config.internal_replication_factor or known
    settings = lineage_topic_config() | _durable(replicas)
    plan.made = NewTopic(names.lineage_topic(config.application_id), count, replicas, settings)


def _durable(replicas: int) -> dict[str, str]:
    return {"min.insync.replicas": "2"} if replicas >= 3 else {}


def _writers(tools: KafkaTools, info: TopicInfo) -> set[int]:
    """Tags of the applications that wrote the first record of each partition."""
    tags: set[int] = set()
    for number in range(info.partition_count):
        for message in tools.read({(info.name, number): -2}, uncommitted=True):
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
    tools: KafkaTools, upkeep: Upkeep, partitions: list[Partition], moment: str | int
) -> dict[Partition, int]:
    if isinstance(moment, int):
        return upkeep.offsets_at(partitions, moment)
    return tools.offsets(partitions, is_end=moment == "latest")


def _object_store(config: Config) -> ObjectCheckpointStore | None:
    if config.checkpoint_store in ("topic", "none"):
        return None
    return open_store(config.checkpoint_store, config.application_id)


# --- what is done -------------------------------------------------------------------------------


def describe(plan: Plan, config: Config, *, is_dry: bool) -> Iterable[str]:
    """One line for each thing that is, or would be, deleted or made."""
    application_id = config.application_id
    verb = "would delete" if is_dry else "delete"
    topics = [*([plan.lineage] if plan.lineage else []), *plan.topics]
    if plan.journal is not None:
        yield f"a reset was cut short, of which {plan.journal.name} tells: it is done again"
    for topic in topics:
        yield f"{verb} topic {topic.name} ({topic.partition_count} partitions)"
    for group in plan.groups:
        yield f"{verb} consumer group {group} with its offsets"
    for folder in plan.folders:
        yield f"{verb} folder {folder}"
    if plan.files:
        place = f"{config.checkpoint_store.rstrip('/')}/{application_id}/"
        yield f"{verb} {len(plan.files)} files below {place}"
    for topic_name in plan.left_alone:
        yield f"leave topic {topic_name} alone: it is not of {application_id} alone"
    if plan.made is not None:
        verb = "would make" if is_dry else "make"
        yield f"{verb} topic {plan.made.name} anew, generation {plan.generation}"
    for (topic_name, number), offset in sorted(plan.first.items()):
        yield f"input {topic_name} begins at offset {offset} of partition {number}"
    if not plan.has_any:
        yield f"there is nothing of {application_id} here: is the application id right?"


def carry_out(plan: Plan, config: Config, tools: KafkaTools, upkeep: Upkeep) -> None:
    """Delete and make what the plan says. After a failure it can be done again.

    Raises:
        StateError: a folder cannot be deleted.
        CheckpointStoreError: the object store does not answer.
        ClusterError: the cluster refuses something.
    """
    journal = names.reset_journal(config.application_id)
    if plan.made is not None:
        _write_journal(plan, journal, plan.made.replication_factor or 0, tools)
    transactional_ids = [
        names.transactional_id(config.application_id, group, slot)
        for group in range(plan.group_count)
        for slot in (0, 1)
    ]
    steps = len(plan.topics) + len(plan.folders) + len(plan.files) + len(transactional_ids)
    with bar(f"reset {config.application_id}", steps) as advance:
        _delete(plan, config, upkeep, advance)
        for first in range(0, len(transactional_ids), FENCED_TOGETHER):
            some = transactional_ids[first : first + FENCED_TOGETHER]
            upkeep.fence(some)
            advance(len(some))
    if plan.made is not None:
        _make_lineage(plan, plan.made, config, tools)
        upkeep.delete_topics([journal])
    print(f"reset: {config.application_id} starts afresh")


def _delete(plan: Plan, config: Config, upkeep: Upkeep, advance: Advance) -> None:
    if plan.lineage is not None:
        upkeep.delete_topics([plan.lineage.name])
    upkeep.delete_topics([topic.name for topic in plan.topics])
    advance(len(plan.topics))
    upkeep.delete_groups(plan.groups)
    for folder in plan.folders:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise StateError(f"cannot be deleted: {error}", str(folder)) from error
        advance(1)
    if (store := _object_store(config)) is not None:
        for first in range(0, len(plan.files), DELETED_TOGETHER):
            some = plan.files[first : first + DELETED_TOGETHER]
            store.delete(some)
            advance(len(some))


def _write_journal(plan: Plan, journal: str, replicas: int, tools: KafkaTools) -> None:
    """What a second run must know: groups, generation, programs. Each run appends its own."""
    count = plan.group_count if plan.journal is None else plan.journal.partition_count
    # Neither compacted nor purged: STARTs of two lives may have the same key.
    settings = internal_topic_config() | _durable(replicas)
    tools.create([NewTopic(journal, count, replicas, settings)])
    for number, key, value in plan.starts:
        tools.send(journal, number % count, key, value)
    record = Generation(os.urandom(16), plan.generation)
    tools.send(journal, 0, encode_key(record), encode_value(record))
    tools.flush()


def _make_lineage(plan: Plan, made: NewTopic, config: Config, tools: KafkaTools) -> None:
    tools.create([made])
    for number in range(made.partition_count):
        first = tuple(
            (topic, offset)
            for (topic, part), offset in sorted(plan.first.items())
            if part == number
        )
        record = Generation(os.urandom(16), plan.generation, first)
        tools.send(made.name, number, encode_key(record), encode_value(record))
    tools.flush()
    # A worker that is asleep and wakes up here may have been faster, with what it knows.
    for number in range(made.partition_count):
        for _, found in records(tools, {(made.name, number): -2}):
            if isinstance(found, Generation):
                if found.generation != plan.generation:
                    raise ApplicationRunningError(config.application_id, [f"of group {number}"])
                break
