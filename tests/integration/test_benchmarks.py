"""The benchmarks that crash workers run; what they measure on a busy machine is no matter."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import checkpoints, others, picture, recovery
from benchmarks.bench import Bench
from benchmarks.case import PARTITIONS
from benchmarks.report import Results
from kstash.broker import DevBroker

pytestmark = pytest.mark.integration

CRASH = recovery.Crash(
    1_000, partitions=2, interval_ms=500, burst_words=20_000, load_share=0.02, steady_s=0.5
)
RATE = 500


def test_a_crash_is_measured_shown_and_drawn(kafka_broker: DevBroker, tmp_path: Path) -> None:
    """A recovery's times are in order, its phases add up, table and picture show them."""
    with Bench(kafka_broker.bootstrap_servers) as bench:
        run = recovery.measure(bench, CRASH)
    assert 0 < run["restarted_ms"] < run["ready_ms"]
    for reader in ("read_uncommitted", "read_committed"):
        seen = run[reader]
        assert run["restarted_ms"] < seen["first_output_ms"] <= seen["drained_ms"]
        assert seen["peak_ms"] >= seen["before"]["p50_ms"] > 0
        assert sum(c for bins in run["timeline"][reader]["records"].values() for _, c in bins)
    assert set(run["phases_ms"]) == set(recovery.PHASES)
    assert sum(run["phases_ms"].values()) == pytest.approx(run["live_s"] * 1000, abs=10)
    assert run["replayed"] > 0
    assert run["bound_ms"] > recovery.AIM_S * 1000
    assert run["is_met"] == (run["after_restart_ms"] <= run["bound_ms"])
    assert run["is_steady"]
    assert 0 < run["load_per_s"] < run["capacity_per_s"]
    results = Results()
    results.add("recovery", CRASH, 0, run)
    console = Console(width=200, record=True)
    results.show(console)
    assert str(CRASH) in console.export_text()
    timeline = run["timeline"]["read_uncommitted"]
    picture.draw([(str(CRASH), timeline)], None, tmp_path / "crash.svg")
    assert "<svg" in (tmp_path / "crash.svg").read_text()


def test_a_worker_that_pauses_is_not_taken_for_one_that_makes_nothing() -> None:
    """Two samples of the same number of outputs do not show a speed; nor does one of all."""
    paused = [(0.0, 0), (1.0, 50), (1.5, 50), (2.0, 100)]
    assert recovery._rate_between(paused, 30, 90) == 50
    at_once = [(0.0, 0), (0.5, 100)]
    assert recovery._rate_between(at_once, 30, 90) == 200


def test_a_case_that_went_wrong_is_shown_beside_the_others() -> None:
    """No lag drained within the deadline is a result, and so is a worker that was never live."""
    seen = {"first_output_ms": 4000.0, "drained_ms": None, "peak_ms": 9000.0}
    run = {
        "read_uncommitted": seen,
        "restarted_ms": 10.0,
        "replayed": 1000,
        "replay_per_s": 500.0,
        "live_per_s": 250.0,
        "is_steady": True,
    }
    run |= recovery._judged(run)
    assert (run["bound_ms"], run["after_restart_ms"], run["is_met"]) == (3000.0, 3990.0, False)
    assert run["replay_to_live"] == 2.0
    results = Results()
    results.add("recovery", CRASH, 0, run)
    had_failures = results.has_failures
    results.add("recovery", recovery.Crash(2_000), 0, {"error": "not live within 60 s"})
    assert (had_failures, results.has_failures) == (False, True)
    console = Console(width=250, record=True)
    results.show(console)
    text = console.export_text()
    assert "not drained" in text
    assert "failed" in text
    raw = results.as_json({}, {})["recovery"]
    assert [entry["runs"][0].get("error") for entry in raw] == [None, "not live within 60 s"]


def test_others_are_measured_while_one_is_killed(kafka_broker: DevBroker) -> None:
    """The partitions of two workers are distinguished, and each one's output is seen."""
    with Bench(kafka_broker.bootstrap_servers) as bench:
        run = others.measure(bench, RATE)
    partitions = [*run["kept_partitions"], *run["killed_partitions"]]
    assert sorted(partitions) == list(range(PARTITIONS))
    assert len(run["kept_partitions"]) == PARTITIONS // 2
    assert run["records_per_s_before"] > 0
    assert run["latency_during"]["count"] > 0


def test_the_cost_of_checkpoints_is_measured(kafka_broker: DevBroker) -> None:
    """Outputs, checkpoints and the time that they hold the loop up, of preloaded words."""
    words = 400_000
    with Bench(kafka_broker.bootstrap_servers) as bench:
        checkpoints.preload(bench, "bench-sweep", words)
        run = checkpoints.measure(bench, "bench-sweep", words, 200)
    assert run["outputs_per_s"] > 0
    assert run["checkpoints"] > 0
    assert 0 < run["stall_share"] < 1
