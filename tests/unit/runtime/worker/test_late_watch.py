"""Windows that lose many records say so in the log, once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

import pytest
import structlog

import kstash
from kstash.runtime.worker import late_watch
from kstash.testing import TestDriver

HOUR_MS = 3_600_000
START_MS = 444_444 * HOUR_MS


def said(
    mode: Literal["records", "watermark"] = "records", *, late: int = 100, on_time: int = 100
) -> list[Any]:
    """The warnings of a count by hour, of a backlog in two partitions of which one is ahead."""
    app = kstash.App("app", event_time=mode)
    keyed = app.stream("in", value=kstash.text).key_by(lambda value: value, key=kstash.text)
    keyed.window(kstash.tumbling(timedelta(hours=1))).count("n").to("out")
    with structlog.testing.capture_logs() as logs, TestDriver(app, partitions=2) as driver:
        for number in range(on_time):
            driver.send("in", "home", timestamp_ms=START_MS + 9 * HOUR_MS + number, partition=0)
        for number in range(late):
            driver.send("in", "home", timestamp_ms=START_MS + number, partition=1)
        for _ in range(3):
            driver.advance(5)
    return [line for line in logs if line["event"] == "many records are late and dropped"]


def test_a_backlog_of_which_much_is_lost_is_told_with_what_to_choose() -> None:
    """Once, with how many of how many."""
    (line,) = said()
    assert line["log_level"] == "warning"
    assert line["operator"] == "tumbling(3600 s).count(n)"
    assert (line["late"], line["of"]) == (100, 200)
    assert 'App(event_time="watermark")' in line["advice"]


@pytest.mark.parametrize("mode", ["records", "watermark"])
def test_what_is_told_where_no_partition_makes_another_one_late_is_grace(
    mode: Literal["records", "watermark"],
) -> None:
    """Without a wide edge, or in watermark mode."""
    app = kstash.App("app", event_time=mode)
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    if mode == "watermark":
        stream = stream.repartition("moved")
    stream.window(kstash.tumbling(timedelta(hours=1))).count("n").to("out")
    with structlog.testing.capture_logs() as logs, TestDriver(app) as driver:
        driver.send("in", "v", key="k", timestamp_ms=START_MS + 9 * HOUR_MS)
        driver.advance(5)
        for number in range(late_watch.LATE_MIN):
            driver.send("in", "v", key="k", timestamp_ms=START_MS + number)
        driver.advance(5)
    (line,) = [line for line in logs if line["event"] == "many records are late and dropped"]
    assert "watermark" not in line["advice"]
    assert "grace=" in line["advice"]


@pytest.mark.parametrize(
    "world",
    [
        {"mode": "watermark"},
        {"late": late_watch.LATE_MIN - 1},
        {"on_time": 9 * late_watch.LATE_MIN + 1},
    ],
    ids=str,
)
def test_nothing_is_told_where_little_is_lost(world: dict[str, Any]) -> None:
    """In watermark mode, or where few are late, or few of many."""
    assert said(**world) == []
