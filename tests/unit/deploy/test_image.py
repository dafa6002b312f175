"""The Dockerfile, as far as it can be checked without a container engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from kstash.observe.access import Access, Certificate
from kstash.observe.listening import listen
from kstash.observe.server import HttpServer
from kstash.settings.config import Config
from tests.unit.certificates import write_certificate
from tests.unit.deploy_files import DOCKERFILE, ROOT, VARIABLES, stages
from tests.unit.http_source import FakeSource


def sent() -> list[str]:
    """What .dockerignore lets through."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*", "nothing is sent but what is named"
    return [rule[1:] for rule in rules if rule.startswith("!")]


def copied() -> dict[str, str]:
    """What the first stage copies from the project, and where to."""
    found: dict[str, str] = {}
    for value in stages()[0].values("COPY"):
        *sources, target = value.split()
        for source in sources:
            found[source] = target if len(sources) == 1 else f"{target}{source}"
    return found


def test_hadolint_finds_nothing() -> None:
    """The linter for Dockerfiles, with all its rules."""
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("there is no hadolint for this machine")
    found = subprocess.run(
        [hadolint, DOCKERFILE], capture_output=True, text=True, timeout=60, check=False
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_the_image_runs_as_nobody_special() -> None:
    """A number, as Kubernetes needs one to see that it is not root; after all that needs rights."""
    last = stages()[-1]
    user = last.last("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    names = [name for name, _ in last.steps]
    assert "RUN" not in names[names.index("USER") :]
    assert f"--uid {user.split(':')[0]}" in " ".join(last.values("RUN"))


def test_the_image_has_an_init_process_and_a_health_check() -> None:
    """Process 1 is tini, so that signals arrive; health is asked of /livez."""
    last = stages()[-1]
    assert last.list_of("ENTRYPOINT") == ["/usr/bin/tini", "--"]
    assert " tini=" in " ".join(last.values("RUN"))
    check = last.list_of("HEALTHCHECK")
    assert check[:2] == ["python", "-c"]
    assert "/livez" in check[2]
    assert last.last("STOPSIGNAL") == "SIGTERM"


def test_the_health_check_asks_over_tls_where_that_is_spoken(tmp_path: Path) -> None:
    """In the image and in new projects; whoever signed the certificate."""
    write_certificate(tmp_path, "own")
    certificate = Certificate(str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem"))
    template = (ROOT / "kstash" / "cli" / "project" / "Dockerfile.in").read_text("utf-8")
    (line,) = re.findall(r"HEALTHCHECK .*\n +CMD (.+)", template)
    for check in (stages()[-1].list_of("HEALTHCHECK"), json.loads(line)):
        for access in (Access(), Access(certificate=certificate)):
            server = HttpServer(listen("127.0.0.1", 0), FakeSource(), access=access)
            environment = {"KSTASH_HTTP_PORT": str(server.port)}
            if access.certificate is not None:
                environment["KSTASH_HTTP_TLS_CERTIFICATE"] = "certificate.pem"
            subprocess.run(
                [sys.executable, *check[1:]],
                env=environment,
                check=True,
                timeout=60,
                capture_output=True,
            )
            server.close()


def test_the_image_can_have_a_read_only_root() -> None:
    """State lies in a volume that belongs to the user; Python writes no byte code."""
    last = stages()[-1]
    environment = last.environment()
    assert environment["KSTASH_STATE_DIR"] == last.last("VOLUME")
    assert f"--owner=kstash --group=kstash {last.last('VOLUME')}" in " ".join(last.values("RUN"))
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert environment["PYTHONHASHSEED"] == "0"
    assert environment["KSTASH_HTTP_PORT"] == last.last("EXPOSE")


def test_the_image_sets_settings_that_exist() -> None:
    """A variable that no setting has would end every start."""
    for name in stages()[-1].environment():
        if name.startswith(VARIABLES):
            assert name.removeprefix(VARIABLES).lower() in Config.model_fields, name


def test_stages_have_one_base_of_a_fixed_version() -> None:
    """What is built in one runs in the other, and not with another Python next year."""
    bases = {stage.base for stage in stages()}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", bases.pop())
    assert not [value for stage in stages() for value in stage.values("ADD")]


def test_what_is_copied_is_sent_and_nothing_else() -> None:
    """.dockerignore is a list of what the image is made of."""
    assert sorted(copied()) == sorted(sent())
    assert all((ROOT / name).exists() for name in sent())


def _copy(folder: Path) -> None:
    """What the first stage would find: the COPY steps, without what .dockerignore leaves out."""
    for source, target in copied().items():
        if (ROOT / source).is_dir():
            shutil.copytree(
                ROOT / source,
                folder / target,
                ignore=lambda _, names: [
                    name for name in names if name == "__pycache__" or fnmatch(name, "*.pyc")
                ],
            )
        else:
            shutil.copy(ROOT / source, folder / target)


@pytest.mark.prove
def test_its_steps_make_an_environment_that_works(tmp_path: Path) -> None:
    """COPY and RUN of the first stage, here; then the health check and programs of the last one."""
    build, last = stages()
    source, target = tmp_path / "src", tmp_path / "kstash"
    source.mkdir()
    _copy(source)
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    environment |= {name: os.environ[name] for name in os.environ if name.startswith("PIP_")}
    for step in build.values("RUN"):
        command = step.replace("/opt/kstash", str(target))
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=source,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    set_there = last.environment() | {"HOME": str(tmp_path)}
    set_there["PATH"] = f"{target}/bin:/usr/bin:/bin"

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=tmp_path,
            env=set_there,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert run(*last.list_of("CMD")).returncode == 0
    assert "--application-id" in run("python", "-m", "kstash.apps.word_count", "--help").stdout
    assert run("python", "-c", "import obstore, kstash.testing").returncode == 0
    # Nobody listens: the check says so, and is a program that runs.
    asked = run(
        *shlex.split(f"env KSTASH_HTTP_PORT=9 {target}/bin/python"),
        *last.list_of("HEALTHCHECK")[1:],
    )
    assert asked.returncode == 1
    assert "Connection refused" in asked.stderr
