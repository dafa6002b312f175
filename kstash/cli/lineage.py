"""`kstash lineage`: what an application's lineage topic holds."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from kstash.cli.decode import lineage_entry
from kstash.cli.options import Connection, JsonLines, connected
from kstash.core import names
from kstash.errors import TopicMissingError
from kstash.escape import printable

app = typer.Typer(help="Show the lineage of an application.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Show the lineage of an application."""


@app.command("show")
@connected
def show(
    connection: Connection,
    application_id: Annotated[str, typer.Argument(help="The App's id.", show_default=False)],
    group: Annotated[
        int | None, typer.Option(min=0, help="Only this task group.", show_default=False)
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    as_json: JsonLines = False,
) -> None:
    """Print every record of the lineage topic, decoded: GROUP:OFFSET, its kind, its fields."""
    topic = names.lineage_topic(application_id)
    with connection.kafka() as kafka:
        if topic not in {info.name for info in kafka.admin.topics()}:
            raise TopicMissingError(
                [topic], "check the application id; it is made by the first run"
            )
        available = range(kafka.admin.partition_count(topic))
        if group is not None and group not in available:
            raise TopicMissingError([f"{topic}, partition {group}"], "take a lower --group")
        groups = available if group is None else [group]
        # Lineage is not transactional: reading uncommitted never waits for an open transaction.
        places = {(topic, number): -2 for number in groups}
        for message in kafka.read(places, follow=follow, uncommitted=True):
            entry = lineage_entry(message)
            if as_json:
                print(json.dumps(entry), flush=follow)
            else:
                print(as_line(entry), flush=follow)


def as_line(entry: dict[str, Any]) -> str:
    """One lineage record as a line."""
    rest = " ".join(
        printable(f"{name}={value}")
        for name, value in entry.items()
        if name not in {"group", "offset", "kind"} and value not in ({}, [], None)
    )
    return f"{entry['group']}:{entry['offset']}\t{str(entry['kind']).upper()}\t{rest}"
