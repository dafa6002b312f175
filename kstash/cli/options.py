"""Options that all commands share, and what they mean."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from kstash.errors import ConfigError
from kstash.kafka.console import KafkaConsole
from kstash.settings.config import Config
from kstash.settings.sources import FILE_VARIABLE

TOOLS_ID = "kstash-tools"
"""Application id of commands that concern no application: it names their consumer group."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print a JSON object for each record.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what would be deleted.")]

_BootstrapServers = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-servers",
        "-b",
        metavar="HOST:PORT,...",
        help="Kafka's addresses. [default: as the settings say, or localhost:9092]",
        show_default=False,
    ),
]
_SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings file (TOML), such as for a secured cluster. [default: KSTASH_CONFIG, or "
        "kstash.toml here, or [tool.kstash] of pyproject.toml here]",
        show_default=False,
    ),
]
_Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error, not its message alone.")
]


@dataclass(slots=True)
class Shown:
    """How errors are shown.

    Attributes:
        has_tracebacks: whether each error is shown with its traceback.
    """

    has_tracebacks: bool = False


shown = Shown()


@dataclass(frozen=True, slots=True)
class Connection:
    """The shared options; the rest comes from the environment and the settings file.

    Attributes:
        bootstrap_servers: as given, or None.
    """

    bootstrap_servers: str | None = None

    def settings(self) -> dict[str, Any]:
        """The settings that take precedence over all others."""
        given = {"bootstrap_servers": self.bootstrap_servers}
        return {name: value for name, value in given.items() if value is not None}

    def config(self, application_id: str = TOOLS_ID, **given: Any) -> Config:
        """Settings for a command that concerns an application, or none.

        Args:
            application_id: of the application.
            given: other options that are settings; None: not given.

        Raises:
            ConfigError: a setting is wrong, wherever it comes from.
        """
        of_command = {name: value for name, value in given.items() if value is not None}
        return Config.load({"application_id": application_id, **self.settings(), **of_command})

    def kafka(self) -> KafkaConsole:
        """Clients for a command that concerns no application.

        Raises:
            ConfigError: a setting is wrong, wherever it comes from.
        """
        config = self.config()
        return KafkaConsole(config.bootstrap_servers, config.kafka)


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the shared options; its first parameter takes them as a `Connection`."""
    return _sharing(command, {"bootstrap_servers": _BootstrapServers, "config": _SettingsFile})


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that has settings and needs no Kafka the rest of the shared options."""
    return _sharing(command, {"config": _SettingsFile})


def _sharing(command: Callable[..., None], options: dict[str, Any]) -> Callable[..., None]:

    def run(
        *,
        config: Path | None = None,
        bootstrap_servers: str | None = None,
        debug: bool = False,
        **own: Any,
    ) -> None:
        shown.has_tracebacks = debug
        if config is not None:
            # Read by a program that is imported, and by workers that execute it again.
            os.environ[FILE_VARIABLE] = str(config.absolute())
        command(Connection(bootstrap_servers), **own)

    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    return _with_options(command, run, own, options)


def unconnected(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that needs neither Kafka nor settings the option --debug."""

    def run(*, debug: bool = False, **own: Any) -> None:
        shown.has_tracebacks = debug
        command(**own)

    own = [*inspect.signature(command, eval_str=True).parameters.values()]
    return _with_options(command, run, own, {})


def _with_options(
    command: Callable[..., None],
    run: Callable[..., None],
    own: Sequence[inspect.Parameter],
    options: dict[str, Any],
) -> Callable[..., None]:
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        *(parameter.replace(kind=kind) for parameter in own),
        *(inspect.Parameter(n, kind, default=None, annotation=a) for n, a in options.items()),
        inspect.Parameter("debug", kind, default=False, annotation=_Debug),
    ]
    for parameter in parameters:
        _without_type(parameter.annotation)
    functools.update_wrapper(run, command)
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _without_type(annotation: Any) -> None:
    """Keep a flag's help from showing a type, as if the flag took a value."""
    kind, *infos = get_args(annotation) or (None,)
    for info in infos:
        if kind is bool and info.metavar is None:
            info.metavar = ""


def assignments(values: Sequence[str], option: str) -> dict[str, str]:
    """`NAME=VALUE` arguments as a dict.

    Raises:
        ConfigError: one has no `=`.
    """
    pairs = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise ConfigError(f"{option} takes NAME=VALUE, not {value!r}", option)
        pairs[name] = text
    return pairs
