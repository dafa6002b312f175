"""Writes the tables of reference.md that follow from the code.

    python docs/make_reference.py

Settings are the fields of `kstash.Config` with what is said below each, metrics are those of
`kstash.observe.catalog`, log lines the calls of loggers in `kstash/`. What a line means is written
in the page itself: a line without a meaning gets an empty one here, and a test refuses that.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args, get_origin

from kstash.observe.catalog import METRIC_PREFIX, METRICS, OF_SUPERVISOR
from kstash.observe.metric_spec import MetricSpec
from kstash.settings.config import Config
from kstash.settings.fields import ConfigFields

PAGE = Path(__file__).parent / "reference.md"
PACKAGE = Path(__file__).parents[1] / "kstash"

LEVELS = ("info", "warning", "error", "critical")

MIB, KIB = 1 << 20, 1 << 10

SEE = {
    "kafka": "[Secrets](operating/running.md#secrets)",
    "guarantee": "[Guarantees](guarantees.md)",
    "skip_records": "[Records to pass over](operating/recovery.md#records-to-pass-over)",
    "drop_stores": "[Upgrading](operating/upgrading.md)",
    "checkpoint_store": "[Remote checkpoints](operating/recovery.md#remote-checkpoints)",
    "http_hosts_allowed": "[Who may ask](operating/watching.md#who-may-ask)",
    "http_token": "[Who may ask](operating/watching.md#who-may-ask)",
    "http_tls_certificate": "[Who may ask](operating/watching.md#who-may-ask)",
    "stall_ms_max": "[Probes](operating/watching.md#probes)",
}
"""Where more is said of a setting."""


def row(cells: Iterable[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    heads = tuple(heads)
    return "\n".join([row(heads), "|---" * len(heads) + "|", *map(row, rows)])


# --- settings -----------------------------------------------------------------------------------


def shown(value: Any, name: str) -> str:
    """A default or bound as the table shows it."""
    if value in (None, {}, ()):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and "bytes" in name and value >= KIB and value % KIB == 0:
        return f"{value // MIB} MiB" if value % MIB == 0 else f"{value // KIB} KiB"
    return f"`{value}`" if isinstance(value, str | tuple) else str(value)


def _literals(annotation: Any) -> list[str]:
    if get_origin(annotation) is not None and all(isinstance(a, str) for a in get_args(annotation)):
        return list(get_args(annotation))
    return []


def default_and_range(name: str) -> tuple[str, str]:
    """What a setting is unless it is set, and what it may be."""
    field = Config.model_fields[name]
    value = field.get_default(call_default_factory=True)
    default = "required" if field.is_required() else shown(value, name)
    constraints = [*field.metadata]
    for part in get_args(field.annotation):
        for metadata in getattr(part, "__metadata__", ()):
            constraints += getattr(metadata, "metadata", [metadata])
    least = [c.ge for c in constraints if hasattr(c, "ge")]
    most = [c.le for c in constraints if hasattr(c, "le")]
    allowed = ", ".join(f"`{choice}`" for choice in _literals(field.annotation))
    if field.annotation is bool:
        allowed = "true, false"
    elif least and most:
        allowed = f"{shown(least[0], name)} to {shown(most[0], name)}"
    elif least:
        allowed = f"{shown(least[0], name)} or more"
    return default, allowed


def said_of_settings() -> dict[str, str]:
    """What stands below each field of `ConfigFields`."""
    said, name = {}, ""
    for node in ast.parse(inspect.getsource(ConfigFields)).body[0].body:
        if isinstance(node, ast.AnnAssign):
            name = node.target.id
        elif isinstance(node, ast.Expr) and name:
            said[name] = re.sub(r"\s+", " ", node.value.value).strip().rstrip(".")
            name = ""
    return said


def settings() -> str:
    """The table of settings."""
    described = said_of_settings()
    rows = []
    for name in Config.model_fields:
        default, allowed = default_and_range(name)
        said = described[name]
        # The description has the range too; here it has a column.
        text = re.sub(rf"[,;] {re.escape(allowed)}(?=[:;.]|$)", "", said)
        text += f". See {SEE[name]}" if name in SEE else ""
        rows.append((f"`{name}`", default, allowed, text))
    return table(("setting", "default", "allowed", "what it does"), rows)


# --- metrics ------------------------------------------------------------------------------------


def metric(spec: MetricSpec) -> tuple[str, str, str, str]:
    """Name, type, labels and text of a metric."""
    suffix = "_total" if spec.kind == "counter" else ""
    labels = ", ".join(f"`{label}`" for label in spec.labels)
    return f"`{METRIC_PREFIX}{spec.name}{suffix}`", spec.kind, labels, spec.text.rstrip(".")


def metrics(specs: Iterable[MetricSpec]) -> str:
    """A table of metrics."""
    return table(("metric", "type", "labels", "says"), map(metric, specs))


# --- log lines ----------------------------------------------------------------------------------


def log_lines() -> dict[str, str]:
    """The levels of each line of level info and above, by the constant parts of its text."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            level = node.func.attr
            if level not in (*LEVELS, "log") or "log" not in ast.unparse(node.func.value):
                continue
            event = node.args[level == "log"]  # after the level
            for part in ast.walk(event):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    found.setdefault(part.value, set()).add(level if level in LEVELS else "any")
    return {
        text: " or ".join(level for level in (*LEVELS, "any") if level in levels)
        for text, levels in found.items()
    }


def lines(written: str) -> str:
    """The table of log lines: their meanings and their order are those that are written there."""
    meanings = {}
    for line in written.splitlines()[2:]:
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        meanings[cells[0].strip("`")] = cells[-1]
    levels = log_lines()
    kept = [text for text in meanings if text in levels]
    added = [text for text in levels if text not in meanings]
    rows = ((f"`{text}`", levels[text], meanings.get(text, "")) for text in kept + added)
    return table(("line", "level", "means"), rows)


# --- the page -----------------------------------------------------------------------------------


def made(name: str, written: str) -> str:
    """The table of that name; `written` is what stands there now."""
    if name == "settings":
        return settings()
    if name == "metrics":
        return metrics(METRICS)
    if name == "metrics of a supervisor":
        return metrics(OF_SUPERVISOR)
    return lines(written)


def page() -> str:
    """The page with the tables as the code has them."""
    return re.sub(
        r"(<!-- ([\w ]+): made[^\n]* -->\n)(.*?)(\n<!-- end -->)",
        lambda found: f"{found[1]}\n{made(found[2], found[3].strip())}\n{found[4]}",
        PAGE.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
