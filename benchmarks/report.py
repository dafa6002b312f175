"""Results: raw runs, medians with their spread, ratios to `none` in the same round; as tables."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Case

Run = dict[str, Any]


class Results:
    """What was measured, by kind and case, one entry a round."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[Case, dict[int, Run]]] = {}

    def add(self, kind: str, case: Case, round_number: int, run: Run) -> None:
        """Keep one run."""
        self.runs.setdefault(kind, {}).setdefault(case, {})[round_number] = run

    def spread(self, kind: str, case: Case, *path: str) -> tuple[float, float, float] | None:
        """Median, least and greatest of a figure over the rounds; None when there is none."""
        found = [value for run in self.runs[kind][case].values() if (value := _at(run, path))]
        return (statistics.median(found), min(found), max(found)) if found else None

    def ratio(self, kind: str, case: Case, *path: str) -> float | None:
        """Median over the rounds of this case's figure by that of `none` in the same round."""
        base = self.runs[kind].get(Case(case.program, "none"), {})
        ratios = []
        for number, run in self.runs[kind][case].items():
            value, yardstick = _at(run, path), _at(base.get(number, {}), path)
            if value and yardstick:
                ratios.append(value / yardstick)
        return statistics.median(ratios) if ratios else None

    def as_json(self, machine: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        """Everything, the raw runs included."""
        out: dict[str, Any] = {"machine": machine, "settings": settings}
        for kind, cases in self.runs.items():
            out[kind] = [
                {
                    "program": case.program,
                    "guarantee": case.guarantee,
                    "lineage_ack_delay_ms": case.ack_delay_ms,
                    "runs": list(rounds.values()),
                }
                for case, rounds in cases.items()
            ]
        return out

    def show(self, console: Console) -> None:
        """Print a table for each kind that was measured."""
        if "throughput" in self.runs:
            console.print(self._throughput())
        if "latency" in self.runs:
            console.print(self._latency())
        if "recovery" in self.runs:
            console.print(self._recovery())

    def _throughput(self) -> Table:
        table = _table(
            "Throughput", "outputs/s", "to none", "CPU us/output", "header B", "lineage B"
        )
        for case in self.runs["throughput"]:
            ratio = self.ratio("throughput", case, "outputs_per_s")
            figure = self._figure("throughput", case)
            table.add_row(
                str(case),
                figure("{:,.0f}", "outputs_per_s"),
                "" if ratio is None else f"{ratio:.2f}",
                figure("{:.2f}", "cpu_us_per_output"),
                figure("{:.1f}", "header_bytes_per_output"),
                figure("{:.2f}", "lineage_bytes_per_output"),
            )
        return table

    def _latency(self) -> Table:
        table = _table(
            "Latency in ms",
            "uncommitted p50",
            "uncommitted p99",
            "committed p50",
            "committed p99",
            "worker CPU %",
        )
        for case in self.runs["latency"]:
            figure = self._figure("latency", case)
            table.add_row(
                str(case),
                figure("{:.1f}", "read_uncommitted", "p50_ms"),
                figure("{:.1f}", "read_uncommitted", "p99_ms"),
                figure("{:.1f}", "read_committed", "p50_ms"),
                figure("{:.1f}", "read_committed", "p99_ms"),
                figure("{:.0f}", "worker_cpu_percent"),
            )
        return table

    def _recovery(self) -> Table:
        table = _table(
            "From the restart after SIGKILL, in ms",
            "READY",
            "first new output, uncommitted",
            "first new output, committed",
        )
        for case in self.runs["recovery"]:
            figure = self._figure("recovery", case)
            table.add_row(
                str(case),
                figure("{:,.0f}", "ready_ms"),
                figure("{:,.0f}", "first_output_ms_read_uncommitted"),
                figure("{:,.0f}", "first_output_ms_read_committed"),
            )
        return table

    def _figure(self, kind: str, case: Case) -> Callable[..., str]:
        def figure(form: str, *path: str) -> str:
            spread = self.spread(kind, case, *path)
            if spread is None:
                return ""
            middle, least, greatest = map(form.format, spread)
            return middle if least == greatest else f"{middle} ({least} to {greatest})"

        return figure


def _at(run: Run, path: tuple[str, ...]) -> Any:
    value: Any = run
    for name in path:
        value = value.get(name) if value else None
    return value


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("case")
    for column in columns:
        table.add_column(column, justify="right")
    return table
