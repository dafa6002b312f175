"""The line that a worker says each minute, and who says a line."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from kstash.observe import configure_logs
from kstash.observe.logs import identify
from kstash.observe.metrics import PrometheusMetrics
from kstash.observe.summary import INTERVAL_S, Summary, quantile
from kstash.ports.status import TaskStatus, WorkerStatus

log = structlog.get_logger("x")


@pytest.fixture(autouse=True)
def _nobody() -> Iterator[None]:
    yield
    identify()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was logged as JSON."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def task(name: str, lag: int | None, lag_s: float | None, age_s: float | None) -> TaskStatus:
    """A task that is live."""
    return TaskStatus(
        name=name,
        state="live",
        position=1,
        replay_end=0,
        checkpointed_position=0,
        lag=lag,
        inputs=(),
        lag_seconds=lag_s,
        checkpoint_age_seconds=age_s,
    )


def test_a_line_each_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """What was done since the last one; the worker is asked for its status then only."""
    configure_logs("json", "info")
    metrics = PrometheusMetrics()
    asked = []

    def status() -> WorkerStatus:
        asked.append(1)
        tasks = (task("words_0", 3, 0.5, 7.0), task("words_1", 4, 2.25, 9.0))
        return WorkerStatus(
            application_id="shop", guarantee="exactly_once", state="live", tasks=tasks
        )

    summary = Summary(metrics, 0.0)
    for minute in (1, 2):
        metrics.count("records_in", 600 * minute, stage="words")
        metrics.count("records_out", 60, stage="words")
        # Two slow ones are more than one in a hundred of the second minute, not of both together.
        for _ in range(1000 if minute == 1 else 99):
            metrics.observe("end_to_end_seconds", 0.004, stage="words")
        for _ in range(0 if minute == 1 else 2):
            metrics.observe("end_to_end_seconds", 0.3, stage="other")
        metrics.gauge("lineage_unacked_bytes", 100)
        summary.log_when_due(INTERVAL_S * minute - 1, status)
        summary.log_when_due(INTERVAL_S * minute, status)
    first, second = lines(capsys)
    assert len(asked) == 2
    assert (first["event"], first["state"], first["tasks"]) == ("the last minute", "live", 2)
    assert (first["records_in_per_s"], second["records_in_per_s"]) == (10.0, 20.0)
    assert (first["records_out_per_s"], second["records_out_per_s"]) == (1.0, 1.0)
    assert first["end_to_end_p99_s"] < 0.1 < second["end_to_end_p99_s"]
    assert (first["lag_records"], first["lag_s"], first["checkpoint_age_s"]) == (7, 2.2, 9.0)
    assert first["lineage_unacked_bytes"] == 100


def test_what_is_not_known_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    """And no zero, which would be good news."""
    configure_logs("json", "info")
    status = WorkerStatus(
        application_id="a",
        guarantee="none",
        state="starting",
        tasks=(task("t_0", None, None, None),),
    )
    Summary(PrometheusMetrics(), 0.0).log_when_due(INTERVAL_S, lambda: status)
    (line,) = lines(capsys)
    unknown = ("end_to_end_p99_s", "lag_records", "lag_s", "checkpoint_age_s")
    assert [line[name] for name in unknown] == [None] * 4


INF = float("inf")


@pytest.mark.parametrize(
    ("buckets", "seconds"),
    [
        ({}, None),
        ({1.0: 0, INF: 0}, None),
        ({1.0: 99, 2.0: 100, INF: 100}, 1.0),
        ({1.0: 98, 2.0: 100, INF: 100}, 2.0),
        ({1.0: 1, 2.0: 2, INF: 100}, 2.0),
    ],
)
def test_a_quantile_of_buckets(buckets: dict[float, float], seconds: float | None) -> None:
    """The least bound with enough below it; beyond all of them the last one."""
    assert quantile(buckets, 0.99) == seconds


def test_each_json_line_says_whose_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Also those of threads; a line that names a worker itself keeps that."""
    configure_logs("json", "info")
    identify(application="shop", worker="worker-0")
    log.info("a")
    log.info("b", worker="worker-7")
    log.info("c", task="words_12")
    log.info("d", task="words_12", group=3)
    thread = threading.Thread(target=lambda: log.info("e"))
    thread.start()
    thread.join()
    identify()
    log.info("f")
    found = lines(capsys)
    assert [line.get("application") for line in found] == ["shop"] * 5 + [None]
    assert [line.get("worker") for line in found[:3]] == ["worker-0", "worker-7", "worker-0"]
    assert [line.get("group") for line in found] == [None, None, 12, 3, None, None]


def test_people_get_it_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The console has no field that would be the same in all lines."""
    configure_logs("console", "info")
    identify(application="shop", worker="worker-0")
    log.info("a")
    assert "shop" not in capsys.readouterr().err
