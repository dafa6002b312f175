"""`kstash time`: how far time has come in a running application, and what holds it back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from kstash.cli.options import AsJson, Connection, configured
from kstash.cli.status import Url, address_of, ask_workers
from kstash.cli.status_picture import Json, duration
from kstash.cli.tables import table_console
from kstash.escape import printable

TIMES_MAX = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


@configured
def show_time(connection: Connection, url: Url = None, as_json: AsJson = False) -> None:
    """Show how far time has come in each task and operator, and what holds it back.

    The slowest tasks stand first, each with its operators that go by time. In watermark mode the
    time of a task is its event time, else the greatest timestamp that it has processed. Asks as
    `kstash status` does, and exits with 1 when nobody answers.
    """
    config = connection.config()
    address = (url or address_of(config)).rstrip("/")
    found = ask_workers(address, config.http_token, config.http_tls_certificate)
    rows, missing = rows_of(found), missing_of(found)
    if as_json:
        print(json.dumps({"tasks": rows, "unreachable": missing}))
        return
    console = table_console()
    console.print(_drawn(rows))
    for worker in missing:
        console.print(Text(f"{worker['address']}: {worker['error']}", "bold red"))


def rows_of(answer: Json) -> list[Json]:
    """One row for each task and, after it, for each of its operators that goes by time.

    Args:
        answer: of `GET /workers`.

    Returns:
        With `task`, `operator` (None: the row is the task's), `worker`, `time` in Unix seconds,
        `utc`, `behind_seconds` (how far that is behind the worker's clock), and of tasks
        `held_seconds` and `held_by`; of operators `held_by` has `reason` and `text`, where windows
        before them in their stage hold time back, and else is None. The slowest task is the first,
        those without a time before it.
    """
    found: list[tuple[float, str, list[Json]]] = []
    for status in filter(None, (entry.get("status") for entry in answer["workers"])):
        for task in status.get("tasks", ()):
            of_operators = task.get("operator_times") or {}
            rows = [_row(status, task, None, task.get("event_time"))]
            rows += [_row(status, task, label, at) for label, at in of_operators.items()]
            held = task.get("operators_held") or {}
            for row in rows[1:]:
                text = held.get(row["operator"])
                row["held_by"] = None if text is None else {"reason": "windows", "text": text}
            rows[0]["held_seconds"] = task.get("held_seconds", 0.0)
            rows[0]["held_by"] = task.get("held_by")
            least = min((row["time"] for row in rows if row["time"] is not None), default=0.0)
            found.append((least, rows[0]["task"], rows))
    found.sort(key=lambda each: each[:2])
    return [row for _, _, rows in found for row in rows]


def missing_of(answer: Json) -> list[Json]:
    """The workers that do not answer, with `address` and `error`."""
    return [
        {
            "address": printable(str(entry.get("address", "?"))),
            "error": printable(str(entry.get("error") or "not reachable")),
        }
        for entry in answer["workers"]
        if not entry.get("status")
    ]


def _row(status: Json, task: Json, operator: str | None, at_s: float | None) -> Json:
    return {
        "task": task.get("name", "?"),
        "operator": operator,
        "worker": status.get("worker", "?"),
        "time": at_s,
        "utc": _utc(at_s),
        "behind_seconds": None if at_s is None else status["time"] - at_s,
    }


def _utc(at_s: float | None) -> str | None:
    if at_s is None or not 0 <= at_s < TIMES_MAX:
        return None
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _drawn(rows: list[Json]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("task", "operator", "time (UTC)", "behind", "ahead of it", "held back by"):
        is_number = column in ("behind", "ahead of it")
        table.add_column(column, justify="right" if is_number else "left", no_wrap=True)
    for row in rows:
        is_task = row["operator"] is None
        table.add_row(
            _text(row["task"]) if is_task else "",
            "" if is_task else _text(row["operator"]),
            row["utc"] or "-",
            _behind(row["behind_seconds"]),
            duration(row["held_seconds"]) if is_task else "",
            _held(row["held_by"], is_task=is_task),
        )
    return table


def _behind(seconds: float | None) -> str:
    return (
        f"{duration(-seconds)} ahead" if seconds is not None and seconds < 0 else duration(seconds)
    )


def _held(held: Json | None, *, is_task: bool) -> str:
    if not held:
        return "nothing" if is_task else ""
    text = _text(held["text"])
    return f"{text}, for {duration(held['seconds'])}" if is_task else text


def _text(value: Any) -> str:
    return printable(str(value))
