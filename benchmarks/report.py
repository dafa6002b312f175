"""Results: raw runs, medians with their spread, ratios to `none` in the same round; as tables."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.case import PEER, Case
from benchmarks.recovery import PHASES

Run = dict[str, Any]


class Results:
    """What was measured, by kind and case, one entry a round."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[Any, dict[int, Run]]] = {}

    def add(self, kind: str, case: Any, round_number: int, run: Run) -> None:
        """Keep one run of a case (a dataclass, or a name)."""
        self.runs.setdefault(kind, {}).setdefault(case, {})[round_number] = run

    def spread(self, kind: str, case: Any, *path: str) -> tuple[float, float, float] | None:
        """Median, least and greatest of a figure over the rounds; None when there is none."""
        found = [value for run in self.runs[kind][case].values() if (value := _at(run, path))]
        return (statistics.median(found), min(found), max(found)) if found else None

    def ratio(self, kind: str, case: Case, *path: str, base: str = "none") -> float | None:
        """Median over the rounds of this case's figure by that of `base` in the same round."""
        yardsticks = self.runs[kind].get(Case(case.program, base), {})
        ratios = []
        for number, run in self.runs[kind][case].items():
            value, yardstick = _at(run, path), _at(yardsticks.get(number, {}), path)
            if value and yardstick:
                ratios.append(value / yardstick)
        return statistics.median(ratios) if ratios else None

    def as_json(self, machine: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        """Everything, the raw runs included."""
        out: dict[str, Any] = {"machine": machine, "settings": settings}
        for kind, cases in self.runs.items():
            out[kind] = [
                {
                    **(asdict(case) if is_dataclass(case) else {}),  # type: ignore[arg-type]
                    "case": str(case),
                    "runs": list(rounds.values()),
                }
                for case, rounds in cases.items()
            ]
        return out

    @property
    def has_failures(self) -> bool:
        """Whether any run failed; its `error` is the reason."""
        return any(
            "error" in run
            for cases in self.runs.values()
            for rounds in cases.values()
            for run in rounds.values()
        )

    def show(self, console: Console) -> None:
        """Print a table for each kind that was measured."""
        if "throughput" in self.runs:
            console.print(self._throughput())
        if "peers" in self.runs:
            console.print(self._peers())
        if "latency" in self.runs:
            console.print(self._latency())
        if "recovery" in self.runs:
            console.print(self._recovery())
            console.print(self._phases())
        if "others" in self.runs:
            console.print(self._others())
        if "hops" in self.runs:
            console.print(self._hops())
        if "checkpoints" in self.runs:
            console.print(self._checkpoints())
        if "partitions" in self.runs:
            console.print(self._partitions())

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

    def _peers(self) -> Table:
        table = _table(
            "Beside Kafka Streams", "words/s", "to Kafka Streams", "outputs", "CPU us/output"
        )
        for case in self.runs["peers"]:
            ratio = self.ratio("peers", case, "words_per_s", base=PEER)
            figure = self._figure("peers", case)
            table.add_row(
                str(case),
                figure("{:,.0f}", "words_per_s"),
                "" if ratio is None else f"{ratio:.2f}",
                figure("{:,.0f}", "outputs"),
                figure("{:.2f}", "cpu_us_per_output"),
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

    def _hops(self) -> Table:
        table = _table(
            "Latency in ms after several hops",
            "uncommitted p50",
            "committed p50",
            "commit adds p50",
            "p99",
            "max",
        )
        for case in self.runs["hops"]:
            figure = self._figure("hops", case)
            table.add_row(
                str(case).removeprefix("hops: "),
                figure("{:.1f}", "read_uncommitted", "p50_ms"),
                figure("{:.1f}", "read_committed", "p50_ms"),
                figure("{:.1f}", "commit_adds", "p50_ms"),
                figure("{:.1f}", "commit_adds", "p99_ms"),
                figure("{:.1f}", "commit_adds", "max_ms"),
            )
        return table

    def _partitions(self) -> Table:
        table = _table("Partitions with little to do", "READY s", "idle CPU %", "CPU us/record")
        for case in self.runs["partitions"]:
            figure = self._figure("partitions", case)
            table.add_row(
                str(case).removeprefix("partitions: "),
                figure("{:.1f}", "start_s"),
                figure("{:.1f}", "idle_percent"),
                figure("{:,.0f}", "cpu_us_per_record"),
            )
        return table

    def _recovery(self) -> Table:
        table = _table(
            "In ms from SIGKILL on; bound: 1 s and the replay, from restart to first output",
            "words/s fed",
            "events replayed",
            "replay events/s",
            "live events/s",
            "READY",
            "first output",
            "from restart",
            "bound",
            "met",
            "lag drained",
            "peak latency",
        )
        for case in self.runs["recovery"]:
            figure = self._figure("recovery", case)
            runs = self.runs["recovery"][case].values()
            whole = [run for run in runs if "error" not in run]
            met = sum(run["is_met"] for run in whole)
            drained = figure("{:,.0f}", "read_uncommitted", "drained_ms")
            if any(run["read_uncommitted"]["drained_ms"] is None for run in whole):
                drained = f"{drained} not drained".strip()
            table.add_row(
                # A load that the worker cannot sustain shows no recovery.
                str(case) if all(run["is_steady"] for run in whole) else f"{case}, overloaded",
                figure("{:,.0f}", "load_per_s"),
                figure("{:,.0f}", "replayed"),
                figure("{:,.0f}", "replay_per_s"),
                figure("{:,.0f}", "live_per_s"),
                figure("{:,.0f}", "ready_ms"),
                figure("{:,.0f}", "read_uncommitted", "first_output_ms") or "never",
                figure("{:,.0f}", "after_restart_ms"),
                figure("{:,.0f}", "bound_ms"),
                f"{met}/{len(runs)}" if len(runs) > 1 else ("yes" if met else "no"),
                drained or "failed",
                figure("{:,.0f}", "read_uncommitted", "peak_ms"),
            )
        return table

    def _phases(self) -> Table:
        table = _table("Where the time goes, in ms, of the task group that is live last", *PHASES)
        for case in self.runs["recovery"]:
            figure = self._figure("recovery", case)
            table.add_row(
                str(case), *(figure("{:,.0f}", "phases_ms", phase) or "0" for phase in PHASES)
            )
        return table

    def _others(self) -> Table:
        table = _table(
            "Tasks of a worker while another one is killed and restarted",
            "records/s",
            "least before",
            "least meanwhile",
            "p99 before, ms",
            "p99 meanwhile",
        )
        for case in self.runs["others"]:
            figure = self._figure("others", case)
            table.add_row(
                str(case),
                figure("{:,.0f}", "records_per_s_before"),
                figure("{:,.0f}", "records_per_s_before_min"),
                figure("{:,.0f}", "records_per_s_during_min"),
                figure("{:.1f}", "latency_before", "p99_ms"),
                figure("{:.1f}", "latency_during", "p99_ms"),
            )
        return table

    def _checkpoints(self) -> Table:
        table = _table(
            "Cost of checkpoints",
            "outputs/s",
            "to never",
            "CPU us/output",
            "to never",
            "checkpoints",
            "stands still %",
        )
        never = next(iter(self.runs["checkpoints"]))
        for case in self.runs["checkpoints"]:
            figure = self._figure("checkpoints", case)
            ratios = []
            for name in ("outputs_per_s", "cpu_us_per_output"):
                here, there = (self.spread("checkpoints", c, name) for c in (case, never))
                ratios.append(f"{here[0] / there[0]:.3f}" if here and there else "")
            table.add_row(
                str(case),
                figure("{:,.0f}", "outputs_per_s"),
                ratios[0],
                figure("{:.2f}", "cpu_us_per_output"),
                ratios[1],
                figure("{:.0f}", "checkpoints") or "0",
                figure("{:.2%}", "stall_share") or "0",
            )
        return table

    def _figure(self, kind: str, case: Any) -> Callable[..., str]:
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
