"""`kstash topics`: create, list, check, read."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from kstash.cli.decode import RecordDecoder, as_text
from kstash.cli.options import AsJson, Connection, JsonLines, assignments, connected
from kstash.cli.tables import table_console
from kstash.cli.topic_check import check
from kstash.errors import TopicMissingError
from kstash.ports.kafka import NewTopic, TopicInfo

app = typer.Typer(help="Create, list, check and read topics.", no_args_is_help=True)
app.command("check")(check)

_BEGINNING, _END = -2, -1

INT16_MAX, INT32_MAX, INT64_MAX = 2**15 - 1, 2**31 - 1, 2**63 - 1
"""What Kafka's own fields take."""


class From(StrEnum):
    """Where reading starts."""

    BEGINNING = "beginning"
    END = "end"


@app.command("create")
@connected
def create(
    connection: Connection,
    names: Annotated[list[str], typer.Argument(metavar="TOPIC...", show_default=False)],
    partitions: Annotated[int, typer.Option("--partitions", "-p", min=1, max=INT32_MAX)] = 1,
    replication_factor: Annotated[
        int | None,
        typer.Option(min=1, max=INT16_MAX, help="[default: the cluster's]", show_default=False),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A topic setting, as retention.ms=-1."),
    ] = None,
) -> None:
    """Create topics; a topic that exists with that many partitions is left as it is."""
    config = assignments(settings or [], "--set")
    topics = [NewTopic(name, partitions, replication_factor, config) for name in names]
    with connection.kafka() as kafka:
        existing = kafka.admin.create(topics)
        is_right = True
        for name in names:
            if name not in existing:
                print(f"created {name} ({partitions} partitions)")
            elif (found := kafka.admin.partition_count(name)) == partitions:
                print(f"{name} exists ({found} partitions)")
            else:
                print(
                    f"{name} exists with {found} partitions, not {partitions}: a topic's records "
                    "are spread by their number, so take another name",
                    file=sys.stderr,
                )
                is_right = False
    if not is_right:
        raise typer.Exit(1)


@app.command("list")
@connected
def list_topics(
    connection: Connection,
    as_json: AsJson = False,
) -> None:
    """List all topics but Kafka's own."""
    with connection.kafka() as kafka:
        topics = kafka.admin.topics()
    if as_json:
        print(json.dumps([_as_data(topic) for topic in topics]))
        return
    table = Table("topic", "partitions", "replicas", box=None, pad_edge=False)
    for topic in topics:
        table.add_row(topic.name, str(topic.partition_count), str(topic.replication_factor))
    table_console().print(table)


def _as_data(topic: TopicInfo) -> dict[str, object]:
    return {
        "topic": topic.name,
        "partitions": topic.partition_count,
        "replicas": topic.replication_factor,
    }


@app.command("read")
@connected
def read(
    connection: Connection,
    topic: Annotated[str, typer.Argument(help="Topic to read.", show_default=False)],
    partitions: Annotated[
        list[int] | None,
        typer.Option(
            "--partition", "-p", min=0, max=INT32_MAX, help="Only this one. [default: all]"
        ),
    ] = None,
    start: Annotated[From, typer.Option("--from", help="Where to start.")] = From.BEGINNING,
    offset: Annotated[
        int | None,
        typer.Option(
            min=0, max=INT64_MAX, help="Start at this offset instead.", show_default=False
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", min=1, help="Stop after so many.", show_default=False),
    ] = None,
    uncommitted: Annotated[
        bool, typer.Option(help="Also records of open and aborted transactions.")
    ] = False,
    headers: Annotated[bool, typer.Option(help="Show headers, lineage decoded.")] = False,
    as_json: JsonLines = False,
) -> None:
    """Print a topic's records; frames of kstash's internal topics are taken apart.

    A line is PARTITION:OFFSET, key and value, with tabs between. Records that the reader rule
    drops, because another incarnation or an earlier copy counts, are marked with !.
    """
    decoder = RecordDecoder()
    count = 0
    with connection.kafka() as kafka:
        available = range(kafka.admin.partition_count(topic))
        wanted = partitions or available
        missing = [partition for partition in wanted if partition not in available]
        if missing:
            raise TopicMissingError([f"{topic}, partition {missing[0]}"])
        first = offset if offset is not None else _BEGINNING
        if offset is None and start is From.END:
            first = _END
        places = {(topic, partition): first for partition in wanted}
        for message in kafka.read(places, follow=follow, uncommitted=uncommitted):
            for shown in decoder.decode(message):
                if as_json:
                    print(json.dumps(shown))
                else:
                    print(as_text(shown, with_headers=headers))
                count += 1
                if count == limit:
                    return
            if follow:
                sys.stdout.flush()
