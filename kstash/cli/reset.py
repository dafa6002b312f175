"""`kstash reset`: forget everything that an application knows, and let it start afresh.

Order: first a journal is written, a topic that holds what a second run must know when the lineage
topic is gone. While the journal exists no worker starts, and a reset that was cut short is done
again as a whole. Then the lineage topic is deleted, and everything else after it; then the new
lineage topic is made, and the journal is deleted last.

A worker that has lost its membership may be asleep, and wake up later. What it then writes into the
new topics counts for nothing (protocol, H46), and its sinks are fenced here, after the deletion of
what it could claim again.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from kstash.cli.lineage_history import records
from kstash.cli.options import Connection, DryRun, connected
from kstash.cli.programs import Application, config_of
from kstash.cli.progress import Advance, bar
from kstash.cli.reset_plan import Plan, make_plan, object_store
from kstash.core import names
from kstash.core.record_codec import encode_value
from kstash.core.record_keys import encode_key
from kstash.core.records import Generation
from kstash.errors import (
    ApplicationRunningError,
    ConfigError,
    StateError,
)
from kstash.escape import printable
from kstash.kafka.console import KafkaConsole
from kstash.kafka.fencing import fence
from kstash.ports.kafka import NewTopic
from kstash.settings.config import Config
from kstash.startup.members import wait_until_stopped
from kstash.startup.topic_settings import durable, internal_topic_config

FENCED_TOGETHER = 64
DELETED_TOGETHER = 1000


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
            "as 2026-01-01T00:00Z. [default: auto_offset_reset]",
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
    The command waits for workers that were just stopped until their sessions have timed out
    (KSTASH_SESSION_TIMEOUT_MS, or the setting of MODULE:APP); after that a worker that still runs
    is an error. Folders on other machines must be deleted there. Checkpoints in an object store are
    deleted when the settings name it (KSTASH_CHECKPOINT_STORE, or MODULE:APP).
    """
    config = config_of(application, connection, state_dir)
    moment = None if to is None else parse_moment(to)
    with KafkaConsole(config.bootstrap_servers, config.kafka) as kafka:
        # Before anything is read: workers that are about to stop still write.
        wait_until_stopped(config, kafka.groups.members, report_wait)
        plan = make_plan(config, kafka, moment)
        for line in plan_lines(plan, config, is_dry=dry_run):
            print(line)
        if not dry_run and plan.has_any:
            carry_out(plan, config, kafka)


def report_wait(members: list[str], wait_s: float) -> None:
    """Print which members the command waits for, and for how long."""
    names = printable(", ".join(members))
    print(
        f"waiting up to {wait_s:g} s for {names} to leave the group: a worker that was stopped or "
        "killed stays a member until its session has timed out",
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


def plan_lines(plan: Plan, config: Config, *, is_dry: bool) -> Iterable[str]:
    """One line for each thing that is, or would be, deleted or made."""
    application_id = config.application_id
    verb = "would delete" if is_dry else "delete"
    topics = [*([plan.lineage] if plan.lineage else []), *plan.topics]
    if plan.journal is not None:
        yield f"a reset was cut short, as {plan.journal.name} shows: it is done again"
    for topic in topics:
        yield f"{verb} topic {topic.name} ({topic.partition_count} partitions)"
    for group in plan.groups:
        yield f"{verb} consumer group {group} with its offsets"
    for folder in plan.folders:
        yield f"{verb} folder {folder}"
    if plan.files:
        below = f"{config.checkpoint_store.rstrip('/')}/{application_id}/"
        yield f"{verb} {len(plan.files)} files below {below}"
    for topic_name in plan.left_alone:
        yield f"leave topic {topic_name} alone: it is not of {application_id} alone"
    if plan.made is not None:
        verb = "would make" if is_dry else "make"
        yield f"{verb} topic {plan.made.name} anew, generation {plan.generation}"
    for (topic_name, number), offset in sorted(plan.first.items()):
        yield f"input {topic_name} begins at offset {offset} of partition {number}"
    if not plan.has_any:
        yield f"there is nothing of {application_id} here: is the application id right?"


def carry_out(plan: Plan, config: Config, kafka: KafkaConsole) -> None:
    """Delete and make what the plan lists. After a failure it can be done again.

    Raises:
        StateError: a folder cannot be deleted.
        CheckpointStoreError: the object store does not answer.
        ClusterError: the cluster refuses something.
    """
    journal = names.reset_journal(config.application_id)
    if plan.made is not None:
        _write_journal(plan, journal, plan.made.replication_factor or 0, kafka)
    transactional_ids = [
        names.transactional_id(config.application_id, group, slot)
        for group in range(plan.group_count)
        for slot in (0, 1)
    ]
    steps = len(plan.topics) + len(plan.folders) + len(plan.files) + len(transactional_ids)
    with bar(f"reset {config.application_id}", steps) as advance:
        _delete(plan, config, kafka, advance)
        for first in range(0, len(transactional_ids), FENCED_TOGETHER):
            some = transactional_ids[first : first + FENCED_TOGETHER]
            fence({**config.kafka, "bootstrap.servers": config.bootstrap_servers}, some)
            advance(len(some))
    if plan.made is not None:
        _make_lineage(plan, plan.made, config, kafka)
        kafka.admin.delete_topics([journal])
    print(f"reset: {config.application_id} starts afresh")


def _delete(plan: Plan, config: Config, kafka: KafkaConsole, advance: Advance) -> None:
    if plan.lineage is not None:
        kafka.admin.delete_topics([plan.lineage.name])
    kafka.admin.delete_topics([topic.name for topic in plan.topics])
    advance(len(plan.topics))
    kafka.groups.delete(plan.groups)
    for folder in plan.folders:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise StateError(f"cannot be deleted: {error}", str(folder)) from error
        advance(1)
    if (store := object_store(config)) is not None:
        for first in range(0, len(plan.files), DELETED_TOGETHER):
            some = plan.files[first : first + DELETED_TOGETHER]
            store.delete(some)
            advance(len(some))


def _write_journal(plan: Plan, journal: str, replicas: int, kafka: KafkaConsole) -> None:
    """Write what a second run must know: groups, generation, programs. Each run appends its own."""
    count = plan.group_count if plan.journal is None else plan.journal.partition_count
    # Neither compacted nor purged: STARTs of two incarnations may have the same key.
    settings = internal_topic_config() | durable(replicas)
    kafka.admin.create([NewTopic(journal, count, replicas, settings)])
    for number, key, value in plan.starts:
        kafka.send(journal, number % count, key, value)
    record = Generation(os.urandom(16), plan.generation)
    kafka.send(journal, 0, encode_key(record), encode_value(record))
    kafka.flush()


def _make_lineage(plan: Plan, made: NewTopic, config: Config, kafka: KafkaConsole) -> None:
    kafka.admin.create([made])
    for number in range(made.partition_count):
        first = tuple(
            (topic, offset)
            for (topic, part), offset in sorted(plan.first.items())
            if part == number
        )
        record = Generation(os.urandom(16), plan.generation, first)
        kafka.send(made.name, number, encode_key(record), encode_value(record))
    kafka.flush()
    # A worker that was asleep may have woken up and written its own generation first.
    for number in range(made.partition_count):
        for _, found in records(kafka, {(made.name, number): -2}):
            if isinstance(found, Generation):
                if found.generation != plan.generation:
                    raise ApplicationRunningError(config.application_id, [f"of group {number}"])
                break
