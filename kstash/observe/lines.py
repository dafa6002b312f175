"""Puts into the log what Python and other libraries would write to standard error.

That is: records of Python's `logging` without a handler, warnings, and errors that nobody catches.
What the program has configured itself stays as it is.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

import structlog

from kstash.errors import KstashError
from kstash.escape import printable_lines
from kstash.observe.logs import identify, is_json

log = structlog.get_logger("kstash")


class _LastResort(logging.Handler):
    """For records of loggers that have no handler."""

    def emit(self, record: logging.LogRecord) -> None:
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        exc = {"exc_info": record.exc_info} if record.exc_info else {}
        structlog.get_logger(record.name).log(level, record.getMessage(), **exc)


def take_over(*, is_guest: bool) -> Callable[[], None]:
    """Put all of it into the log from now on.

    Args:
        is_guest: whether the process belongs to another program, which reports its own errors,
            unless the log is JSON.

    Returns:
        A function that restores everything as it was.
    """
    before = (logging.lastResort, warnings.showwarning, sys.excepthook)
    of_threads, of_nobody = threading.excepthook, sys.unraisablehook
    logging.lastResort = _LastResort(logging.WARNING)
    # Not where the program, or its test runner, shows them in its own way.
    if before[1] is getattr(warnings, "_showwarning_orig", None):
        warnings.showwarning = _show_warning
    if is_json() or not is_guest:
        sys.excepthook = _log_uncaught
    if is_json():
        threading.excepthook = _log_uncaught_in_thread
        sys.unraisablehook = _log_unraisable

    def put_back() -> None:
        logging.lastResort, warnings.showwarning, sys.excepthook = before
        threading.excepthook, sys.unraisablehook = of_threads, of_nobody
        identify()

    return put_back


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if file is not None:
        file.write(warnings.formatwarning(message, category, filename, lineno, line))
        return
    logger = structlog.get_logger("py.warnings")
    logger.warning(str(message), category=category.__name__, place=f"{filename}:{lineno}")


def _log_uncaught(
    kind: type[BaseException], error: BaseException, frames: TracebackType | None
) -> None:
    """Log an error that ends the process.

    An error that is in the log already is logged without its causes.
    """
    is_logged = isinstance(error, KstashError) and error.is_logged
    if is_json():
        if not is_logged:
            log.critical("an error that nobody caught", exc_info=(kind, error, frames))
        return
    text = "".join(traceback.format_exception(kind, error, frames, chain=not is_logged))
    sys.stderr.write(printable_lines(text))
    sys.stderr.flush()


def _log_uncaught_in_thread(found: threading.ExceptHookArgs) -> None:
    if found.exc_type is SystemExit or found.exc_value is None:
        return
    exc_info = (found.exc_type, found.exc_value, found.exc_traceback)
    name = found.thread.name if found.thread is not None else ""
    log.critical("an error in a thread that nobody caught", thread=name, exc_info=exc_info)


def _log_unraisable(found: sys.UnraisableHookArgs) -> None:
    error = found.exc_value
    exc_info = (found.exc_type, error, found.exc_traceback) if error is not None else None
    what = found.err_msg or "Exception ignored in"
    log.error(
        "an error that nobody could catch", what=what, of=repr(found.object), exc_info=exc_info
    )
