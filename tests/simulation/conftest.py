"""The table of mutants, in the terminal's summary (also when tests run in other processes)."""

from __future__ import annotations

import pytest

TABLE = "mutants"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what `test_mutants` found: rule removed, violations, in how many runs."""
    for reports in list(terminalreporter.stats.values()):
        for report in reports:
            for name, text in getattr(report, "user_properties", ()):
                if name == TABLE and report.when == "call":
                    terminalreporter.section("simulation: rules removed")
                    terminalreporter.write_line(str(text))
