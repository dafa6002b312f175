"""`kstash verify`: an independent check of what an application left in Kafka."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.table import Table

from kstash.cli.options import Connection, connected
from kstash.cli.progress import bar, counted
from kstash.cli.tables import table_console
from kstash.core import names
from kstash.errors import CheckpointCorruptError, TopicMissingError
from kstash.escape import printable
from kstash.kafka import KafkaCluster
from kstash.kafka.console import KafkaConsole
from kstash.ports.kafka import Message, Partition
from kstash.process.launch import checkpoint_store
from kstash.settings.config import Config
from kstash.verify.bodies import Program
from kstash.verify.checks import Fetch, Report, SequenceCheck
from kstash.verify.formats import UnreadableError
from kstash.verify.lineage import LineageCheck

EXIT_FINDINGS = 1


@connected
def verify(
    connection: Connection,
    application_id: Annotated[str, typer.Argument(help="The App's id.", show_default=False)],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of tables.")
    ] = False,
    store: Annotated[
        str | None,
        typer.Option(
            "--checkpoint-store",
            metavar="STORE",
            help="Where remote checkpoints are: a value of the setting checkpoint_store. "
            "[default: KSTASH_CHECKPOINT_STORE or topic]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Check lineage, remote checkpoints and the outputs' sequence headers; changes nothing.

    Reports gaps, duplicates and unreadable records, with topic, partition and offset, and exits
    with 1 when it finds any. The application may run meanwhile. Records of transactional sinks
    carry no headers, and cannot be checked this way.
    """
    config = connection.config(application_id, checkpoint_store=store)
    with KafkaConsole(config.bootstrap_servers, config.kafka) as kafka, _store(config) as fetch:
        report = verify_application(config, kafka, fetch)
    if as_json:
        print(json.dumps(_as_data(report)))
    else:
        _show(report)
    if report.findings:
        raise typer.Exit(EXIT_FINDINGS)


@contextmanager
def _store(config: Config) -> Iterator[Fetch | None]:
    store = checkpoint_store(KafkaCluster(config), config)
    if store is None:
        yield None
        return

    def fetch(uri: str, size: int) -> Iterator[bytes]:
        try:
            yield from store.get(uri, size)
        except CheckpointCorruptError as error:
            raise UnreadableError(str(error)) from error

    try:
        yield fetch
    finally:
        store.close()


def verify_application(config: Config, kafka: KafkaConsole, fetch: Fetch | None) -> Report:
    """Check lineage, checkpoints and outputs.

    Raises:
        TopicMissingError: there is no lineage topic.
    """
    report = Report()
    topics = {info.name: info.partition_count for info in kafka.admin.topics()}
    lineage = names.lineage_topic(config.application_id)
    if lineage not in topics:
        raise TopicMissingError([lineage], "check the application id; it is made by the first run")
    programs = []
    for number in range(topics[lineage]):
        check = LineageCheck(report)
        _walk(kafka, (lineage, number), check.take, uncommitted=True)
        check.finish(fetch)
        programs += check.programs
    if not programs:
        report.notes.append("no START names any topic: outputs are not checked")
    tag = int.from_bytes(hashlib.blake2b(config.application_id.encode(), digest_size=8).digest())
    internal, sinks = _outputs(programs)
    for topic in sorted({*internal, *sinks}):
        if topic not in topics:
            report.notes.append(f"topic {topic} is gone: not checked")
        elif topic in sinks and sinks[topic] != "immediate":
            report.notes.append(f"topic {topic} is a {sinks[topic]} sink: it carries no headers")
        else:
            for number in range(topics[topic]):
                _examine_partition(kafka, report, tag, (topic, number), topic in internal)
    return report


def _outputs(
    programs: Sequence[Program],
) -> tuple[set[str], dict[str, str]]:
    """Internal topics of all programs, and sinks with their delivery in the newest one."""
    internal, sinks = set(), {}
    for program in programs:
        for stage in program["stages"]:
            for topic, is_internal, delivery in stage["outputs"]:
                if is_internal:
                    internal.add(topic)
                else:
                    sinks[topic] = delivery
    return internal, sinks


def _examine_partition(
    kafka: KafkaConsole, report: Report, tag: int, place: tuple[str, int], is_internal: bool
) -> None:
    is_whole = kafka.admin.start_offsets([place])[place] == 0
    check = SequenceCheck(tag, is_internal=is_internal, is_whole=is_whole, report=report)
    # Internal topics hold no transactions; on sinks plain readers see committed records only.
    _walk(kafka, place, check.take, uncommitted=is_internal)


def _walk(
    kafka: KafkaConsole, place: Partition, take: Callable[[Message], None], *, uncommitted: bool
) -> None:
    first = kafka.admin.start_offsets([place])[place]
    end = kafka.admin.stable_ends([place])[place]
    with bar(f"{place[0]} [{place[1]}]", end - first) as advance:
        for message in counted(kafka.read({place: -2}, uncommitted=uncommitted), advance):
            take(message)


def _as_data(report: Report) -> dict[str, object]:
    return {
        "findings": [finding.as_data() for finding in report.findings],
        "partitions": [
            {
                "topic": topic,
                "partition": number,
                "records": count,
                "dropped_by_readers": report.dropped[topic, number],
            }
            for (topic, number), count in sorted(report.records.items())
        ],
        "notes": report.notes,
    }


def _show(report: Report) -> None:
    console = table_console()
    found = {(f.topic, f.partition): 0 for f in report.findings}
    for finding in report.findings:
        found[finding.topic, finding.partition] += 1
    table = Table(
        "topic", "partition", "records", "dropped by readers", "findings", box=None, pad_edge=False
    )
    for place, count in sorted(report.records.items()):
        table.add_row(
            place[0],
            str(place[1]),
            str(count),
            str(report.dropped[place]),
            str(found.get(place, 0)),
        )
    console.print(table)
    for note in report.notes:
        console.print(f"note: {printable(note)}", markup=False)
    for finding in report.findings:
        console.print(
            f"{finding.kind}: {finding.topic}, partition {finding.partition}, offset "
            f"{finding.offset}: {printable(finding.detail)}",
            markup=False,
        )
    count = len(report.findings)
    console.print("everything is as it should be" if not count else f"{count} findings")
