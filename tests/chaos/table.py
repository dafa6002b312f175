"""What a number of runs did, as a table: fault, times, violations, time without output."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict


class Table:
    """Adds runs up.

    A violation is found at the end of a run, so it counts for every kind of fault of that run.
    """

    def __init__(self) -> None:
        self._silences: dict[str, list[float]] = defaultdict(list)
        self._violations: Counter[str] = Counter()

    def add(self, silences: list[tuple[str, float]], violation_count: int) -> None:
        """Add a run.

        Args:
            silences: per fault its title and the longest time without output, in seconds.
            violation_count: what the checks found.
        """
        for title, silence_s in silences:
            self._silences[title].append(silence_s)
        for title in {title for title, _ in silences}:
            self._violations[title] += violation_count

    def text(self) -> str:
        """The table as Markdown, which is also fit for a terminal."""
        width = max((len(title) for title in self._silences), default=0)
        head = f"| {'fault':{width}} | times | violations | median s | worst s |"
        rule = f"|{'-' * (width + 2)}|------:|-----------:|---------:|--------:|"
        rows = [
            f"| {title:{width}} | {len(found):5} | {self._violations[title]:10} "
            f"| {statistics.median(found):8.2f} | {max(found):7.2f} |"
            for title, found in sorted(self._silences.items())
        ]
        return "\n".join([head, rule, *rows])
