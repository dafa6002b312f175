"""The table of mutants, in the terminal's summary (also when tests run in other processes)."""

from __future__ import annotations

import pytest

import kstash.core.stash as core_stash

TABLE = "mutants"


@pytest.fixture(autouse=True)
def _own_bound_of_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A world cuts lineage into segments as small as its seed says; tests after it do not."""
    monkeypatch.setattr(core_stash, "SEGMENT_ENTRIES_MAX", core_stash.SEGMENT_ENTRIES_MAX)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what `test_mutants` found: rule removed, violations, in how many runs."""
    for reports in list(terminalreporter.stats.values()):
        for report in reports:
            for name, text in getattr(report, "user_properties", ()):
                if name == TABLE and report.when == "call":
                    terminalreporter.section("simulation: rules removed")
                    terminalreporter.write_line(str(text))
