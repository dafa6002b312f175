"""What a PromQL expression asks for, as far as a test needs it: metrics, and labels of each."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest

from kstash.observe.catalog import METRIC_PREFIX, METRICS, OF_SUPERVISOR

OF_SCRAPES = frozenset({"namespace", "job", "instance", "pod", "worker"})
"""Labels that Prometheus adds to every series, and a supervisor's `worker`."""

OF_CLIENT_LIBRARY: dict[str, frozenset[str]] = {
    "up": frozenset(),
    "process_cpu_seconds_total": frozenset(),
    "process_max_fds": frozenset(),
    "process_open_fds": frozenset(),
    "process_resident_memory_bytes": frozenset(),
    "process_start_time_seconds": frozenset(),
    "python_gc_collections_total": frozenset({"generation"}),
}
"""Metrics that others make: Prometheus for each target, prometheus_client for each process."""

_NAME = re.compile(r"(?<![\w:$\"=~])([a-zA-Z_:][\w:]*)(?!\w*\()(\{[^}]*\})?")
_METRIC = re.compile(r"^(up|ALERTS|(kstash|process|python)_\w+)$")
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")


def exposed() -> dict[str, frozenset[str]]:
    """Series that a worker serves, with their labels."""
    found = dict(OF_CLIENT_LIBRARY)
    for spec in (*METRICS, *OF_SUPERVISOR):
        name, labels = METRIC_PREFIX + spec.name, frozenset(spec.labels)
        if spec.kind == "counter":
            found[f"{name}_total"] = labels
        elif spec.kind in ("gauge", "summary"):
            found[name] = labels
        else:
            found[f"{name}_bucket"] = labels | {"le"}
            found |= {f"{name}_sum": labels, f"{name}_count": labels}
    return found


def asked(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Metrics of an expression, each with the labels that its selector names."""
    for match in _NAME.finditer(expression):
        if _METRIC.match(match[1]):
            yield match[1], set(_LABEL.findall(match[2] or ""))


def grouped(expression: str) -> set[str]:
    """Labels that it groups or matches by."""
    return {
        label.strip()
        for inner in _GROUPING.findall(expression)
        for label in inner.split(",")
        if label.strip()
    }


def check_expression(expression: str) -> None:
    """Each metric is exposed with the labels that are asked for.

    Raises:
        AssertionError: it is not, or nothing is asked for.
    """
    series = exposed()
    metrics = list(asked(expression))
    assert metrics, expression
    known = set(OF_SCRAPES)
    for name, labels in metrics:
        assert name in series, f"{name} is not exposed: {expression}"
        unknown = labels - series[name] - OF_SCRAPES
        assert not unknown, f"{name} has no label {unknown}: {expression}"
        known |= series[name]
    assert grouped(expression) <= known, f"{grouped(expression) - known}: {expression}"


def promtool() -> str:
    """Path of promtool; a test that needs it is skipped where nobody installed it."""
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool is missing: install the package prometheus")
    return path
