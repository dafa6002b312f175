"""The chart's values: what is documented is what there is, and what is allowed is what works."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.make_chart import CHART, readme, schema, schema_text
from deploy.values import OWNED, VALUES
from kstash.settings.config import Config

SETS = sorted((CHART / "ci").glob("*-values.yaml"))


def values(path: Path) -> dict[str, Any]:
    """Values of a file."""
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def leaves(place: Mapping[str, Any], known: frozenset[str], prefix: str = "") -> Iterator[str]:
    """Paths of all values; one that is documented as a whole is a leaf."""
    for name, value in place.items():
        path = f"{prefix}{name}"
        if path in known or not isinstance(value, dict):
            yield path
        else:
            yield from leaves(value, known, f"{path}.")


def test_schema_and_readme_are_what_the_script_makes() -> None:
    """Else: python -m deploy.make_chart."""
    assert (CHART / "values.schema.json").read_text(encoding="utf-8") == schema_text()
    assert (CHART / "README.md").read_text(encoding="utf-8") == readme()


def test_each_value_is_documented_and_there() -> None:
    """In the same order; none is missing in values.yaml, and none is unknown to the schema."""
    known = frozenset(value.path for value in VALUES)
    assert len(known) == len(VALUES)
    found = list(leaves(values(CHART / "values.yaml"), known))
    assert found == [value.path for value in VALUES]


@pytest.mark.parametrize("path", [CHART / "values.yaml", *SETS], ids=lambda path: path.name)
def test_values_are_allowed(path: Path) -> None:
    """The defaults, and the six sets that the chart is tried with."""
    jsonschema.validate(values(path), schema())


def test_the_schema_is_one() -> None:
    """By the schema of schemas."""
    command = [sys.executable, "-m", "check_jsonschema", "--check-metaschema"]
    found = subprocess.run(
        [*command, CHART / "values.schema.json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"replicas": 3}, "replicas"),
        ({"kafka": {"bootstrapServer": "a:1"}}, "bootstrapServer"),
        ({"settings": {"instance_id": "a"}}, "instance_id"),
        ({"settings": {"Guarantee": "none"}}, "Guarantee"),
        ({"settings": {"kafka": "{}"}}, "kafka"),
        ({"kafka": {"secrets": [{"setting": "sasl.password", "key": "a"}]}}, "secretName"),
        ({"kafka": {"secrets": [{"setting": "sasl.password", "value": "a"}]}}, "value"),
        ({"autoscaling": {"minReplicas": 0}}, "0"),
        ({"metrics": {"monitor": "both"}}, "both"),
        ({"http": {"port": 0}}, "0"),
        ({"applicationId": "a b"}, "a b"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any], names: str) -> None:
    """A misspelt value, one of another type, a setting that the chart makes itself."""
    with pytest.raises(jsonschema.ValidationError) as caught:
        jsonschema.validate(given, schema())
    messages = [caught.value, *(caught.value.context or ())]
    assert any(names in error.message for error in messages)


def test_the_settings_that_the_chart_makes_are_settings() -> None:
    """And those of the sets are too."""
    assert set(OWNED) <= set(Config.model_fields)
    for path in SETS:
        assert values(path).get("settings", {}).keys() <= Config.model_fields.keys()


def test_a_grace_period_is_reckoned_from_the_default_of_kstash() -> None:
    """The guard's `shutdown_timeout_ms` where no value says another."""
    text = (CHART / "templates" / "_guards.tpl").read_text(encoding="utf-8")
    default = Config.model_fields["shutdown_timeout_ms"].default
    assert f'dig "shutdown_timeout_ms" {default} ' in text


def test_the_chart_is_of_this_version() -> None:
    """The image's tag is the package's version where no value says another."""
    project = (CHART.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    chart = values(CHART / "Chart.yaml")
    assert f'\nversion = "{chart["appVersion"]}"\n' in project
    assert json.loads(schema_text())["properties"]["image"]["properties"]["tag"]
