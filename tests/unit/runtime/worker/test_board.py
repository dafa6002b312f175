"""Labelled gauges are those of the last look."""

from __future__ import annotations

from kstash.runtime.worker.board import Board


class Shown:
    """Metrics that keep gauges by name and labels, and how often they were set.

    Attributes:
        values: that are shown.
        calls: how often a gauge was set or removed.
    """

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.calls = 0

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Not used here."""
        raise AssertionError((name, amount, labels))

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Not used here."""
        raise AssertionError((name, seconds, labels))

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self.calls += 1
        self.values[f"{name}{labels}"] = value

    def remove(self, name: str, **labels: str) -> None:
        """Forget one."""
        self.calls += 1
        del self.values[f"{name}{labels}"]


def test_what_was_not_set_again_is_taken_away() -> None:
    """So a task that has moved is shown by its new worker only."""
    shown = Shown()
    board = Board(shown)
    for task in "ab":
        board.gauge("task_live", 1, task=task)
    assert shown.values == {}
    board.publish()
    assert shown.values == {"task_live{'task': 'a'}": 1, "task_live{'task': 'b'}": 1}
    board.gauge("task_live", 0, task="b")
    board.publish()
    assert shown.values == {"task_live{'task': 'b'}": 0}
    board.publish()
    assert shown.values == {}


def test_what_has_not_changed_costs_no_call() -> None:
    """Most tasks of many have nothing new to say."""
    shown = Shown()
    board = Board(shown)
    for _ in range(5):
        board.gauge("task_live", 1, task="a")
        board.publish()
    assert shown.calls == 1
