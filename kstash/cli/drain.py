"""`kstash drain`: finish what is in flight, checkpoint everything, stop."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kstash.cli.options import Connection, connected
from kstash.cli.programs import Program, SettingsOption, load_configured


@connected
def drain(
    connection: Connection,
    program: Program,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="As for `kstash run`, if the application ran with it: its workers have state "
            "folders of their own.",
            show_default=False,
        ),
    ] = None,
    settings: SettingsOption = None,
) -> None:
    """Finish what is in flight, checkpoint everything and stop: then a changed program may start.

    Give it the program that ran last. Nothing new is read from the inputs. Workers that run are
    waited for as long as a session takes to end, and then named: stop them with SIGTERM first.
    """
    app = load_configured(program, connection, settings)
    if not app.run(until="drain", workers=workers):
        print("stopped before all was drained: run it again", file=sys.stderr)
        raise typer.Exit(1)
    print(f"drained: a changed program of {app.application_id} may start")
