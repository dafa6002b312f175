"""Every command on a cluster that asks for TLS and a password, by a settings file alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka.admin._acl import AclOperation
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.cimpl import NewTopic

from tests.integration.scene import Scene
from tests.integration.secured import Rights, SecuredBroker, documented_rights

pytestmark = pytest.mark.integration

PROGRAM = "kstash.apps.word_count:build"


@pytest.fixture
def scene_address(secured: SecuredBroker) -> str:
    """Topics and workers are there; the test itself is the superuser."""
    return secured.addresses["plain"]


def test_every_command_by_a_settings_file(
    secured: SecuredBroker, scene: Scene, tmp_path: Path
) -> None:
    """From topics to a reset, with the rights that are documented, and no variable at all."""
    source, sink = "sentences", "word-counts"
    for made in scene.admin.create_topics([NewTopic(t, 2, 1) for t in (source, sink)]).values():
        made.result(30)
    # Only who sends to an input needs Write there.
    sends = (ResourceType.TOPIC, source, ResourcePatternType.LITERAL, AclOperation.WRITE)
    Rights(secured.admin).give([*documented_rights("word-count", source, sink), sends])
    lines = [
        f'bootstrap_servers = "{secured.addresses["scram"]}"',
        f"state_dir = {json.dumps(str(tmp_path / 'state'))}",
        "session_timeout_ms = 6000",
        "leave_on_stop = true",
        "[kafka]",
        *(f"{json.dumps(name)} = {json.dumps(value)}" for name, value in secured.scram.items()),
    ]
    (tmp_path / "secured.toml").write_text("\n".join(lines))

    def kstash(*words: str) -> str:
        kept = {name: text for name, text in os.environ.items() if not name.startswith("KSTASH_")}
        done = subprocess.run(
            [sys.executable, "-m", "kstash", *words, "--config", "secured.toml"],
            cwd=tmp_path,
            env=kept | {"COLUMNS": "300"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        assert secured.scram["sasl.password"] not in done.stdout + done.stderr
        return done.stdout

    assert "secured.toml" in kstash("config", "show", PROGRAM)
    assert source in kstash("topics", "list")
    assert "made by the first start" in kstash("topics", "check", PROGRAM)
    kstash("send", source, "--value", "to be or not to be")
    kstash("run", PROGRAM, "--until", "end")
    assert len(kstash("topics", "read", sink).splitlines()) == 6
    assert "0 records behind" in kstash("lag", "word-count")
    assert "START" in kstash("lineage", "show", "word-count")
    assert "everything is as it should be" in kstash("verify", "word-count")
    assert "would delete" in kstash("reset", "word-count", "--dry-run")
    assert "starts afresh" in kstash("reset", PROGRAM)
