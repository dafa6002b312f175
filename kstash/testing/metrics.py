"""Metrics kept in memory, for tests to read."""

from __future__ import annotations


class MemoryMetrics:
    """A `kstash.ports.process.Metrics` that sums over all labels.

    Attributes:
        counts: sum by counter name.
        gauges: value last set by gauge name; one that was removed since stays here.
        observations: all values in seconds by histogram name.
    """

    def __init__(self) -> None:
        self.counts: dict[str, float] = {}
        self.gauges: dict[str, float] = {}
        self.observations: dict[str, list[float]] = {}

    def count(self, name: str, amount: float = 1, **labels: str) -> None:  # noqa: ARG002 - summed
        """Add to a counter."""
        self.counts[name] = self.counts.get(name, 0) + amount

    def gauge(self, name: str, value: float, **labels: str) -> None:  # noqa: ARG002 - the last one
        """Set a gauge."""
        self.gauges[name] = value

    def remove(self, name: str, **labels: str) -> None:
        """Nothing to forget: gauges are kept without their labels."""

    def observe(self, name: str, seconds: float, **labels: str) -> None:  # noqa: ARG002 - all
        """Note one value of a histogram."""
        self.observations.setdefault(name, []).append(seconds)
