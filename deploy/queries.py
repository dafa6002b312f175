"""What panels are made of: queries of PromQL, and how they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

HERE = '{namespace=~"$namespace",job=~"$job",instance=~"$instance"}'
"""Selects the application and the workers that are chosen at the top of the page.

Two namespaces may have releases of one name. Where there are none the choice "All" is `.*`, which
a series without that label matches too.
"""

BY_WORKER = "instance, worker"
WORKER = "{{instance}} {{worker}}"
"""What distinguishes workers, and their name: those of a supervisor share an instance."""


@dataclass(frozen=True, slots=True)
class Query:
    """One line of a panel.

    Attributes:
        expression: PromQL, with `HERE` where series are selected.
        legend: how Grafana names a series; labels in double braces.
    """

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One drawing.

    Attributes:
        text: what it shows, and what to make of it: Grafana shows it at the title.
        unit: of Grafana's names for units.
        kind: lines over time, one number, or what a state was over time.
        warn: from this value on a number is red.
        thirds: of the page's width.
    """

    title: str
    text: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: Literal["timeseries", "stat", "state-timeline"] = "timeseries"
    warn: float | None = None
    thirds: int = 1


@dataclass(frozen=True, slots=True)
class Row:
    """Panels that belong together."""

    title: str
    panels: Sequence[Panel]


def rate(metric: str, by: str) -> str:
    """What a counter gains in a second."""
    return f"sum by ({by}) (rate({metric}{HERE}[$__rate_interval]))"


def largest(metric: str, by: str) -> str:
    """The largest of several workers' gauges."""
    return f"max by ({by}) ({metric}{HERE})"


def total(metric: str, by: str) -> str:
    """The sum of several workers' gauges."""
    return f"sum by ({by}) ({metric}{HERE})"


def quantile(share: float, metric: str, by: str = "") -> str:
    """The time, by a histogram, within which this share of all was done."""
    grouping = f"{by}, le" if by else "le"
    inner = f"sum by ({grouping}) (rate({metric}_bucket{HERE}[$__rate_interval]))"
    return f"histogram_quantile({share}, {inner})"


def halves(metric: str, by: str = "") -> list[Query]:
    """Median and 99 % of a histogram."""
    label = "".join(f"{{{{{name}}}}} " for name in by.split(", ") if name)
    return [
        Query(quantile(0.5, metric, by), f"{label}p50"),
        Query(quantile(0.99, metric, by), f"{label}p99"),
    ]
