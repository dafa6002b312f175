"""Labelled gauges: what is shown is what the last report set, and nothing else.

A gauge of a task that has moved is gone with the next report. Gauges that are not taken away would
stand for ever, and two workers would report one task.
"""

from __future__ import annotations

from kstash.ports.process import Metrics

_Key = tuple[str, tuple[tuple[str, str], ...]]


class Board:
    """Collects all labelled gauges of a report, and shows what has changed.

    Args:
        metrics: where they are shown.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._shown: dict[_Key, float] = {}
        self._next: dict[_Key, float] = {}

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge for this report; the last value counts."""
        self._next[name, tuple(labels.items())] = value

    def publish(self) -> None:
        """End the report: show what was set, take away what was not."""
        shown, self._shown, self._next = self._shown, self._next, {}
        for key, value in self._shown.items():
            if shown.get(key) != value:
                name, labels = key
                self._metrics.gauge(name, value, **dict(labels))
        for name, labels in shown.keys() - self._shown.keys():
            self._metrics.remove(name, **dict(labels))
