"""`kstash.ports.process.Metrics` on prometheus_client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from kstash.observe.catalog import METRIC_PREFIX, METRICS
from kstash.observe.metric_spec import MetricSpec

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_Labels = tuple[tuple[str, str], ...]


class PrometheusMetrics:
    """All metrics of one worker, in a registry of its own.

    Written by the worker's loop, read by the HTTP thread; prometheus_client locks each value.

    Args:
        specs: all metrics; any other name is a programmer error.
        has_process: whether to add the metrics of the process and of Python.
    """

    def __init__(
        self,
        specs: Iterable[MetricSpec] = METRICS,
        *,
        has_process: bool = True,
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a gauge per counter that nobody asked for
        self._registry = CollectorRegistry()
        if has_process:
            ProcessCollector(registry=self._registry)
            PlatformCollector(registry=self._registry)
            GCCollector(registry=self._registry)
        self._specs = {spec.name: spec for spec in specs}
        self._metrics: dict[str, Any] = {
            name: _make(spec, self._registry) for name, spec in self._specs.items()
        }
        # `labels()` validates, converts and locks at each call: the children are kept instead.
        self._children: dict[tuple[str, _Labels], Any] = {}
        self._totals: dict[str, float] = {}

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter; `amount` is 0 or more."""
        self._child("counter", name, labels).inc(amount)
        self._totals[name] = self._totals.get(name, 0) + amount

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._child("gauge", name, labels).set(value)
        if not labels:
            self._totals[name] = value

    def remove(self, name: str, **labels: str) -> None:
        """Forget a gauge of these labels; one that is not set is fine."""
        if self._children.pop((name, tuple(labels.items())), None) is not None:
            self._metrics[name].remove(*(labels[label] for label in self._specs[name].labels))

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Note one duration."""
        self._child("histogram", name, labels).observe(seconds)

    def total(self, name: str) -> float:
        """A counter over all its labels, or a gauge without labels; 0 when never set."""
        assert name in self._specs, f"metric {name!r} is not in kstash.observe.catalog"
        return self._totals.get(name, 0)

    def summed(self, name: str) -> tuple[float, float]:
        """A histogram over all its labels: seconds in all, and how many times."""
        (metric,) = self._metrics[name].collect()
        seconds, times = (
            sum(sample.value for sample in metric.samples if sample.name.endswith(ending))
            for ending in ("_sum", "_count")
        )
        return seconds, times

    def buckets(self, name: str) -> dict[float, float]:
        """A histogram over all its labels: how many were at most that long, by seconds."""
        found: dict[float, float] = {}
        for sample in next(iter(self._metrics[name].collect())).samples:
            if sample.name.endswith("_bucket"):
                bound = float(sample.labels["le"])
                found[bound] = found.get(bound, 0.0) + sample.value
        return found

    def render(self) -> bytes:
        """All metrics in Prometheus' text format (`CONTENT_TYPE`)."""
        return generate_latest(self._registry)

    def _child(self, kind: str, name: str, labels: dict[str, str]) -> Any:
        key = name, tuple(labels.items())
        child = self._children.get(key)
        if child is None:
            spec = self._specs.get(name)
            assert spec is not None, f"metric {name!r} is not in kstash.observe.catalog"
            is_kind = spec.kind == kind or (spec.kind == "summary" and kind == "gauge")
            assert is_kind, f"metric {name!r} is a {spec.kind}, used as a {kind}"
            assert set(labels) == set(spec.labels), f"metric {name!r} has labels {spec.labels}"
            metric = self._metrics[name]
            child = self._children[key] = metric.labels(**labels) if labels else metric
        return child


class _Quantiles(Gauge):
    """Quantiles that another library computes: set like gauges, exposed as a summary."""

    def collect(self) -> Iterator[Metric]:
        for family in super().collect():
            made = Metric(family.name, family.documentation, "summary")
            made.samples = family.samples
            yield made


def _make(spec: MetricSpec, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    name = METRIC_PREFIX + spec.name
    if spec.kind == "counter":
        return Counter(name, spec.text, spec.labels, registry=registry)
    if spec.kind == "summary":
        return _Quantiles(name, spec.text, spec.labels, registry=registry)
    if spec.kind == "gauge":
        return Gauge(name, spec.text, spec.labels, registry=registry)
    return Histogram(name, spec.text, spec.labels, buckets=spec.buckets, registry=registry)
