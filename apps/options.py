"""The command line that the applications share: one option for each setting they need.

An option goes before the `KSTASH_*` variable of the same name, that before the settings file, and
that before what the program says.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, Literal

import typer

import kstash


class Guarantee(StrEnum):
    """What a crash may cost."""

    EXACTLY_ONCE = "exactly_once"
    WRITE_FIRST = "write_first"
    AT_LEAST_ONCE = "at_least_once"
    NONE = "none"


class Until(StrEnum):
    """When a bounded run ends."""

    END = "end"
    DRAIN = "drain"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says.

    Attributes:
        application_id: names the consumer group and the internal topics.
        inputs: input topics, as many as the application reads.
        output: output topic.
        until: `end` stops at the input ends found at start, `drain` when what is in flight is
            finished; None runs until stopped.
        workers: processes to supervise; None works in this one.
        settings: for `kstash.App.configure`, only those that were given.
    """

    application_id: str
    inputs: tuple[str, ...]
    output: str
    until: Literal["end", "drain"] | None
    workers: int | None
    settings: dict[str, Any]

    def run(
        self, app: kstash.App, *, on_end: Callable[[kstash.FinalState], None] | None = None
    ) -> None:
        """Run the application; print READY once all tasks that this worker owns are live.

        Args:
            app: what to run.
            on_end: called with the final state when a bounded run is over.
        """
        try:
            if self.settings:
                app.configure(**self.settings)
            app.run(until=self.until, workers=self.workers, on_ready=_print_ready, on_end=on_end)
        except kstash.KstashError as error:
            if app.config.log_format == "json":
                raise typer.Exit(1) from error  # the log has it, and a line of ours is no JSON
            raise


_Until = Annotated[
    Until | None,
    typer.Option(
        envvar="KSTASH_UNTIL",
        metavar="WHEN",
        help="end: stop at the ends of the inputs; drain: finish what is in flight and stop, so "
        "that a changed program may start.",
    ),
]

_DropStore = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Give up a store that was removed or changed."),
]

_Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        envvar="KSTASH_WORKERS",
        metavar="N",
        help="Processes to supervise; without it this one works.",
    ),
]


def _until(given: Until | None) -> Literal["end", "drain"] | None:
    if given is None:
        return None
    return "drain" if given is Until.DRAIN else "end"


def _print_ready() -> None:
    print("READY", flush=True)


def _parse(
    bootstrap_servers: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Kafka brokers, comma-separated.")
    ] = None,
    application_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Names the group and the internal topics."),
    ] = None,
    input_topics: Annotated[
        list[str] | None,
        typer.Option(
            "--input", envvar="KSTASH_INPUT", metavar="TOPIC", help="Input topic; once for each."
        ),
    ] = None,
    output: Annotated[
        str, typer.Option(envvar="KSTASH_OUTPUT", metavar="TOPIC", help="Output topic.")
    ] = "",
    state_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder of the local state.")
    ] = None,
    guarantee: Annotated[
        Guarantee | None,
        typer.Option(metavar="G", help="exactly_once, write_first, at_least_once or none."),
    ] = None,
    checkpoint_interval_ms: Annotated[
        int | None, typer.Option(metavar="N", help="Milliseconds between checkpoints.")
    ] = None,
    sink_commit_interval_ms: Annotated[
        int | None, typer.Option(metavar="N", help="Milliseconds between commits of outputs.")
    ] = None,
    instance_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Keeps this worker's partitions over a restart."),
    ] = None,
    http_port: Annotated[
        int | None, typer.Option(metavar="N", help="Port of /metrics; 0 turns it off.")
    ] = None,
    until: _Until = None,
    drop_store: _DropStore = None,
    workers: _Workers = None,
) -> Options:
    settings = {
        "application_id": application_id,
        "bootstrap_servers": bootstrap_servers,
        "state_dir": state_dir,
        "guarantee": guarantee and guarantee.value,
        "checkpoint_interval_ms": checkpoint_interval_ms,
        "sink_commit_interval_ms": sink_commit_interval_ms,
        "instance_id": instance_id,
        "http_port": http_port,
        "drop_stores": drop_store or None,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    return Options(
        application_id or "",
        tuple(input_topics or ()),
        output,
        _until(until),
        workers,
        given,
    )


def shared_options(
    *, application_id: str, inputs: tuple[str, ...], output: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a typer command the shared options in front of its own.

    The command's first parameter takes the `Options`; it sees no other shared option.

    Args:
        application_id: what the program calls itself; `--application-id` goes before it.
        inputs: default of `--input`, which must be given as many times or not at all.
        output: default of `--output`.
    """
    defaults = {"input_topics": list(inputs), "output": output}
    shared = [
        parameter.replace(default=defaults.get(name, parameter.default))
        for name, parameter in inspect.signature(_parse, eval_str=True).parameters.items()
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        _, *own = inspect.signature(command, eval_str=True).parameters.values()

        @functools.wraps(command)
        def merged(**values: Any) -> None:
            options = _parse(**{parameter.name: values.pop(parameter.name) for parameter in shared})
            options = replace(options, application_id=options.application_id or application_id)
            if len(options.inputs) != len(inputs):
                raise typer.BadParameter(
                    f"{len(inputs)} needed, {len(options.inputs)} given", param_hint="--input"
                )
            _report_errors(functools.partial(command, options, **values))

        parameters = [*shared, *own]
        merged.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        merged.__annotations__ = {p.name: p.annotation for p in parameters}
        return merged

    return decorate


def _report_errors(command: Callable[[], None]) -> None:
    try:
        command()
    except kstash.KstashError as error:
        # What the user can act on is in the message; a traceback of ours would bury it.
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
