"""The OpenAPI document: complete, and true of what is answered, also to what it does not allow."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

import kstash
from kstash.observe import Observer
from kstash.observe.guard import OPEN
from kstash.observe.openapi import OPERATIONS, openapi_document
from kstash.observe.peers import Peers
from kstash.observe.server import _routes
from kstash.ports.status import WorkerStatus
from kstash.settings.config import Config
from tests.unit.http_source import FakeSource

WATCHING = Path(__file__).parents[3] / "docs/operating/watching.md"
DOCUMENT = openapi_document()
TOKEN = "a-token-that-is-long-enough"


@pytest.mark.parametrize("phase", ["coverage", pytest.param("fuzzing", marks=pytest.mark.prove)])
def test_answers_are_as_the_document_says(phase: str, tmp_path: Path) -> None:
    """Whatever schemathesis makes of it: all codes, types and contents are in the document.

    What it does not allow (methods, queries, no token) is refused by 4xx, and nothing is a 5xx.
    """
    app = kstash.App("word-count")
    app.stream("sentences").key_by(len, key=kstash.int_text).count("lengths").to("counts")
    config = Config.load(application_id="word-count", http_token=TOKEN)
    with Observer(config, app.topology()) as observer:
        observer.serve(0)
        observer.show(lambda: WorkerStatus("word-count", "exactly_once", "live", ()))
        command = [
            *(str(Path(sys.executable).with_name("st")), "run", "--no-color", "--seed=1"),
            *("--checks=all", f"--phases={phase}", "--max-examples=20"),
            *("--header", f"Authorization: Bearer {TOKEN}"),
            f"http://127.0.0.1:{observer.http_port}/openapi.json",
        ]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
    structlog.reset_defaults()
    assert done.returncode == 0, done.stdout
    assert "No issues found" in done.stdout


def test_each_route_is_described() -> None:
    """In the document and in the table of the operations page, and no other."""
    described = {operation.path for operation in OPERATIONS}
    assert set(DOCUMENT["paths"]) == described
    served = {route.path for route in _routes(FakeSource(), Peers(()))}
    assert {*served, "/"} == described
    section = WATCHING.read_text(encoding="utf-8").partition("\n## HTTP\n")[2]
    rows = re.findall(r"^\| (`/.*?) \|", section.partition("\n### ")[0], re.MULTILINE)
    listed = {path for row in rows for path in re.findall(r"`(/[a-z.]*)`", row)}
    assert listed == described


def test_open_routes_are_those_that_are_open() -> None:
    """What needs no token says so."""
    assert {operation.path for operation in OPERATIONS if operation.is_open} == set(OPEN)


def test_each_field_is_explained() -> None:
    """By the words of its struct; names that say all need none."""
    status = DOCUMENT["components"]["schemas"]["Status"]
    assert status["description"] == "What a worker does."
    assert status["properties"]["history"]["description"].startswith("a point every two seconds")
    edge = DOCUMENT["components"]["schemas"]["Edge"]["properties"]
    assert {"from", "to"} <= set(edge)
    assert edge["from"]["description"].startswith("stage that writes it")
