"""What a release is made of: workflows, package data, and the script that prepares it."""

from __future__ import annotations

import importlib.util
import shutil
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
WORKFLOWS = ROOT / ".github" / "workflows"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HOME = "https://example.org/owner/kstash"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """`.github/prepare_release.py`."""
    spec = importlib.util.spec_from_file_location("prepare", ROOT / ".github/prepare_release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What the script looks at, with a changelog as it is at a release."""
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    version = PROJECT["project"]["version"]
    text = (tmp_path / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "\n## Unreleased\n" in text
    released = text.replace("## Unreleased", f"## {version} (2026-01-31)", 1)
    (tmp_path / "CHANGELOG.md").write_text(f"{released}\n## 0.0.1 (2025-01-01)\n\nof yesterday\n")
    return tmp_path


def test_a_release_tells_where_it_comes_from(script: ModuleType, tree: Path) -> None:
    """Addresses are those of the repository that releases; notes are the changelog's section."""
    notes = script.prepared(tree, HOME, f"v{PROJECT['project']['version']}")
    assert notes.startswith("### Added\n")
    assert "of yesterday" not in notes
    urls = tomllib.loads((tree / "pyproject.toml").read_text())["project"]["urls"]
    assert urls["Repository"] == HOME
    assert urls["Changelog"].endswith("/CHANGELOG.md")
    readme = (tree / "README.md").read_text()
    assert f"({HOME}/blob/v" in readme
    assert f"]({HOME}/raw/v" in readme  # pictures
    assert "](docs/" not in readme


def test_links_that_lead_elsewhere_stay(script: ModuleType) -> None:
    """Whole addresses, and places within the text."""
    text = "[a](https://b/c) [d](#e) [f](docs/g.md#h) ![i](j.svg)"
    assert script.whole_links(text, HOME, "v1") == (
        f"[a](https://b/c) [d](#e) [f]({HOME}/blob/v1/docs/g.md#h) ![i]({HOME}/raw/v1/j.svg)"
    )


@pytest.mark.parametrize("tag", ["v9.9.9", "0.1.0", ""])
def test_a_tag_of_another_version_is_refused(script: ModuleType, tree: Path, tag: str) -> None:
    """And nothing is changed."""
    before = (tree / "pyproject.toml").read_text()
    with pytest.raises(SystemExit, match="tag v"):
        script.prepared(tree, HOME, tag)
    assert (tree / "pyproject.toml").read_text() == before


def test_a_changelog_without_the_version_is_refused(script: ModuleType, tree: Path) -> None:
    """A release that nobody has described is none."""
    shutil.copy(ROOT / "CHANGELOG.md", tree)
    with pytest.raises(SystemExit, match="no section"):
        script.prepared(tree, HOME, f"v{PROJECT['project']['version']}")


def test_all_data_is_in_the_package() -> None:
    """Each file beside the code is named as package data, and each package is listed."""
    tool = PROJECT["tool"]["setuptools"]
    named: set[Path] = set()
    for package, patterns in tool["package-data"].items():
        path = package.replace(".", "/").replace("kstash/apps", "apps")
        named |= {found for pattern in patterns for found in (ROOT / path).glob(pattern)}
    there = {
        path
        for folder in ("kstash", "apps")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".md")
    }
    of_tools = {path for path in there if ".ruff_cache" in path.parts or path.name == "ruff.toml"}
    assert there - of_tools == named
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "kstash").rglob("__init__.py")}
    assert {".".join(folder.parts) for folder in folders} <= set(tool["packages"])


def test_workflows_run_what_there_is() -> None:
    """Every step is an action or a command of this repository; a release needs what was tried."""
    ci = yaml.safe_load((WORKFLOWS / "ci.yml").read_text())
    assert ci["jobs"]["check"]["steps"][-1] == {"run": "make check"}
    assert ci["jobs"]["all"]["steps"][-1] == {"run": ".ci/run"}
    listed = {
        line.rpartition(":: ")[2]
        for line in PROJECT["project"]["classifiers"]
        if line.startswith("Programming Language :: Python :: 3.")
    }
    assert set(ci["jobs"]["check"]["strategy"]["matrix"]["python"]) == listed
    jobs = yaml.safe_load((WORKFLOWS / "release.yml").read_text())["jobs"]
    assert [jobs[name].get("needs") for name in jobs] == [None, "build", "try", "publish"]
    publish = jobs["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["steps"][-1]["uses"].startswith("pypa/gh-action-pypi-publish@")
    assert "secrets." not in (WORKFLOWS / "release.yml").read_text()
