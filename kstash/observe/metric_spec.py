"""What is said of a metric: its name, kind, meaning, labels and buckets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric.

    Attributes:
        name: as in calls of the runtime, without prefix and `_total`.
        kind: counter, gauge, histogram (of seconds), or summary: quantiles that others have worked
            out, set like gauges.
        text: its meaning, for `# HELP`.
        labels: label names; every call gives exactly these.
        buckets: upper bounds in seconds, rising; for histograms only.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "summary"]
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
