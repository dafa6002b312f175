"""Logs of a worker: structlog to standard error, one line an event."""

from __future__ import annotations

import logging
import sys
from typing import Literal, TextIO

import structlog

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class NamedLogger(structlog.WriteLogger):
    """Writes each line in one call, and knows the name that `get_logger` was given."""

    def __init__(self, file: TextIO, name: str) -> None:
        super().__init__(file)
        self.name = name


def configure_logs(log_format: Literal["console", "json"], log_level: str) -> None:
    """Log to standard error from now on; again replaces the former settings.

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
    ]
    if log_format == "json":
        rendering: list[structlog.typing.Processor] = [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    else:
        rendering = [
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                # Locals in tracebacks would show users' records.
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[log_level]),
        logger_factory=lambda *names: NamedLogger(sys.stderr, names[0] if names else "kstash"),
        # Modules hold loggers from before this call; they must follow it.
        cache_logger_on_first_use=False,
    )
