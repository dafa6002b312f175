"""Writes the chart's values.schema.json and README.md: `python -m deploy.make_chart`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from deploy.values import VALUES, Schema

CHART = Path(__file__).parents[1] / "helm" / "kstash"

HEAD = Path(__file__).with_name("chart_readme.md")


def schema() -> Schema:
    """The schema of the values: every value by name, and no other."""
    root: Schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart kstash",
        "type": "object",
        "additionalProperties": False,
        "properties": {"global": {"type": "object"}},
    }
    for value in VALUES:
        *folders, name = value.path.split(".")
        place = root
        for folder in folders:
            place = place["properties"].setdefault(
                folder, {"type": "object", "additionalProperties": False, "properties": {}}
            )
        place["properties"][name] = value.schema | (
            {"description": value.text} if value.text else {}
        )
    return root


def schema_text() -> str:
    """The text of values.schema.json."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def default(path: str) -> Any:
    """The value in values.yaml."""
    place: Any = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    for part in path.split("."):
        place = place[part]
    return place


def shown(given: Any) -> str:
    """A default in the table."""
    if given in ("", [], {}):
        return ""
    if isinstance(given, dict):
        return "see `values.yaml`"
    return f"`{json.dumps(given)}`" if not isinstance(given, str) else f"`{given}`"


def readme() -> str:
    """The chart's README."""
    rows = [f"| `{v.path}` | {shown(default(v.path))} | {v.text} |" for v in VALUES]
    return HEAD.read_text(encoding="utf-8") + "\n".join(rows) + "\n"


if __name__ == "__main__":
    (CHART / "values.schema.json").write_text(schema_text(), encoding="utf-8")
    (CHART / "README.md").write_text(readme(), encoding="utf-8")
