"""What a person sees of the demo: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import re
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

BARS = " ▁▂▃▄▅▆▇█"
HISTORY_COLUMNS = 64
TOP_WORDS = 10
PLAIN_LINE_EVERY_S = 2.0
STATE_STYLES = {"live": "bold green", "killed": "bold white on red", "done": "bold cyan"}


@dataclass(slots=True)
class Snapshot:
    """One look at the running demo.

    Attributes:
        elapsed_s: since the demo began, without the start of the broker.
        state: of the worker, in a word or two.
        sent, seen: words played, outputs visible to a plain reader.
        rate: outputs a second that became visible of late.
        latency_ms: median and 99th percentile, record to output visible to a plain reader; None
            without outputs.
        at_once_ms: the same for kstash's reader.
        lineage_bytes, header_bytes: lineage in the lineage topic and kstash's headers on outputs,
            written by the worker process so far; None when unknown.
        top: the most frequent words and their counts.
    """

    elapsed_s: float = 0.0
    state: str = "starting"
    sent: int = 0
    seen: int = 0
    rate: float = 0.0
    latency_ms: tuple[int, int] | None = None
    at_once_ms: tuple[int, int] | None = None
    lineage_bytes: float | None = None
    header_bytes: float | None = None
    top: list[tuple[str, int]] = field(default_factory=list)


class Screen:
    """Shows snapshots and events; a context manager.

    Attributes:
        is_live: a terminal is there to draw on.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self.is_live = self._console.is_terminal
        self._events: deque[tuple[float, str, str]] = deque(maxlen=5)
        self._rates: list[float] = []
        self._snapshot = Snapshot()
        self._last_line_s = -PLAIN_LINE_EVERY_S
        self._live: Live | None = None

    def __enter__(self) -> Screen:
        if self.is_live:
            self._live = Live(
                console=self._console, refresh_per_second=5, get_renderable=self.render
            )
            self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.__exit__(kind, error, traceback)
            self._live = None

    def say(self, message: str, style: str = "") -> None:
        """Print a line of its own, outside the live table."""
        self._console.print(message, style=style)

    def event(self, message: str, style: str = "") -> None:
        """Something happened: keep it in sight."""
        self._events.append((self._snapshot.elapsed_s, message, style))
        if not self.is_live:
            self._console.print(f"{self._snapshot.elapsed_s:5.1f} s  {message}", soft_wrap=True)

    def show(self, snapshot: Snapshot) -> None:
        """Take the newest snapshot (a few a second)."""
        self._snapshot = snapshot
        self._rates.append(snapshot.rate)
        is_due = snapshot.elapsed_s - self._last_line_s >= PLAIN_LINE_EVERY_S
        if not self.is_live and is_due:
            self._last_line_s = snapshot.elapsed_s
            self._console.print(plain_line(snapshot), soft_wrap=True)

    def render(self) -> RenderableType:
        """Draw the live table: 78 columns, 21 lines."""
        table = Table.grid(expand=True, padding=(0, 2))
        table.add_column(ratio=1)
        table.add_column(ratio=1)
        table.add_row(self._words(), self._numbers())
        return Panel(
            Group(table, Text(), self._history(), Text(), *self._timeline()),
            title="[bold]kstash[/] · word count, exactly once",
            subtitle="Pride and Prejudice, through a real Apache Kafka",
            border_style="cyan",
            width=min(self._console.width, 96),
        )

    def save(self, path: Path) -> None:
        """Write the table as it is now, as a picture (SVG) that asks for no font from elsewhere.

        Raises:
            OSError: it cannot be written there.
        """
        console = Console(record=True, width=96, file=io.StringIO(), force_terminal=True)
        console.print(self.render())
        drawn = console.export_svg(title="kstash demo")
        path.write_text(re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL), encoding="utf-8")

    def _words(self) -> RenderableType:
        table = Table(box=None, padding=(0, 1), header_style="dim", expand=True)
        table.add_column("word", min_width=5)
        table.add_column("count", justify="right")
        table.add_column("", ratio=1)
        most = max((count for _, count in self._snapshot.top), default=1)
        rows = self._snapshot.top[:TOP_WORDS]
        for word, count in rows:
            table.add_row(word, f"{count:,}", Text("█" * round(count / most * 14), style="cyan"))
        for _ in range(TOP_WORDS - len(rows)):
            table.add_row("", "", "")
        return table

    def _numbers(self) -> RenderableType:
        now = self._snapshot
        table = Table(box=None, padding=(0, 1), show_header=False)
        table.add_column(style="dim")
        table.add_column(justify="right", min_width=14)
        state_style = STATE_STYLES.get(now.state, "bold yellow")
        table.add_row("worker", Text(f" {now.state} ", style=state_style))
        table.add_row("time", f"{now.elapsed_s:.0f} s")
        table.add_row("words played", f"{now.sent:,}")
        table.add_row("words counted", f"{now.seen:,}")
        table.add_row("behind", f"{now.sent - now.seen:,}")
        table.add_row("words/s", f"{now.rate:,.0f}")
        table.add_row("latency, plain", _latency(now.latency_ms))
        table.add_row("latency, kstash", _latency(now.at_once_ms))
        table.add_row("lineage topic", _bytes(now.lineage_bytes))
        table.add_row("output headers", _bytes(now.header_bytes))
        return table

    def _history(self) -> RenderableType:
        rates = _squeeze(self._rates, HISTORY_COLUMNS)
        most = max(rates, default=0.0) or 1.0
        bars = "".join(BARS[round(rate / most * (len(BARS) - 1))] for rate in rates)
        return Text.assemble((" words/s  ", "dim"), (bars, "green"))

    def _timeline(self) -> list[Text]:
        lines = [
            Text.assemble((f"{at:6.1f} s  ", "dim"), (message, style))
            for at, message, style in self._events
        ]
        assert self._events.maxlen is not None
        return lines + [Text()] * (self._events.maxlen - len(lines))


def plain_line(now: Snapshot) -> str:
    """One snapshot as one line of text."""
    top = ", ".join(f"{word} {count:,}" for word, count in now.top[:3])
    return (
        f"{now.elapsed_s:5.1f} s  worker {now.state}; {now.seen:,} of {now.sent:,} words counted; "
        f"{now.rate:,.0f} words/s; latency p50/p99 plain {_latency(now.latency_ms)}, "
        f"kstash reader {_latency(now.at_once_ms)}; "
        f"lineage {_bytes(now.lineage_bytes)}, headers {_bytes(now.header_bytes)}; top: {top}"
    )


def _squeeze(values: list[float], columns: int) -> list[float]:
    """The whole history in at most so many columns, by means of equal parts."""
    if len(values) <= columns:
        return values
    edges = [index * len(values) // columns for index in range(columns + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]


def _latency(value: tuple[int, int] | None) -> str:
    return "-" if value is None else f"{value[0]:,} / {value[1]:,} ms"


def _bytes(value: float | None) -> str:
    if value is None:
        return "-"
    if value < 10_000:
        return f"{value:,.0f} B"
    return f"{value / 1000:,.0f} kB" if value < 10_000_000 else f"{value / 1e6:,.1f} MB"
