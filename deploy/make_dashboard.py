"""Writes the Grafana dashboard anew: `python -m deploy.make_dashboard`. The same each time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deploy.panels import ROWS
from deploy.queries import Panel, Row

TARGET = Path(__file__).parents[1] / "helm" / "kstash" / "files" / "dashboard.json"
"""In the chart, which can read only its own files; docker compose mounts it from there."""

COLUMNS = 24
HEIGHT = 8

SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def panel_json(panel: Panel, number: int, *, x: int, y: int) -> dict[str, Any]:
    """One panel as Grafana stores it."""
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0 if panel.unit != "short" else None}
    if panel.warn is not None:
        defaults["thresholds"] = {
            "mode": "absolute",
            "steps": [{"color": "green", "value": None}, {"color": "red", "value": panel.warn}],
        }
    options: dict[str, Any] = {}
    match panel.kind:
        case "timeseries":
            defaults["custom"] = {"fillOpacity": 8, "showPoints": "never", "lineWidth": 1}
            options = {
                "legend": {"displayMode": "list", "placement": "bottom"},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        case "stat":
            options = {
                "reduceOptions": {"calcs": ["lastNotNull"]},
                "colorMode": "value" if panel.warn is None else "background",
            }
        case "state-timeline":
            options = {"showValue": "never", "legend": {"showLegend": False}}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": {
            "h": HEIGHT,
            "w": COLUMNS * panel.thirds // 3,
            "x": x,
            "y": y,
        },
        "fieldConfig": {
            "defaults": {k: v for k, v in defaults.items() if v is not None},
            "overrides": [],
        },
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": query.expression,
                "legendFormat": query.legend,
                "range": panel.kind != "stat",
                "instant": panel.kind == "stat",
            }
            for index, query in enumerate(panel.queries)
        ],
    }


def row_json(row: Row, number: int, y: int) -> dict[str, Any]:
    """The line above a row's panels."""
    return {
        "id": number,
        "type": "row",
        "title": row.title,
        "collapsed": False,
        "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
        "panels": [],
    }


def laid_out() -> list[dict[str, Any]]:
    """All rows and panels, from left to right, three thirds to a line."""
    placed: list[dict[str, Any]] = []
    y = 0
    for row in ROWS:
        placed.append(row_json(row, len(placed) + 1, y))
        y += 1
        third = 0
        for panel in row.panels:
            if third + panel.thirds > 3:
                y, third = y + HEIGHT, 0
            x = COLUMNS * third // 3
            placed.append(panel_json(panel, len(placed) + 1, x=x, y=y))
            third += panel.thirds
        y += HEIGHT
    return placed


def variable(name: str, label: str, query: str) -> dict[str, Any]:
    """A choice at the top of the page, filled by a query."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": name != "job",
        "includeAll": name != "job",
        "allValue": None if name == "job" else ".*",
        "current": {} if name == "job" else {"text": "All", "value": "$__all"},
    }


def dashboard() -> dict[str, Any]:
    """The whole dashboard."""
    return {
        "uid": "kstash",
        "title": "kstash",
        "description": "An application of kstash: flow, lineage, recovery, state, clients.",
        "tags": ["kstash", "kafka"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "",
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Source",
                    "type": "datasource",
                    "query": "prometheus",
                    "current": {},
                },
                variable("namespace", "Namespace", "label_values(kstash_build_info, namespace)"),
                variable(
                    "job",
                    "Application",
                    'label_values(kstash_build_info{namespace=~"$namespace"}, job)',
                ),
                variable(
                    "instance",
                    "Worker",
                    "label_values("
                    'kstash_build_info{namespace=~"$namespace",job=~"$job"}, instance)',
                ),
            ]
        },
        "annotations": {
            "list": [
                {
                    "name": "Alerts",
                    "datasource": SOURCE,
                    "enable": True,
                    "iconColor": "red",
                    "expr": 'ALERTS{namespace=~"$namespace",job=~"$job",alertstate="firing"}',
                    "titleFormat": "{{alertname}}",
                }
            ]
        },
        "panels": laid_out(),
    }


def text() -> str:
    """The text of the file."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
