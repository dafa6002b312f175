"""The command `kstash`: its list of commands, and how errors become messages and exit codes.

Exit codes: 0 done, 1 an error that the message explains, 2 wrong usage.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer
from rich.console import Console

import kstash
from kstash.cli import (
    broker,
    config,
    demo,
    drain,
    init,
    lag,
    lineage,
    programs,
    records,
    reset,
    status,
    times,
    topics,
    verify,
)
from kstash.cli.options import shown
from kstash.errors import KstashError, OperatorError, ProcessorError, SerdeError
from kstash.escape import printable_lines
from kstash.observe.logs import is_json

app = typer.Typer(
    help="Exactly-once stream processing on Apache Kafka.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In the order of --help: what a newcomer needs first stands first.
_START, _RUN, _DATA, _KEEP = "Begin", "Run and watch", "Topics and records", "Change and check"
app.command("demo", rich_help_panel=_START)(demo.demo)
app.command("init", rich_help_panel=_START)(init.init)
app.command("broker", rich_help_panel=_START)(broker.run_broker)
app.command("run", rich_help_panel=_RUN)(programs.run_program)
app.command("status", rich_help_panel=_RUN)(status.status)
app.command("time", rich_help_panel=_RUN)(times.show_time)
app.command("lag", rich_help_panel=_RUN)(lag.lag)
app.command("topology", rich_help_panel=_RUN)(programs.show_topology)
app.add_typer(config.app, name="config", rich_help_panel=_RUN)
app.add_typer(topics.app, name="topics", rich_help_panel=_DATA)
app.command("send", rich_help_panel=_DATA)(records.send)
app.add_typer(lineage.app, name="lineage", rich_help_panel=_DATA)
app.command("drain", rich_help_panel=_KEEP)(drain.drain)
app.command("verify", rich_help_panel=_KEEP)(verify.verify)
app.command("reset", rich_help_panel=_KEEP)(reset.reset)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"kstash {kstash.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version.", metavar=""
        ),
    ] = False,
) -> None:
    """Exactly-once stream processing on Apache Kafka."""


def _show_error(error: KstashError) -> None:
    if shown.has_tracebacks:
        sys.stderr.write(printable_lines("".join(traceback.format_exception(error))))
    elif isinstance(error, OperatorError | ProcessorError | SerdeError) and not error.is_logged:
        # The user's own traceback is what they need to find the line.
        text = "".join(traceback.format_exception(error.cause))
        sys.stderr.write(printable_lines(text))
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"error: {printable_lines(str(error))}", style="red", markup=False
    )


def _is_undecodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def main() -> None:
    """Run the command line and exit."""
    try:
        app()
    except KstashError as error:
        if not (error.is_logged and is_json()):
            _show_error(error)
        sys.exit(1)
    except UnicodeEncodeError as error:
        # Python decodes bytes that are not UTF-8 as surrogates, which no name in Kafka has.
        if not any(map(_is_undecodable, sys.argv)):
            raise
        print(f"error: an argument is not UTF-8: {error.object!a}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # `kstash topics read … | head`: the reader has what it wanted. Python would complain once
        # more when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
