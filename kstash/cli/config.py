"""`kstash config`: the settings in force, and where each comes from."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from kstash.cli.options import AsJson, Connection, connected
from kstash.cli.programs import SettingsOption, load_configured, overrides
from kstash.cli.tables import table_console
from kstash.escape import printable
from kstash.kafka.clients import check_client_settings
from kstash.settings.config import sources_of

app = typer.Typer(help="Show the settings.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Show the settings."""


@app.command("show")
@connected
def show(
    connection: Connection,
    program: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODULE:APP]",
            help="The program. Without it: the settings of commands that take an application id.",
            show_default=False,
        ),
    ] = None,
    settings: SettingsOption = None,
    as_json: AsJson = False,
) -> None:
    """Show the value of each setting and where it comes from; secrets are masked.

    Refuses settings that a start would refuse before it connects to Kafka. The first of these
    sources that has a value counts: command line, environment, file, program (code), default.
    """
    if program is None:
        config = connection.config(**overrides(settings, {}))
    else:
        config = load_configured(program, connection, settings).config
    check_client_settings(config.kafka)
    found = sources_of(config)
    if as_json:
        print(json.dumps([item.as_data() for item in found]))
        return
    table = Table("setting", "value", "from", box=None, pad_edge=False)
    for item in found:
        value = "none" if item.value is None else printable(str(item.value))
        value = value.lower() if isinstance(item.value, bool) else value
        origin = f"{item.origin}: {printable(item.place)}" if item.place else item.origin
        style = "dim" if item.origin == "default" else ""
        table.add_row(*(Text(text, style) for text in (item.setting, value, origin)))
    table_console().print(table)
