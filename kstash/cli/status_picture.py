"""The picture of `kstash status`: answers of `GET /workers` as tables and lines of a terminal."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from kstash.escape import printable

TASKS_SHOWN = 40
LATEST_SHOWN = 3
STYLES = {"live": "green", "recovering": "yellow", "stopping": "yellow", "starting": "yellow"}

Json = dict[str, Any]


def drawn(answer: Json, problem: str | None) -> Group:
    """The whole picture.

    Args:
        answer: of `GET /workers`.
        problem: why there is no newer answer.
    """
    entries = [entry for entry in answer["workers"] if isinstance(entry, dict)]
    statuses = [entry["status"] for entry in entries if entry.get("status")]
    parts: list[Any] = [_head(statuses, len(entries)), _workers(entries)]
    tasks = [(status, task) for status in statuses for task in status.get("tasks", ())]
    if tasks:
        parts += [Text(), _tasks(tasks)]
    parts += _latest(statuses)
    waits = dict.fromkeys(_text(s["waiting_for"]) for s in statuses if s.get("waiting_for"))
    parts[1:1] = [Text(text, "bold red") for text in waits]
    if problem is not None:
        parts += [Text(), Text(problem, "bold red")]
    return Group(*parts)


def _head(statuses: list[Json], count: int) -> Text:
    first = statuses[0] if statuses else {}
    words = [_text(first.get("application_id", "?")), _text(first.get("guarantee", ""))]
    words += [f"kstash {_text(first.get('kstash', ''))}", f"{len(statuses)} of {count} workers"]
    return Text("  ".join(word for word in words if word), "bold")


def _workers(entries: list[Json]) -> Table:
    table = _table(
        "worker", "state", "up", "live", "in/s", "out/s", "latency", "lag", "lineage", "memory"
    )
    for entry in entries:
        status = entry.get("status")
        if not status:
            reason = Text(_text(entry.get("error") or "not reachable"), "bold red")
            table.add_row(_text(entry.get("address", "?")), reason)
            continue
        tasks = status.get("tasks", ())
        live = sum(task.get("state") == "live" for task in tasks)
        last = (status.get("history") or [{}])[-1]
        lags = [task["lag_records"] for task in tasks if task.get("lag_records") is not None]
        state = _text(status.get("state", ""))
        table.add_row(
            _text(status.get("worker", "?")),
            Text(state, STYLES.get(state, "bold red")),
            duration(status.get("uptime_seconds")),
            f"{live}/{len(tasks)}",
            _number(last.get("records_in_per_second")),
            _number(last.get("records_out_per_second")),
            _milliseconds(last.get("latency_seconds")),
            _number(sum(lags)) if lags else "-",
            _size(last.get("lineage_unacked_bytes")),
            _size(last.get("state_bytes")),
        )
    return table


def _tasks(tasks: list[tuple[Json, Json]]) -> Group:
    # Tasks that are not live first, then those with the largest lag.
    tasks = sorted(
        tasks, key=lambda pair: (pair[1].get("state") == "live", -(pair[1].get("lag_records") or 0))
    )
    table = _table("task", "worker", "state", "position", "lag", "behind", "checkpoint")
    for status, task in tasks[:TASKS_SHOWN]:
        state = _text(task.get("state", ""))
        marks = {mark.get("task"): mark for mark in status.get("checkpoints", ())}
        mark = marks.get(task.get("name"), {})
        position, end = task.get("position", 0), task.get("replay_end", 0)
        is_replaying = state != "live" and end > position
        table.add_row(
            _text(task.get("name", "?")),
            _text(status.get("worker", "?")),
            Text(state, STYLES.get(state, "bold red")),
            f"{position:,} of {end:,}" if is_replaying else _number(position),
            _number(task.get("lag_records")),
            duration(task.get("lag_seconds")),
            duration(mark.get("age_seconds")),
        )
    rest = len(tasks) - TASKS_SHOWN
    return Group(table, Text(f"and {rest} more tasks", "dim")) if rest > 0 else Group(table)


def _latest(statuses: list[Json]) -> list[Text]:
    recoveries = _newest(statuses, "recoveries", "ended")
    lines = [
        Text(
            f"{_clock(item.get('ended'))}  task group {_text(item.get('group'))} recovered in "
            f"{duration(item.get('seconds'))}, {_number(item.get('replayed'))} replayed"
        )
        for item in recoveries
    ]
    lines += [Text(line, "yellow") for line in _warnings(statuses)]
    return [Text(), *lines] if lines else []


def _warnings(statuses: list[Json]) -> list[str]:
    """The newest warnings; one that several workers report is one line with their names."""
    reported: dict[str, tuple[float, list[str]]] = {}
    for status in statuses:
        worker = _text(status.get("worker", "?"))
        for item in status.get("errors", ()):
            words = [_text(item[name]) for name in ("event", "error", "place") if item.get(name)]
            moment, workers = reported.get(": ".join(words), (0.0, []))
            if worker not in workers:
                workers.append(worker)
            reported[": ".join(words)] = max(moment, item.get("time") or 0.0), workers
    newest = sorted(reported.items(), key=lambda pair: pair[1][0])[-LATEST_SHOWN:]
    return [f"{_clock(at)}  {', '.join(workers)}: {words}" for words, (at, workers) in newest]


def _newest(statuses: list[Json], name: str, moment: str) -> list[Json]:
    found = [item for status in statuses for item in status.get(name, ())]
    return sorted(found, key=lambda item: item.get(moment) or 0)[-LATEST_SHOWN:]


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        left = column in ("worker", "task", "state")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    return table


def _text(value: object) -> str:
    return printable(str(value))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.0f} ms"


def _size(count: float | None) -> str:
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"


def duration(seconds: float | None) -> str:
    """Such as `1.5 s`, `3 min 20 s` or `2 h 05 min`; `-` where it is not known."""
    if seconds is None:
        return "-"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _clock(moment: float | None) -> str:
    return "-" if moment is None else time.strftime("%H:%M:%S", time.localtime(moment))
