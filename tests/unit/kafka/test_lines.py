"""What the Kafka client says of itself becomes events of the log, whatever it says."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from kstash.kafka.clients import make_admin, make_consumer, make_producer
from kstash.kafka.lines import NOISE, ClientLines
from kstash.observe import configure_logs

NOWHERE = "127.0.0.1:9"
SAYS = "the Kafka client says"


def _said(*arguments: Any, level: int = logging.WARNING) -> list[dict[str, Any]]:
    """Events of one line, as the client gives it."""
    with capture_logs() as lines:
        ClientLines("app.a-data").log(level, "%s [%s] %s", *arguments)
    return [dict(line) for line in lines]


@pytest.mark.parametrize(
    ("level", "name"), [(40, "error"), (30, "warning"), (20, "info"), (50, "critical")]
)
def test_a_line_is_an_event(level: int, name: str) -> None:
    """With its facility, its text and its level."""
    (line,) = _said("SESSTMOUT", "app#consumer-1", "timed out after 10 ms", level=level)
    assert line == {
        "event": SAYS,
        "facility": "SESSTMOUT",
        "message": "timed out after 10 ms",
        "log_level": name,
    }


@pytest.mark.parametrize("facility", sorted(NOISE))
def test_what_is_no_news_is_for_debugging(facility: str) -> None:
    """It comes in masses while a broker is away; other lines of ours tell what it means."""
    (line,) = _said(facility, "app", "again")
    assert line["log_level"] == "debug"


def test_a_line_of_another_form_is_kept() -> None:
    """Nothing is lost, whatever the next release says."""
    with capture_logs() as lines:
        ClientLines("x").log(logging.ERROR, "100% of this is text")
        ClientLines("x").log(logging.ERROR, "%s: %d", "code", 7)
    assert [line["message"] for line in lines] == ["100% of this is text", "code: 7"]


def test_lines_are_json_and_have_a_logger(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Dots of a name make no tree of loggers; Python's own logging hears nothing of it."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logs("json", "info")
    ClientLines("app.a-data").log(40, "%s [%s] %s", "FATAL", "app", 'a "quoted"\n\x1b[31mline')
    ClientLines("app.a-data").log(40, "%s [%s] %s", "FAIL", "app", "gone")
    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert (line["logger"], line["level"]) == ("kstash.client.app-a-data", "error")
    assert line["message"] == 'a "quoted"\n\x1b[31mline'
    assert not caplog.records


def test_where_no_log_is_set_up_it_goes_to_pythons(caplog: pytest.LogCaptureFixture) -> None:
    """A program that only reads must not find lines on its standard output."""
    ClientLines("reader").log(logging.ERROR, "%s [%s] %s", "FATAL", "reader", "over")
    ClientLines("reader").log(logging.ERROR, "%s [%s] %s", "FAIL", "reader", "gone")
    assert [(r.name, r.getMessage()) for r in caplog.records] == [
        ("kstash.client.reader", "FATAL over")
    ]


@pytest.mark.parametrize("kind", ["admin", "consumer", "producer"])
def test_no_client_writes_to_standard_error_itself(
    kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A real one of each kind, without a broker and with all that it can say switched on."""
    configure_logs("json", "debug")
    settings = {"bootstrap.servers": NOWHERE, "client.id": "mute", "debug": "broker"}
    made: Any
    if kind == "admin":
        made = make_admin(settings)
    elif kind == "consumer":
        made = make_consumer(settings | {"group.id": "g"})
    else:
        made = make_producer(settings)
    deadline = time.monotonic() + 30
    shown = ""
    while "FAIL" not in shown and time.monotonic() < deadline:
        made.poll(0.05)
        shown += capfd.readouterr().err
    lines = [json.loads(line) for line in shown.splitlines()]
    assert {line["logger"] for line in lines} == {"kstash.client.mute"}
    assert any(line["facility"] == "FAIL" for line in lines)
    assert all(re.fullmatch(r"[A-Z0-9_]+", line["facility"]) for line in lines)
