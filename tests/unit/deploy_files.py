"""The Dockerfile and docker-compose.yml, parsed."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"

VARIABLES = "KSTASH_"
"""How variables begin that are settings."""


@dataclass(slots=True)
class Stage:
    """One stage of the Dockerfile: its instructions in order, as (name, value)."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def values(self, name: str) -> list[str]:
        """Values of all instructions of one name."""
        return [value for step, value in self.steps if step == name]

    def environment(self) -> dict[str, str]:
        """Variables that it sets."""
        text = " ".join(self.values("ENV"))
        return dict(re.findall(r"(\w+)=(\S+)", text))

    def list_of(self, name: str) -> list[str]:
        """The last instruction's value in its exec form."""
        found: list[str] = json.loads(self.values(name)[-1].partition("CMD ")[2] or self.last(name))
        return found

    def last(self, name: str) -> str:
        """The last instruction's value."""
        return self.values(name)[-1]


def stages() -> list[Stage]:
    """Stages of the Dockerfile."""
    parser = DockerfileParser(fileobj=io.BytesIO(DOCKERFILE.read_bytes()))
    found: list[Stage] = []
    for step in parser.structure:
        name, value = step["instruction"], step["value"]
        if name == "FROM":
            base, _, alias = value.partition(" AS ")
            found.append(Stage(base, alias))
        elif name != "COMMENT":
            found[-1].steps.append((name, value))
    return found


def compose() -> dict[str, Any]:
    """The compose file, its merges done."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return found


def services() -> dict[str, dict[str, Any]]:
    """Services by name."""
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found
