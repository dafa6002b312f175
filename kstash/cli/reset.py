"""`kstash reset`: forget everything that an application knows, and let it start afresh.

Order of deletion: the lineage topic goes first, so that whatever a crash leaves behind is refused
by the next start instead of being taken for its own; the new one is made when all else is gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from kstash.cli.options import BootstrapServers
from kstash.cli.programs import load_app
from kstash.config import Config
from kstash.core.program import Program, program_of
from kstash.core.records import Config as Generation
from kstash.core.records import Start, decode_record, encode_key, encode_value
from kstash.core.wire import (
    IDENTITY_HEADER,
    MARKER_HEADER,
    application_tag,
    decode_identity,
    decode_marker,
)
from kstash.errors import ApplicationRunningError, ConfigError, StateError, WireCorruptError
from kstash.kafka.tools import KafkaTools
from kstash.kafka.topics import lineage_topic_config
from kstash.kafka.upkeep import Upkeep
from kstash.objects import ObjectCheckpointStore, open_store
from kstash.ports import Message, NewTopic, Partition, TopicInfo
from kstash.state.folder import LOCK_FILE, METADATA_FILE


@dataclass(slots=True)
class Plan:
    """What a reset deletes, and what it makes.

    Attributes:
        lineage: the lineage topic, when it exists.
        topics: all others to delete.
        groups: consumer groups to delete.
        folders: state folders to delete.
        files: locations in the object store to delete.
        generation: of the new lineage topic, in Unix ms: above the old one.
        first: where inputs begin; empty: where `auto_offset_reset` says.
        left_alone: topics whose names look like the application's, and that are not known to be.
    """

    lineage: TopicInfo | None = None
    topics: list[TopicInfo] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    generation: int = 0
    first: dict[Partition, int] = field(default_factory=dict)
    left_alone: list[str] = field(default_factory=list)


def reset(
    application: Annotated[
        str,
        typer.Argument(
            metavar="APPLICATION",
            help="The application's id, or MODULE:APP, whose settings are then used.",
            show_default=False,
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would be deleted.")
    ] = False,
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
    bootstrap_servers: BootstrapServers = None,
) -> None:
    """Delete what an application knows: its internal topics, lineage, checkpoints, offsets, state.

    Inputs and outputs are never touched. Afterwards the application starts as if it had never run,
    with a new generation, so that readers take its outputs, which are made again, for new ones.
    Folders on other machines must be deleted there. Checkpoints in an object store are deleted when
    the settings name it (KSTASH_CHECKPOINT_STORE, or MODULE:APP).
    """
    config = _config(application, bootstrap_servers, state_dir)
    moment = None if to is None else parse_moment(to)
    upkeep = Upkeep(config.bootstrap_servers, config.kafka)
    if members := upkeep.members(config.application_id):
        raise ApplicationRunningError(config.application_id, members)
    with KafkaTools(config.bootstrap_servers, config.kafka) as tools:
        plan = make_plan(config, tools, upkeep, moment)
        for line in describe(plan, config, is_dry=dry_run):
            print(line)
        if not dry_run:
            carry_out(plan, config, tools, upkeep)


def _config(application: str, bootstrap_servers: str | None, state_dir: Path | None) -> Config:
    given: dict[str, Any] = {}
    if bootstrap_servers is not None:
        given["bootstrap_servers"] = bootstrap_servers
    if state_dir is not None:
        given["state_dir"] = str(state_dir)
    if ":" in application:
        return load_app(application).config.override(**given)
    return Config.load(application_id=application, **given)


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
    plan = Plan(lineage=topics.get(f"{name}-lineage"), folders=_folders(config))
    programs = [found for folder in plan.folders if (found := _folder_program(folder))]
    generation = 0
    if plan.lineage is not None:
        generation, said = _read_lineage(tools, plan.lineage)
        programs = [*said, *programs]
    plan.generation = max(time.time_ns() // 1_000_000, generation + 1)
    known = {t for p in programs for s in p.stages for t, internal in s.inputs if internal}
    for topic, info in topics.items():
        if topic == f"{name}-checkpoints" or topic in known:
            plan.topics.append(info)
        elif topic.startswith(f"{name}-") and topic.endswith("-repartition"):
            # Another application may be called alike: `a` and `a-b`.
            if _is_written_by(tools, info, application_tag(name)):
                plan.topics.append(info)
            else:
                plan.left_alone.append(topic)
    plan.groups = upkeep.groups([name, f"{name}-positions"])
    if (store := _object_store(config)) is not None:
        plan.files = store.everything()
    if moment is not None:
        inputs = {t for p in programs for s in p.stages for t, internal in s.inputs if not internal}
        if not inputs:
            raise ConfigError(
                f"nothing says what {name!r} reads, since it has never run or its lineage is gone: "
                "leave --to out, and set auto_offset_reset",
                "--to",
            )
        partitions = [
            (topic, number)
            for topic in sorted(inputs & topics.keys())
            for number in range(topics[topic].partition_count)
        ]
        plan.first = _offsets(tools, upkeep, partitions, moment)
    return plan


def _read_lineage(tools: KafkaTools, info: TopicInfo) -> tuple[int, list[Program]]:
    """Highest generation, and all programs that ever started; what does not decode is passed."""
    generation, texts = 0, {}
    places = {(info.name, number): -2 for number in range(info.partition_count)}
    for message in tools.read(places, uncommitted=True):
        if message.value() is None:
            continue
        with suppress(WireCorruptError):
            record = decode_record(message.key() or b"", message.value() or b"")
            if isinstance(record, Generation):
                generation = max(generation, record.generation)
            elif isinstance(record, Start):
                generation = max(generation, record.incarnation.generation)
                program = program_of(record.settings)
                if program is not None:
                    texts[program.encode()] = program
    return generation, list(texts.values())


def _is_written_by(tools: KafkaTools, info: TopicInfo, tag: int) -> bool:
    """Whether the first record of any partition carries the application's tag."""
    for number in range(info.partition_count):
        for message in tools.read({(info.name, number): -2}, uncommitted=True):
            if _tag_of(message) == tag:
                return True
            break
    return False


