"""`kstash time`: what is asked, and what is drawn of the answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from kstash.cli import main as cli
from kstash.cli import times
from kstash.cli.times import rows_of
from kstash.observe import schema
from tests.unit.cli.test_status import answer, task, worker

NOW = 1_700_000_100.0
"""The clock of `worker`."""
HELD = schema.HeldByEntry(
    reason="silent",
    text="nothing comes of in/1, whose records move time",
    seconds=63.0,
    input="in/1",
    time=None,
)


def found() -> dict[str, Any]:
    """Of a worker with three tasks, and one that does not answer."""
    gone = schema.WorkerEntry(address="10.0.0.2:8080", is_reachable=False, error="no \x1b[3m way")
    fast = task("words_0", event_time=NOW + 5, operator_times={"count(n)": NOW - 1.5})
    slow = task(
        "words_1",
        event_time=NOW - 60,
        operator_times={"count(n)": NOW - 3_600, "process(p)": NOW - 60},
        operators_held={"count(n)": "open windows of count(m), for 3600 s"},
        held_seconds=7.0,
        held_by=HELD,
    )
    return answer(worker("one", fast, slow, task("words_2")), gone)


def shown(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """What the command prints of that."""
    monkeypatch.setattr(times, "ask_workers", lambda *_: found())
    result = CliRunner().invoke(cli.app, ["time", "--url", "http://worker:1", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_slowest_stands_first_with_its_operators() -> None:
    """Those that have no time yet before it; each with its distance from the worker's clock."""
    rows = rows_of(found())
    assert [(row["task"], row["operator"]) for row in rows] == [
        ("words_2", None),
        ("words_1", None),
        ("words_1", "count(n)"),
        ("words_1", "process(p)"),
        ("words_0", None),
        ("words_0", "count(n)"),
    ]
    assert [row["behind_seconds"] for row in rows] == [None, 60, 3_600, 60, -5, 1.5]
    assert (rows[0]["time"], rows[0]["utc"], rows[0]["held_by"]) == (None, None, None)
    assert [row.get("held_by") for row in rows[2:4]] == [
        {"reason": "windows", "text": "open windows of count(m), for 3600 s"},
        None,
    ]
    assert (rows[1]["held_by"]["reason"], rows[1]["held_seconds"]) == ("silent", 7.0)
    assert rows[1]["utc"] == "2023-11-14T22:14:00.000Z"


def test_a_table_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds a task back is in words; a worker that does not answer has a line."""
    lines = [" ".join(line.split()) for line in shown(monkeypatch).splitlines()]
    assert lines == [
        "task operator time (UTC) behind ahead of it held back by",
        "words_2 - - 0.0 s nothing",
        "words_1 2023-11-14T22:14:00.000Z 60.0 s 7.0 s "
        "nothing comes of in/1, whose records move time, for 63.0 s",
        "count(n) 2023-11-14T21:15:00.000Z 1 h 00 min open windows of count(m), for 3600 s",
        "process(p) 2023-11-14T22:14:00.000Z 60.0 s",
        "words_0 2023-11-14T22:15:05.000Z 5.0 s ahead 0.0 s nothing",
        "count(n) 2023-11-14T22:14:58.500Z 1.5 s",
        "10.0.0.2:8080: no \\x1b[3m way",
    ]


def test_json_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rows, with what is not known as null."""
    said = json.loads(shown(monkeypatch, "--json"))
    assert said["tasks"] == rows_of(found())
    assert said["unreachable"] == [{"address": "10.0.0.2:8080", "error": "no \\x1b[3m way"}]


def test_a_time_that_no_calendar_has() -> None:
    """Records may say anything: it is shown as a number alone."""
    rows = rows_of(answer(worker("one", task("a", event_time=-1e12), task("b", event_time=1e15))))
    assert [row["utc"] for row in rows] == [None, None]
