"""The status page: what this worker does, as plain HTML without scripts."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from kstash.ports import TaskStatus, WorkerStatus

STYLE = """
:root { color-scheme: light dark; --line: #d9dde3; --soft: #667085; --card: #f6f7f9;
  --good: #157f4b; --busy: #b25e09; --bad: #b42318; }
@media (prefers-color-scheme: dark) { :root { --line: #343a44; --soft: #9aa4b2; --card: #1c2128;
  --good: #4cc38a; --busy: #f1a10d; --bad: #ff9592; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2.5rem auto;
  padding: 0 1.25rem; }
header { display: flex; align-items: baseline; gap: .75rem; flex-wrap: wrap; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
.state { font-weight: 600; } .state::before { content: "\\25CF\\00A0"; }
.good { color: var(--good); } .busy { color: var(--busy); } .bad { color: var(--bad); }
.soft, th { color: var(--soft); font-weight: normal; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .75rem;
  margin: 1.5rem 0 0; }
dl div { background: var(--card); border-radius: .5rem; padding: .6rem .9rem; }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; font-size: 1.25rem; }
dd, td.number { font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .4rem 1.5rem .4rem 0; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th.number, td.number { text-align: right; }
footer { margin-top: 2rem; font-size: .85rem; }
a { color: inherit; }
"""

REFRESH_S = 2

_STATE_CLASSES = {"live": "good", "starting": "busy", "recovering": "busy", "stopping": "busy"}

_TILES: tuple[tuple[str, str, Callable[[float], str]], ...]


def _count(value: float) -> str:
    # U+2009: a thin space groups digits the same for every reader.
    return f"{int(value):,}".replace(",", "\u2009")


def _bytes(value: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


_TILES = (
    ("Records in", "records_in", _count),
    ("Records out", "records_out", _count),
    ("Lineage in flight", "lineage_unacked_bytes", _bytes),
    ("Lineage written", "lineage_appended_bytes", _bytes),
    ("Checkpoints", "checkpoints", _count),
    ("Sink commits", "commits", _count),
    ("Recoveries", "recoveries", _count),
    ("Replayed records", "replayed_records", _count),
    ("Outputs suppressed", "suppressed_outputs", _count),
    ("Stalls", "stalls", _count),
)


def render_page(
    status: WorkerStatus, total: Callable[[str], float], *, uptime_s: float, is_stuck: bool
) -> str:
    """The page.

    Args:
        status: what the loop said last.
        total: value of a counter or plain gauge.
        uptime_s: since the worker started.
        is_stuck: whether the loop has not turned for long.
    """
    state = "not responding" if is_stuck else status.state
    kind = "bad" if is_stuck else _STATE_CLASSES.get(state, "bad")
    tiles = "".join(
        f"<div><dt>{label}</dt><dd>{text(total(name))}</dd></div>" for label, name, text in _TILES
    )
    rows = "".join(map(_row, status.tasks))
    if not rows:
        rows = '<tr><td colspan="6" class="soft">This worker has no tasks yet.</td></tr>'
    name = escape(status.application_id)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="{REFRESH_S}">
<title>{name} · {escape(state)} · kstash</title>
<style>{STYLE}</style>
</head>
<body>
<header><h1>{name}</h1><span class="state {kind}">{escape(state)}</span>
<span class="soft">{escape(status.guarantee)} · up {_duration(uptime_s)}</span></header>
<dl>{tiles}</dl>
<h2>Tasks of this worker</h2>
<div class="scroll"><table>
<thead><tr><th>Task</th><th>State</th><th class="number">Position</th>
<th class="number">Checkpoint</th><th class="number">Lag</th><th>Inputs</th></tr></thead>
<tbody>{rows}</tbody>
</table></div>
<footer class="soft">Position: events processed. Checkpoint: position of the last one taken.
Lag: records behind the end of the inputs. <a href="/metrics">metrics</a> ·
<a href="/ready">ready</a> · <a href="/health">health</a></footer>
</body>
</html>
"""


def _row(task: TaskStatus) -> str:
    kind = _STATE_CLASSES.get(task.state, "busy")
    state = task.state
    if state == "recovering" and task.replay_end > task.position:
        state = f"replaying to {_count(task.replay_end)}"
    lag = "&ndash;" if task.lag is None else _count(task.lag)
    return (
        f'<tr><td>{escape(task.name)}</td><td class="state {kind}">{escape(state)}</td>'
        f'<td class="number">{_count(task.position)}</td>'
        f'<td class="number">{_count(task.checkpointed_position)}</td>'
        f'<td class="number">{lag}</td>'
        f'<td class="soft">{escape(", ".join(task.inputs))}</td></tr>'
    )


def _duration(seconds: float) -> str:
    minutes, seconds_left = divmod(int(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    days, hours_left = divmod(hours, 24)
    if days:
        return f"{days} d {hours_left} h"
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min {seconds_left} s" if minutes else f"{seconds_left} s"
