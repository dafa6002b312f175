"""`kstash run` and `kstash topology`: load a user's program, run it or draw it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kstash import App, Config, ConfigError
from kstash.cli.options import Connection, assignments, connected
from kstash.settings.credentials import FILE_SUFFIX, is_secret, variable_of
from kstash.settings.sources import VARIABLE_PREFIX

Program = Annotated[
    str,
    typer.Argument(
        metavar="MODULE:APP",
        help="A module that Python can import from here, and the name of the App in it, or of a "
        "function without arguments that returns one (without a name: app).",
        show_default=False,
    ),
]


Application = Annotated[
    str,
    typer.Argument(
        metavar="APPLICATION",
        help="The application's id, or MODULE:APP, whose settings are then used.",
        show_default=False,
    ),
]

SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any setting of kstash.Config; it overrides the program's. kafka.NAME=VALUE is a "
        "setting of the Kafka client. Not for passwords: others can read a command line.",
    ),
]


class Drawing(StrEnum):
    """How a topology is drawn."""

    TEXT = "text"
    MERMAID = "mermaid"
    DOT = "dot"


class Until(StrEnum):
    """When a run is over."""

    END = "end"


def load_app(program: str) -> App:
    """Import the `App` that `module:name` stands for; errors of the user's code pass through.

    Raises:
        ConfigError: there is no such module, or no App of that name in it.
    """
    module_name, _, name = program.partition(":")
    name = name or "app"
    if module_name.endswith(".py") or "/" in module_name:
        path = module_name.removesuffix(".py").removeprefix("./").strip("/")
        meant = f"{path.replace('/', '.')}:{name}"
        raise ConfigError(f"{module_name!r} is a file: give its module, such as {meant}")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does: the current folder
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the user's module imports something that is missing: their traceback shows it
        _refuse_hidden(module_name)
        raise ConfigError(
            f"no module {module_name!r} here: give MODULE:APP as Python would import it, "
            f"such as examples.wordcount:app, from the folder that holds it"
        ) from None
    found = getattr(module, name, None)
    if callable(found) and not isinstance(found, type):
        found = found()
    if isinstance(found, App):
        return found
    _refuse_hidden(module_name)
    apps = sorted(key for key, value in vars(module).items() if isinstance(value, App))
    hint = f"it has {', '.join(apps)}" if apps else "it has none at its top level"
    raise ConfigError(f"module {module_name!r} has no App named {name!r}: {hint}")


def _refuse_hidden(module_name: str) -> None:
    """Refuse a module whose name belongs to another one that was imported before it.

    Modules of kstash, of its dependencies and of Python are imported before any program.
    """
    file = _file_here(module_name)
    for name in (module_name, module_name.partition(".")[0]):
        hiding = sys.modules.get(name)
        if file is None or hiding is None:
            continue
        origin, here = getattr(hiding, "__file__", None), _file_here(name)
        if here is not None and origin is not None and here.samefile(origin):
            return
        raise ConfigError(
            f"{file} is hidden by another module {name!r} ({origin or 'of Python'}): give the "
            "file, or the folder that it is in, another name"
        ) from None


def _file_here(module_name: str) -> Path | None:
    path = Path(*module_name.split("."))
    files = path.with_suffix(".py"), path / "__init__.py"
    return next((file for file in files if file.is_file()), None)


@connected
def run_program(
    connection: Connection,
    program: Program,
    until: Annotated[
        Until | None,
        typer.Option(help="end: stop at the ends that the inputs have now.", show_default=False),
    ] = None,
    closes_windows: Annotated[
        bool,
        typer.Option(
            "--closes-windows",
            help="With --until end: close the windows that are open there, and send what is final "
            "of them.",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes to start and to supervise; without it this process is the worker.",
            show_default=False,
        ),
    ] = None,
    drop_store: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Give up the content of a store that this program has removed or changed since "
            "the application ran last; repeat the option for several stores.",
        ),
    ] = None,
    settings: SettingsOption = None,
) -> None:
    """Run a program until SIGTERM or Ctrl-C, or to the end of its input.

    Prints READY once all tasks that this process, or each of its workers, got are live.
    """
    app = load_configured(program, connection, settings)
    if drop_store:
        app.configure(drop_stores=drop_store)
    end: Literal["end"] | None = "end" if until is Until.END else None
    app.run(
        until=end,
        closes_windows=closes_windows,
        workers=workers,
        on_ready=lambda: print("READY", flush=True),
    )


def load_configured(program: str, connection: Connection, settings: Sequence[str] | None) -> App:
    """The `App` of a program with the settings of the command line.

    Raises:
        ConfigError: there is no such program, or a setting is unknown, out of range or a secret.
    """
    given = overrides(settings, connection.settings())
    app = load_app(program)
    if given:
        app.configure(**given)
    return app


def config_of(application: str, connection: Connection, state_dir: Path | None = None) -> Config:
    """Settings of an application: of the program when it is `MODULE:APP`, else of its id.

    Raises:
        ConfigError: there is no such program, or a setting is wrong.
    """
    folder = None if state_dir is None else str(state_dir)
    if ":" not in application:
        return connection.config(application, state_dir=folder)
    given = connection.settings() | ({} if folder is None else {"state_dir": folder})
    return load_app(application).config.override(**given)


def overrides(settings: Sequence[str] | None, others: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that `--set` and other options give.

    Raises:
        ConfigError: a value of `--set` is no assignment, or names a secret.
    """
    pairs = assignments(settings or [], "--set")
    _refuse_secrets(pairs)
    found: dict[str, Any] = {}
    client: dict[str, str] = {}
    for name, value in pairs.items():
        if name.startswith("kafka."):
            client[name.removeprefix("kafka.")] = value
        else:
            found[name] = value
    if client:
        found["kafka"] = client
    return {**found, **others}


def _refuse_secrets(names: Iterable[str]) -> None:
    """Refuse secrets: everybody on the machine could read them as long as a worker runs."""
    for name in names:
        setting = name.removeprefix("kafka.")
        if name == "kafka":
            raise ConfigError(
                "--set kafka=… takes one client setting at a time: --set kafka.NAME=VALUE", name
            )
        if is_secret(setting):
            variable = variable_of(setting) if name != setting else VARIABLE_PREFIX + name.upper()
            raise ConfigError(
                f"--set {name} would show a secret to everybody who can list the processes of this "
                f"machine: give it in the environment as {variable}, or put it into a file and "
                f"name that by {variable}{FILE_SUFFIX}",
                name.partition(".")[0],
            )


@connected
def show_topology(
    connection: Connection,  # noqa: ARG001 - the settings file is read by the program
    program: Program,
    drawing: Annotated[Drawing, typer.Option("--format", help="How to draw it.")] = Drawing.TEXT,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of a drawing.")
    ] = False,
) -> None:
    """Draw a program's stages, the topics between them, and their stores; needs no Kafka."""
    print(load_app(program).topology().describe("json" if as_json else drawing.value))
