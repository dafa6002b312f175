"""Metrics: the table, the adapter of prometheus_client, and the names that the runtime uses."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import kstash
from kstash.observe.catalog import METRIC_PREFIX, METRICS
from kstash.observe.metrics import PrometheusMetrics
from kstash.ports.process import Metrics

KINDS = {"count": "counter", "gauge": "gauge", "observe": "histogram"}
SPECS = {spec.name: spec for spec in METRICS}
RUNTIME = Path(kstash.__file__).parent / "runtime"


def fill(metrics: PrometheusMetrics) -> None:
    """Give each metric of the table a value."""
    for spec in METRICS:
        labels = {label: "0.5" if label == "quantile" else "x" for label in spec.labels}
        if spec.kind == "counter":
            metrics.count(spec.name, 3, **labels)
        elif spec.kind in ("gauge", "summary"):
            metrics.gauge(spec.name, 3, **labels)
        else:
            metrics.observe(spec.name, 0.003, **labels)


def samples(metrics: PrometheusMetrics) -> dict[str, float]:
    """Value by name and labels, as a scraper sees it."""
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def calls_in_runtime() -> Iterator[tuple[str, str, set[str]]]:
    """(method, metric, label names) of each call on a `metrics` with a literal name."""
    for path in sorted(RUNTIME.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner = ast.unparse(node.func.value)
            if node.func.attr not in KINDS or not owner.endswith(("metrics", "board")):
                continue
            name = node.args[0]
            if isinstance(name, ast.Constant):
                labels = {keyword.arg for keyword in node.keywords if keyword.arg}
                yield node.func.attr, str(name.value), labels


def test_every_metric_is_exposed_with_its_type_and_help() -> None:
    """Each row of the table appears under its conventional name and type."""
    metrics = PrometheusMetrics()
    fill(metrics)
    text = metrics.render().decode()
    for spec in METRICS:
        suffix = "_total" if spec.kind == "counter" else ""
        assert f"# TYPE {METRIC_PREFIX}{spec.name}{suffix} {spec.kind}\n" in text
        assert f"# HELP {METRIC_PREFIX}{spec.name}{suffix} {spec.text}\n" in text
    assert "_created" not in text


def test_runtime_uses_only_metrics_of_the_table() -> None:
    """Each literal name in the runtime is declared, with that kind and those labels."""
    found = list(calls_in_runtime())
    assert len(found) > 40
    for method, name, labels in found:
        assert name in SPECS, f"metric {name!r} of the runtime is not in the table"
        kind = SPECS[name].kind
        assert ("gauge" if kind == "summary" else kind) == KINDS[method], name
        assert set(SPECS[name].labels) == labels, name


def test_every_metric_of_the_table_is_used() -> None:
    """The table promises nothing that the runtime, its composition root or HTTP does not report."""
    package = RUNTIME.parent
    beside = [*(package / "process").glob("*.py"), package / "observe" / "answers.py"]
    paths = [*RUNTIME.rglob("*.py"), *beside]
    source = "".join(path.read_text() for path in paths)
    assert [name for name in SPECS if f'"{name}"' not in source] == []


def test_values_add_up_by_label() -> None:
    """Counters add, gauges keep the last value, and `total` sums a counter over its labels."""
    metrics = PrometheusMetrics()
    metrics.count("records_in", 2, stage="a")
    metrics.count("records_in", stage="a")
    metrics.count("records_in", 5, stage="b")
    metrics.gauge("lineage_unacked_bytes", 7)
    metrics.gauge("lineage_unacked_bytes", 4)
    metrics.observe("process_seconds", 0.002, stage="a")
    values = samples(metrics)
    assert values["kstash_records_in_total['a']"] == 3
    assert values["kstash_records_in_total['b']"] == 5
    assert values["kstash_lineage_unacked_bytes[]"] == 4
    assert values["kstash_process_seconds_bucket['0.001', 'a']"] == 0
    assert values["kstash_process_seconds_bucket['0.003', 'a']"] == 1
    assert values["kstash_process_seconds_sum['a']"] == 0.002
    assert metrics.total("records_in") == 8
    assert metrics.total("lineage_unacked_bytes") == 4
    assert metrics.total("stalls") == 0


def test_a_gauge_that_is_removed_is_shown_no_more() -> None:
    """Its labels are gone, others stay; it comes back when it is set, and none may be removed."""
    metrics = PrometheusMetrics()
    metrics.remove("input_lag_records", topic="t", partition="0")
    for partition in "01":
        metrics.gauge("input_lag_records", 1, topic="t", partition=partition)
    metrics.remove("input_lag_records", topic="t", partition="0")
    values = samples(metrics)
    assert "kstash_input_lag_records['0', 't']" not in values
    assert values["kstash_input_lag_records['1', 't']"] == 1
    metrics.gauge("input_lag_records", 3, topic="t", partition="0")
    assert samples(metrics)["kstash_input_lag_records['0', 't']"] == 3


def test_quantiles_are_a_summary() -> None:
    """Prometheus' conventions want the label `quantile` on summaries only."""
    metrics = PrometheusMetrics()
    metrics.gauge("broker_round_trip_seconds", 0.25, broker="1", quantile="0.99")
    text = metrics.render().decode()
    assert "# TYPE kstash_broker_round_trip_seconds summary\n" in text
    assert 'kstash_broker_round_trip_seconds{broker="1",quantile="0.99"} 0.25\n' in text


def test_process_and_garbage_collector_are_there() -> None:
    """What every Python program shows."""
    text = PrometheusMetrics().render().decode()
    for name in ("process_open_fds", "python_info", "python_gc_collections_total"):
        assert name in text


def test_undeclared_names_kinds_and_labels_are_programmer_errors() -> None:
    """A wrong name, kind or label set asserts at its first use."""
    metrics = PrometheusMetrics()
    with pytest.raises(AssertionError, match=r"'nope' is not in kstash\.observe\.catalog"):
        metrics.count("nope")
    with pytest.raises(AssertionError, match="'nope'"):
        metrics.total("nope")
    with pytest.raises(AssertionError, match="'stalls' is a counter, used as a gauge"):
        metrics.gauge("stalls", 1)
    with pytest.raises(AssertionError, match="'records_in' has labels"):
        metrics.count("records_in", task="a")


def test_workers_of_one_process_do_not_share_values() -> None:
    """Each instance has its own registry, as tests with several workers need."""
    first, second = PrometheusMetrics(), PrometheusMetrics()
    first.count("stalls")
    assert samples(second)["kstash_stalls_total[]"] == 0


def test_a_call_is_cheap() -> None:
    """A call costs a few microseconds: one per batch is nothing beside the batch."""
    metrics = PrometheusMetrics()
    best_s = 1.0
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(1_000):
            metrics.count("records_in", 3, stage="a")
        best_s = min(best_s, time.perf_counter() - started)
    assert best_s / 1_000 < 50e-6


def test_promtool_accepts_the_metrics() -> None:
    """Prometheus' own linter finds nothing to say about what kstash exposes."""
    promtool = shutil.which("promtool")
    if promtool is None:
        assert os.environ.get("CI") != "true", "promtool is missing: install the prometheus package"
        pytest.skip("promtool is not installed (Debian package prometheus)")
    metrics = PrometheusMetrics()
    fill(metrics)
    check = subprocess.run(
        [promtool, "check", "metrics"],
        input=metrics.render(),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (check.returncode, check.stdout, check.stderr) == (0, b"", b"")


def test_port_is_implemented() -> None:
    """The class fulfils the runtime's port (checked by mypy)."""
    port: Metrics = PrometheusMetrics()
    port.count("stalls")
