"""The package by itself: built, installed into a clean environment, used without the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest

from kstash.broker import DevBroker

ROOT = Path(__file__).parents[2]
INSTALL_S = 600


class Installed:
    """An environment of its own, and a folder to work in.

    Args:
        folder: for both.
        wheel: what is installed.
    """

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        self._bin = folder / "env" / "bin"
        venv.create(folder / "env", with_pip=True)
        constraints = str(ROOT / "constraints.txt")
        self.run(
            *("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--constraint", constraints, f"{wheel}[broker]", "pytest"),
            timeout_s=INSTALL_S,
        )

    def run(self, program: str, *arguments: str, cwd: str = "", timeout_s: float = 300) -> str:
        """Run a program of the environment; return what it prints."""
        kept = {
            name: text
            for name, text in os.environ.items()
            if not name.startswith(("KSTASH_", "PYTHON", "VIRTUAL_ENV"))
        }
        done = subprocess.run(
            [self._bin / program, *arguments],
            cwd=self.folder / cwd,
            env={**kept, "PATH": f"{self._bin}:{kept['PATH']}"},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and source distribution, the wheel built from the latter as an index would."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
        timeout=INSTALL_S,
    )
    return folder


@pytest.fixture(scope="module")
def installed(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, installed."""
    (wheel,) = distributions.glob("*.whl")
    return Installed(tmp_path_factory.mktemp("installed"), wheel)


def test_the_source_distribution_is_whole(distributions: Path) -> None:
    """Its tests and documents are in it, and nothing that was built."""
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"CHANGELOG.md", "Makefile", "docs/guide.md", "tests/conftest.py", ".ci/run"}
    assert needed <= names
    assert "kstash/cli/project/Dockerfile.in" in names
    assert not any(name.endswith(".pyc") or name.startswith(".venv") for name in names)


def test_a_new_project_runs(installed: Installed, kafka_broker: DevBroker) -> None:
    """From `kstash init` to counts in a topic, by the words of its README."""
    installed.run("kstash", "init", "shop-words")
    assert "1 passed" in installed.run("python", "-m", "pytest", "-q", cwd="shop-words")
    at = ("-b", kafka_broker.bootstrap_servers)

    def kstash(*arguments: str) -> str:
        return installed.run("kstash", *arguments, *at, cwd="shop-words")

    kstash("topics", "create", "sentences", "word-counts", "--partitions", "2")
    kstash("topics", "check", "shop_words:app")
    kstash("send", "sentences", "--value", "to be or not to be")
    kstash("run", "shop_words:app", "--until", "end", "--set", "http_port=0")
    counts = kstash("topics", "read", "word-counts").splitlines()
    found = sorted(tuple(line.split("\t")[1:]) for line in counts)
    assert found == [("be", "1"), ("be", "2"), ("not", "1"), ("or", "1"), ("to", "1"), ("to", "2")]
    assert "0 records behind" in kstash("lag", "shop-words")
    assert "everything is as it should be" in kstash("verify", "shop-words")


def test_the_demo_without_the_repository(installed: Installed) -> None:
    """It has its book, its Kafka and its worker from the package."""
    said = installed.run("kstash", "demo", "--seconds", "20", timeout_s=300)
    assert "exactly once" in said.lower() or "each count once" in said
