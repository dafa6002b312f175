"""Progress bars: on a terminal, after two seconds, and nowhere else."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import cast

import pytest
from rich.console import Console

from kstash.cli.progress import SHOWN_AFTER_S, STEP, bar, counted
from kstash.ports.kafka import Message


class Clock:
    """Seconds that are set."""

    now = 0.0

    def __call__(self) -> float:
        """Now."""
        return self.now


def drawn(*, is_terminal: bool, seconds: float, total: int = 10) -> str:
    """What is written while half of it is done."""
    file, clock = io.StringIO(), Clock()
    console = Console(file=file, force_terminal=is_terminal, width=80)
    with bar("verify", total, console, clock) as advance:
        advance(2)
        clock.now = seconds
        advance(3)
    return file.getvalue()


def test_what_takes_long_is_shown_on_a_terminal() -> None:
    """What it is, and how far."""
    shown = drawn(is_terminal=True, seconds=SHOWN_AFTER_S + 1)
    assert "verify" in shown
    assert "5/10" in shown


@pytest.mark.parametrize(
    ("is_terminal", "seconds", "total"),
    [(False, 10.0, 10), (True, SHOWN_AFTER_S - 1, 10), (True, 10.0, 0)],
)
def test_nothing_else_is_shown(is_terminal: bool, seconds: float, total: int) -> None:
    """Not into a file, not for what is soon over, not for nothing."""
    assert drawn(is_terminal=is_terminal, seconds=seconds, total=total) == ""


class Record:
    """A record at an offset."""

    def __init__(self, partition: int, offset: int) -> None:
        self._place = partition, offset

    def topic(self) -> str:
        """The topic."""
        return "t"

    def partition(self) -> int:
        """Its partition."""
        return self._place[0]

    def offset(self) -> int:
        """Its offset."""
        return self._place[1]


def test_offsets_are_counted_by_the_thousand() -> None:
    """Of each partition, gaps too: the bar ends where the partition does."""
    reports: list[int] = []
    records = [Record(number, offset) for offset in (5, 6, 1500) for number in (0, 1)]
    passed: Iterator[Message] = counted(cast(list[Message], records), reports.append)
    assert len([*passed]) == 6
    assert sum(reports) == 2 * 1496
    assert all(count >= STEP for count in reports[:-1])
    assert len(reports) == 3
