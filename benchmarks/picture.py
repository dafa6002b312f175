"""Throughput and latency over time around a kill, as the papers on fault tolerance draw them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

FROM_S, TO_S = -2.0, 6.0
BIN_S = 0.1
Timeline = dict[str, Any]


def draw(runs: Sequence[tuple[str, Timeline]], others: dict[str, Any] | None, path: Path) -> None:
    """Write a picture (its format by the suffix); zero is the kill.

    Args:
        runs: name and timeline of each crash to show.
        others: a run of `benchmarks.others`, in a column of its own.
        path: of the picture.

    Raises:
        ImportError: matplotlib is not installed (extra `kstash[bench]`).
    """
    import matplotlib as mpl

    mpl.use("svg" if path.suffix == ".svg" else "agg")
    mpl.rcParams["svg.hashsalt"] = "kstash"
    from matplotlib import pyplot

    columns = [
        *([("Killed and started again at once", runs)] if runs else []),
        *([("Tasks of another worker", _split(others))] if others is not None else []),
    ]
    width = 6.5 * len(columns)
    figure, axes = pyplot.subplots(2, len(columns), sharex=True, figsize=(width, 6), squeeze=False)
    for (title, lines), (above, below) in zip(columns, axes.T, strict=True):
        above.set_title(title)
        for name, timeline in lines:
            for axis, points in ((above, _throughput(timeline)), (below, _latency(timeline))):
                axis.plot(*zip(*points, strict=True), label=name, linewidth=1.2)
        above.set_ylabel("records/s, in thousands")
        above.set_ylim(bottom=0)
        above.legend(fontsize="small")
        below.set_ylabel("latency in ms (worst)")
        below.set_yscale("log")
        below.set_xlabel("seconds since the kill")
        below.set_xlim(FROM_S, TO_S)
        for axis in (above, below):
            axis.axvline(0, color="grey", linewidth=0.8, linestyle=":")
            axis.grid(alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def _split(run: dict[str, Any]) -> list[tuple[str, Timeline]]:
    """The timeline of two workers, one for each."""
    whole = run["timeline"]["read_uncommitted"]
    parts = []
    for name in ("kept", "killed"):
        partitions = run[f"{name}_partitions"]
        records = {p: bins for p, bins in whole["records"].items() if int(p) in partitions}
        latency = [mark for mark in whole["latency"] if mark[2] in partitions]
        parts.append((f"worker that is {name}", {"records": records, "latency": latency}))
    return parts


def _throughput(timeline: Timeline) -> list[tuple[float, float]]:
    """Thousands of records a second over seconds since the kill, as long as there is a load."""
    last_ms = max((due for due, *_ in timeline["latency"]), default=0.0)
    fed = [number for number in _bins() if number * BIN_S < last_ms / 1000 - BIN_S]
    sums = dict.fromkeys(fed, 0.0)
    for bins in timeline["records"].values():
        for ms, count in bins:
            number = int(ms / 1000 // BIN_S)
            if number in sums:
                sums[number] += count
    return [(number * BIN_S, count / BIN_S / 1000) for number, count in sums.items()]


def _latency(timeline: Timeline) -> list[tuple[float, float]]:
    """Worst latency in ms of what was due in a bin; bins without a record are left out."""
    worst: dict[int, float] = {}
    for due, late, _ in timeline["latency"]:
        number = int(due / 1000 // BIN_S)
        worst[number] = max(late, worst.get(number, 0.0))
    return [(number * BIN_S, worst[number]) for number in _bins() if number in worst]


def _bins() -> range:
    return range(int(FROM_S / BIN_S), int(TO_S / BIN_S))
