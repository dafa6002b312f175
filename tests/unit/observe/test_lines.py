"""What Python and other libraries write to standard error is in the log, and so JSON where that is.

In processes of their own: what is taken over is the interpreter's.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings
from typing import Any

import pytest
import structlog

from kstash.observe import configure_logs
from kstash.observe.lines import take_over
from kstash.observe.logs import is_json

log = structlog.get_logger("x")

SET_UP = """
import logging, sys, threading, warnings
from kstash.errors import KstashError, OperatorError
from kstash.observe import configure_logs
from kstash.observe.lines import take_over
configure_logs({log_format!r}, "info")
take_over(is_guest={is_guest})
"""


def _run(program: str, log_format: str = "json", *, is_guest: bool = False) -> tuple[str, int]:
    """Standard error and exit code of a program that runs after that."""
    code = SET_UP.format(log_format=log_format, is_guest=is_guest) + program
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == ""
    return done.stderr, done.returncode


def _lines(program: str) -> list[dict[str, Any]]:
    """Its lines, all of which must be JSON."""
    return [json.loads(line) for line in _run(program)[0].splitlines()]


def test_logging_of_other_libraries() -> None:
    """What has no handler, from warnings on, with level, name and traceback."""
    info, error = _lines(
        "log = logging.getLogger('urllib3.pool')\n"
        "log.info('unheard')\n"
        "log.warning('retry %d', 3)\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: log.exception('failed')\n"
    )
    assert (info["event"], info["level"], info["logger"]) == ("retry 3", "warning", "urllib3.pool")
    assert "ZeroDivisionError" in error["exception"]


def test_logging_that_is_set_up_is_left_alone() -> None:
    """Who has a handler has chosen a form."""
    shown, _ = _run("logging.basicConfig(format='mine: %(message)s'); logging.warning('x')")
    assert shown == "mine: x\n"


def test_warnings() -> None:
    """With their kind and their place."""
    (line,) = _lines("warnings.warn('too old', DeprecationWarning, stacklevel=1)")
    assert (line["event"], line["level"]) == ("too old", "warning")
    assert line["category"] == "DeprecationWarning"
    assert line["place"].startswith("<string>:")


def test_an_error_that_nobody_catches() -> None:
    """One line with the whole traceback, and Python's exit code."""
    shown, code = _run("raise ValueError('no\\nway')")
    (line,) = map(json.loads, shown.splitlines())
    assert (line["event"], line["level"]) == ("an error that nobody caught", "critical")
    assert "ValueError: no\nway" in line["exception"]
    assert code == 1


def test_an_error_that_was_logged_is_not_logged_again() -> None:
    """The log has it, with what caused it."""
    program = "error = KstashError('known')\nerror.is_logged = {}\nraise error"
    assert _run(program.format(True)) == ("", 1)
    assert "known" in _run(program.format(False))[0]


def test_errors_of_threads_and_of_nobody() -> None:
    """Each is a line; a thread that exits is none."""
    thread, nobody = _lines(
        "def fail(): raise ValueError('in a thread')\n"
        "thread = threading.Thread(target=fail, name='mine'); thread.start(); thread.join()\n"
        "thread = threading.Thread(target=sys.exit); thread.start(); thread.join()\n"
        "class Bad:\n"
        "    def __del__(self): raise ValueError('too late')\n"
        "Bad()\n"
    )
    assert thread["thread"] == "mine"
    assert "in a thread" in thread["exception"]
    assert "too late" in nobody["exception"]
    assert "Bad.__del__" in nobody["of"]


def test_a_terminal_obeys_no_traceback() -> None:
    """In the console's form it is Python's own, with all that is not printable escaped."""
    shown, code = _run("raise ValueError('a\\x1b[31m\\x9bred\\nb')", "console")
    assert shown.startswith("Traceback (most recent call last):\n")
    assert shown.endswith("ValueError: a\\x1b[31m\\x9bred\nb\n")
    assert code == 1


def test_a_terminal_sees_the_cause_once() -> None:
    """Where the log has shown it; the error itself still ends the program."""
    program = (
        "error = OperatorError('map', 0, cause=ValueError('the cause'))\n"
        "error.is_logged = {}\n"
        "raise error from error.cause"
    )
    assert _run(program.format(True), "console")[0].count("ValueError: the cause") == 1
    assert _run(program.format(False), "console")[0].count("ValueError: the cause") == 2


def test_a_guest_leaves_errors_to_the_host() -> None:
    """A notebook has its own way to show them; where JSON is asked for, it is JSON."""
    for log_format, is_taken in (("console", False), ("json", True)):
        shown, _ = _run(
            "print(sys.excepthook is not sys.__excepthook__, file=sys.stderr)",
            log_format,
            is_guest=True,
        )
        assert shown == f"{is_taken}\n"


def test_all_is_put_back() -> None:
    """A guest leaves no trace."""
    configure_logs("json", "info")
    before = (logging.lastResort, warnings.showwarning, sys.excepthook)
    put_back = take_over(is_guest=True)
    assert sys.excepthook is not before[2]
    put_back()
    assert (logging.lastResort, warnings.showwarning, sys.excepthook) == before


# -- the console ---------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["\x1b[2J", "a \x1b[2J b", "\x9b31m", "a=\x07", "\u202eabc"])
def test_no_text_of_an_event_is_obeyed(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither of a field, nor of the event itself, nor of what is in a list, nor of a traceback."""
    configure_logs("console", "info")
    assert not is_json()
    log.info("event", reason=text, names=[text], of={"key": text})
    log.info(text)
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("failed")
    shown = capsys.readouterr().err
    assert all(line.isprintable() for line in shown.splitlines())
    assert shown.count(ascii(text)[1:-1]) >= 5


def test_fields_come_as_they_were_given(capsys: pytest.CaptureFixture[str]) -> None:
    """What says most comes first, and not what begins with an a."""
    configure_logs("console", "info")
    log.info("event", zebra=1, ant=2)
    shown = capsys.readouterr().err
    assert shown.index("zebra=1") < shown.index("ant=2")


def test_what_every_event_has_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    """In JSON too, which people read when something is wrong."""
    configure_logs("json", "info")
    log.info("event", zebra=1, ant=2)
    found = list(json.loads(capsys.readouterr().err))
    assert found == ["timestamp", "level", "logger", "event", "zebra", "ant"]