def _tag_of(message: Message) -> int | None:
    for name, value in message.headers() or ():
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


def _folders(config: Config) -> list[Path]:
    """State folders here, those of supervised workers too; none of them may be in use."""
    parent, name = Path(config.state_dir), quote(config.application_id, safe="")
    found = [parent / name, *sorted(parent.glob(f"worker-*/{name}"))]
    folders = [path for path in found if path.is_dir()]
    for folder in folders:
        _check_unused(folder)
    return folders


def _object_store(config: Config) -> ObjectCheckpointStore | None:
    if config.checkpoint_store in ("topic", "none"):
        return None
    return open_store(config.checkpoint_store, config.application_id)


def _check_unused(folder: Path) -> None:
    with suppress(FileNotFoundError):
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError("the folder is in use: stop the worker", str(folder)) from None
        finally:
            os.close(descriptor)


def _folder_program(folder: Path) -> Program | None:
    with suppress(OSError, ValueError, KeyError, TypeError, WireCorruptError):
        metadata = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
        return Program.decode(json.dumps(metadata["program"]))
    return None


# --- what is done -------------------------------------------------------------------------------


def describe(plan: Plan, config: Config, *, is_dry: bool) -> Iterable[str]:
    """One line for each thing that is, or would be, deleted or made."""
    application_id = config.application_id
    verb = "would delete" if is_dry else "delete"
    topics = [*([plan.lineage] if plan.lineage else []), *plan.topics]
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
        yield f"leave topic {topic_name} alone: nothing in it is of {application_id}"
    if plan.lineage is not None:
        verb = "would make" if is_dry else "make"
        yield f"{verb} topic {plan.lineage.name} anew, generation {plan.generation}"
    for (topic_name, number), offset in sorted(plan.first.items()):
        yield f"input {topic_name} begins at offset {offset} of partition {number}"
    if not (topics or plan.groups or plan.folders or plan.files):
        yield f"there is nothing of {application_id} here"


def carry_out(plan: Plan, config: Config, tools: KafkaTools, upkeep: Upkeep) -> None:
    """Delete and make what the plan says. After a failure it can be done again.

    Raises:
        StateError: a folder cannot be deleted.
        CheckpointStoreError: the object store does not answer.
        ClusterError: the cluster refuses something.
    """
    if plan.lineage is not None:
        upkeep.delete_topics([plan.lineage.name])
    upkeep.delete_topics([topic.name for topic in plan.topics])
    upkeep.delete_groups(plan.groups)
    for folder in plan.folders:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise StateError(f"cannot be deleted: {error}", str(folder)) from error
    if (store := _object_store(config)) is not None:
        store.delete(plan.files)
    if plan.lineage is not None:
        _make_lineage(plan, plan.lineage, config, tools)
    print(f"reset: {config.application_id} starts afresh")


def _make_lineage(plan: Plan, old: TopicInfo, config: Config, tools: KafkaTools) -> None:
    replicas = config.internal_replication_factor or old.replication_factor
    durable = {"min.insync.replicas": "2"} if replicas >= 3 else {}
    settings = lineage_topic_config() | durable
    tools.create([NewTopic(old.name, old.partition_count, replicas, settings)])
    for number in range(old.partition_count):
        first = tuple(
            (topic, offset)
            for (topic, part), offset in sorted(plan.first.items())
            if part == number
        )
        record = Generation(os.urandom(16), plan.generation, first)
        tools.send(old.name, number, encode_key(record), encode_value(record))
    tools.flush()
