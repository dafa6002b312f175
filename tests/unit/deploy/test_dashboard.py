"""The Grafana dashboard: made by its script, asks for what there is, shows all that there is."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.make_dashboard import COLUMNS, TARGET, text
from deploy.panels import ROWS
from deploy.queries import Panel, Query
from kstash.observe.catalog import METRIC_PREFIX, METRICS, OF_SUPERVISOR
from tests.unit.promql import asked, check_expression, promtool

PANELS = [panel for row in ROWS for panel in row.panels]
QUERIES = [(panel.title, query) for panel in PANELS for query in panel.queries]

NOT_DRAWN = {
    "kstash_task_position": "its rate is that of the records; alerts use it",
    "kstash_lineage_appended_entries": "bytes are drawn",
    "kstash_lineage_acked_entries": "bytes are drawn",
    "kstash_lineage_unacked_entries": "bytes are drawn",
    "kstash_checkpoint_uploads": "remote checkpoints are drawn",
    "kstash_stream_time_seconds": "its distance to now is drawn",
    "kstash_operator_time_seconds": "its delay is drawn",
}
"""Metrics without a panel, and why."""


def stored() -> dict[str, Any]:
    """The dashboard that is checked in."""
    found: dict[str, Any] = json.loads(TARGET.read_text(encoding="utf-8"))
    return found


def plain(expression: str) -> str:
    """With values in the place of Grafana's variables."""
    expression = expression.replace("$__rate_interval", "1m").replace("$job", "a")
    expression = expression.replace("$namespace", ".*")
    return expression.replace("$instance", ".*")


def test_it_is_what_the_script_makes() -> None:
    """Else: python -m deploy.make_dashboard."""
    assert TARGET.read_text(encoding="utf-8") == text()
    assert text() == text()


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=lambda value: str(value)[:60])
def test_a_panel_asks_for_what_is_exposed(title: str, query: Query) -> None:
    """Each metric is one of ours or the client library's, with these labels."""
    check_expression(query.expression)
    for name in re.findall(r"{{(\w+)}}", query.legend):
        assert re.search(rf"\b{name}\b", query.expression), f"{title}: {name} is grouped away"


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=lambda value: str(value)[:60])
def test_a_panel_is_of_one_namespace(title: str, query: Query) -> None:
    """Two namespaces may have releases of one name."""
    for metric, labels in asked(query.expression):
        assert {"namespace", "job", "instance"} <= labels, f"{title}: {metric}"


def test_each_metric_has_a_panel() -> None:
    """A new metric is drawn, by a panel in deploy/panels.py, or it is said why not."""
    drawn = {name for _, query in QUERIES for name, _ in asked(query.expression)}
    for spec in (*METRICS, *OF_SUPERVISOR):
        name = METRIC_PREFIX + spec.name
        series = {name, *(f"{name}_{end}" for end in ("total", "bucket", "sum", "count"))}
        assert series & drawn or name in NOT_DRAWN, f"{name} has no panel in deploy/panels.py"


def test_expressions_are_valid(tmp_path: Path) -> None:
    """All of them are rules that promtool takes."""
    rules = [
        {"record": f"kstash:panel:{number}", "expr": plain(query.expression)}
        for number, (_, query) in enumerate(QUERIES)
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    checked = subprocess.run(
        [promtool(), "check", "rules", file],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_nothing_lies_over_another() -> None:
    """Every panel has a place and a number of its own, within the page."""
    taken: dict[tuple[int, int], str] = {}
    panels = stored()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= COLUMNS
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} over {taken[x, y]}"
                taken[x, y] = panel["title"]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_a_panel_says_what_it_shows(panel: Panel) -> None:
    """A text, and a title that no other has."""
    assert panel.text.endswith(".")
    assert [other.title for other in PANELS].count(panel.title) == 1
    assert len(panel.queries) <= 26
