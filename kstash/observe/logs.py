"""Logs of a worker: structlog to standard error, one line an event."""

from __future__ import annotations

import logging
import sys
import traceback
from contextvars import ContextVar
from typing import Literal, TextIO

import structlog

from kstash.escape import printable_lines
from kstash.observe.history import note_complaint

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


_identity: ContextVar[dict[str, str] | None] = ContextVar("identity", default=None)
_last_identity: dict[str, str] = {}
"""For threads that other libraries start: those have no context of their own."""


def identify(**fields: str) -> None:
    """Add these fields to each JSON line from now on: `application`, `worker`.

    A line that has such a field itself keeps its own. Console lines lack them: there the first line
    names the application, and the lines of a supervised worker begin with its name.
    """
    global _last_identity
    _identity.set(fields)
    _last_identity = fields


def _put_identity(
    _: object, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    found = _identity.get()
    for name, value in (_last_identity if found is None else found).items():
        event.setdefault(name, value)
    task = event.get("task")
    if "group" not in event and isinstance(task, str):
        number = task.rpartition("_")[2]
        if number.isdecimal():
            event["group"] = int(number)
    return event


class NamedLogger(structlog.WriteLogger):
    """Writes each line in one call, and knows the name that `get_logger` was given."""

    def __init__(self, file: TextIO, name: str) -> None:
        super().__init__(file)
        self.name = name


def is_json() -> bool:
    """Whether what is logged comes as JSON."""
    processors = structlog.get_config()["processors"]
    return any(isinstance(step, structlog.processors.JSONRenderer) for step in processors)


def _put_first(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Put the fields that each event has first: people read JSON too."""
    common = ("timestamp", "level", "logger", "event")
    first = {name: event.pop(name) for name in common if name in event}
    return {**first, **event}


def _make_printable(
    _: object, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Escape texts: they may come from others, such as an error's text with a record in it."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            # A field with one of these is shown by the renderer as Python writes it.
            is_quoted = name != "event" and not set(value).isdisjoint(" \t=\r\n\"'")
            event[name] = value if is_quoted else printable_lines(value)
    return event


def _write_traceback(file: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    """A traceback without locals, which would show users' records, and without terminal escapes."""
    file.write("\n" + printable_lines("".join(traceback.format_exception(*exc_info)).rstrip("\n")))


def configure_logs(log_format: Literal["console", "json"], log_level: str) -> None:
    """Log to standard error from now on; a later call replaces the settings.

    Args:
        log_format: `console` (for people, with colours on a terminal) or `json` (one object a
            line: `timestamp` in UTC, `level`, `logger`, `event` and the event's own fields).
        log_level: `debug`, `info`, `warning` or `error`; lower events are dropped.
    """
    assert log_level in LEVELS, f"log_level {log_level!r}, must be one of {sorted(LEVELS)}"
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.stdlib.add_logger_name,
        note_complaint,
    ]
    if log_format == "json":
        rendering: list[structlog.typing.Processor] = [
            _put_identity,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _put_first,
            structlog.processors.JSONRenderer(),
        ]
    else:
        rendering = [
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            _make_printable,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                sort_keys=False,  # the order of the log call: the most important field is first
                exception_formatter=_write_traceback,
            ),
        ]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[log_level]),
        logger_factory=lambda *names: NamedLogger(sys.stderr, names[0] if names else "kstash"),
        # Modules hold loggers from before this call; they must follow it.
        cache_logger_on_first_use=False,
    )
