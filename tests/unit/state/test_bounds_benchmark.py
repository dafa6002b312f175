"""The benchmark of bounds, small: it runs, and says what the aims are."""

from __future__ import annotations

import pytest

from benchmarks.bounds import CLOSING, PARTS, measure


@pytest.mark.parametrize(
    ("part", "number", "results"),
    [
        ("windows", 2, ""),
        ("closing", len(CLOSING), "(50 results"),
        ("timers", 3, "(50 results"),
        ("every", 2, "(50 results"),
    ],
)
def test_each_part(part: str, number: int, results: str) -> None:
    """A figure for each line of the table; all windows and timers send what they have to."""
    figures = measure(part, 50, 64)
    assert len(figures) == number
    assert all(figure.value and figure.aim for figure in figures)
    assert part == "windows" or any(results in figure.value for figure in figures)


def test_there_are_no_other_parts() -> None:
    """Each is an option of the command."""
    assert list(PARTS) == ["windows", "closing", "timers", "every"]
