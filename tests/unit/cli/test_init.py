"""`kstash init`: what it writes is whole, and its test passes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from typer.testing import CliRunner

import kstash
from kstash.cli import main as cli
from kstash.cli.init import FILES, module_of
from kstash.cli.programs import load_app
from kstash.errors import ConfigError
from kstash.settings.config import sources_of

ROOT = Path(__file__).parents[3]
NAME, MODULE = "shop-words", "shop_words"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that was just made."""
    for name in list(os.environ):
        if name.startswith("KSTASH_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, ["init", NAME])
    assert result.exit_code == 0, result.output
    return tmp_path / NAME


def test_all_files_are_there_and_filled_in(project: Path) -> None:
    """No word is left open, and what stands in one file is there by that name."""
    found = {str(p.relative_to(project)) for p in project.rglob("*") if p.is_file()}
    assert found == {path.replace("{{module}}", MODULE) for path in FILES}
    for path in found:
        assert "{{" not in (project / path).read_text()
    dockerfile = (project / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.*) \./$", dockerfile, re.MULTILINE)[0].split()
    sent = (project / ".dockerignore").read_text()
    assert all((project / file).is_file() and f"!{file}" in sent for file in copied)
    assert f'"{MODULE}:app"' in dockerfile


def test_its_own_test_passes(project: Path) -> None:
    """Without a Kafka, with what is installed here."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_its_program_and_its_settings_count(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kstash run` finds the program from the folder, with the settings file that is there."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "path", [str(project), *sys.path])
    app = load_app(f"{MODULE}:app")
    del sys.modules[MODULE]
    assert app.application_id == NAME
    assert app.config.http_port == 8080
    assert {item.place for item in sources_of(app.config) if item.setting == "http_port"} == {
        "kstash.toml"
    }


def test_its_metadata(project: Path) -> None:
    """It needs the kstash that made it, and none that may break it."""
    data = tomllib.loads((project / "pyproject.toml").read_text())
    (need,) = map(Requirement, data["project"]["dependencies"])
    assert need.specifier.contains(kstash.__version__)
    assert not need.specifier.contains("1.0")
    assert data["tool"]["setuptools"]["py-modules"] == [MODULE]


def test_its_yaml(project: Path) -> None:
    """Compose file and workflow are what they say."""
    services = yaml.safe_load((project / "compose.yaml").read_text())["services"]
    assert set(services) == {"kafka", "topics", NAME}
    program = services[NAME]
    assert program["environment"] == {
        "KSTASH_BOOTSTRAP_SERVERS": "kafka:29092",
        "KSTASH_HTTP_PEERS": f"{NAME}:8080",
    }
    assert program["ports"] == ["127.0.0.1:8080-8089:8080"]
    assert program["read_only"]
    assert program["tmpfs"] == ["/tmp"]
    jobs = yaml.safe_load((project / ".github/workflows/ci.yml").read_text())["jobs"]
    assert {"run": "pytest"} in jobs["test"]["steps"]
    assert yaml.safe_load((project / "values.yaml").read_text())["image"]["repository"] == NAME


def test_its_values_are_those_of_the_chart(project: Path) -> None:
    """Each key is one that the chart has, at its place."""

    def keys(values: dict[str, Any], place: str = "") -> set[str]:
        found = {f"{place}{name}" for name in values}
        for name, value in values.items():
            if isinstance(value, dict) and name != "settings":
                found |= keys(value, f"{place}{name}.")
        return found

    chart = yaml.safe_load((ROOT / "helm/kstash/values.yaml").read_text())
    assert keys(yaml.safe_load((project / "values.yaml").read_text())) <= keys(chart)


def test_its_commands_exist(project: Path) -> None:
    """What its README says to type is a command."""
    text = (project / "README.md").read_text()
    lines = re.findall(r"^\$ kstash (.*?)(?: +#.*| &.*)?$", text, re.MULTILINE)
    assert len(lines) >= 6
    for line in lines:
        words = [word for word in line.split() if not word.startswith(("-", '"'))]
        depth = 2 if words[0] in ("topics", "config") else 1
        result = CliRunner().invoke(cli.app, [*words[:depth], "--help"])
        assert result.exit_code == 0, line


def test_its_image_fits_the_chart(project: Path) -> None:
    """The user that the chart runs it as; its state is where the image lets that user write."""
    dockerfile = (project / "Dockerfile").read_text()
    chart = yaml.safe_load((ROOT / "helm/kstash/values.yaml").read_text())
    assert f"USER {chart['podSecurityContext']['runAsUser']}" in dockerfile
    assert yaml.safe_load((project / "compose.yaml").read_text())["services"][NAME]["volumes"] == [
        re.findall(r"KSTASH_STATE_DIR=(\S+)", dockerfile)[0]
    ]


def test_nothing_is_overwritten(project: Path, tmp_path: Path) -> None:
    """A folder with something in it is refused; an empty one is taken."""
    before = (project / "Dockerfile").read_text()
    result = CliRunner().invoke(cli.app, ["init", NAME])
    assert isinstance(result.exception, ConfigError)
    assert "is not empty" in str(result.exception)
    assert (project / "Dockerfile").read_text() == before
    (tmp_path / "empty-shop").mkdir()
    assert CliRunner().invoke(cli.app, ["init", "empty-shop"]).exit_code == 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "a letter first"),
        ("Shop", "small letters"),
        ("../shop", "small letters"),
        ("shop-", "no hyphen at the end"),
        ("s" * 41, "1 to 40"),
        ("a-positions", "committed positions"),
        ("worker-1", "worker"),
        ("class", "a word of Python"),
        ("json", "a module 'json' already"),
        ("kstash", "a module 'kstash' already"),
    ],
)
def test_names_that_cannot_be_taken(name: str, reason: str) -> None:
    """A name becomes an id, a module and a container: the error says which cannot be."""
    with pytest.raises(ConfigError, match="cannot be taken") as caught:
        module_of(name)
    assert reason in str(caught.value)
