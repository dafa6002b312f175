"""An application on a cluster with TLS, SCRAM and an authorizer, with the documented rights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined] # not in __all__
from confluent_kafka.admin._acl import AclOperation
from confluent_kafka.admin._resource import ResourceType

from tests.chaos.harness import wait_until
from tests.integration.scene import Process, Scene, lines, sentences
from tests.integration.secured import Right, Rights, SecuredBroker, documented_rights

pytestmark = pytest.mark.integration

REFUSED_S_MAX = 10.0
EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
START_S_MAX = 5.0
"""Of a process on a busy machine, until it asks Kafka anything."""


@pytest.fixture
def scene_address(secured: SecuredBroker) -> str:
    """Topics and workers are there; the test itself is the superuser."""
    return secured.addresses["plain"]


def _worker(scene: Scene, secured: SecuredBroker, source: str, sink: str, **more: Any) -> Process:
    return scene.worker(
        "words",
        [source],
        sink,
        bootstrap_servers=secured.addresses["scram"],
        kafka=secured.scram,
        checkpoint_interval_ms=500,
        **more,
    )


def _command(secured: SecuredBroker, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as the user."""
    environment = os.environ | {
        "KSTASH_KAFKA": json.dumps(secured.scram),
        "KSTASH_BOOTSTRAP_SERVERS": secured.addresses["scram"],
        "COLUMNS": "300",
    }
    return subprocess.run(
        [sys.executable, "-m", "kstash.cli.main", *words],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )


def _first_offset(secured: SecuredBroker, topic: str) -> int:
    place = TopicPartition(topic, 0)
    futures = secured.admin.list_offsets({place: EARLIEST})
    return int(futures[place].result(30).offset)


def test_the_documented_rights_are_enough(secured: SecuredBroker, scene: Scene) -> None:
    """Work, a crash, recovery, checkpoints, a purge, a drain, `verify` and `reset`: all pass."""
    source, sink = scene.topic("in"), scene.topic("out")
    Rights(secured.admin).give(documented_rights(scene.application_id, source, sink))
    texts = sentences(200)
    scene.send(source, lines(*texts))
    worker = _worker(scene, secured, source, sink)
    worker.start_ready()
    scene.wait_outputs(sink, 1000)
    internal = f"{scene.application_id}-words-repartition"
    ticks: list[str] = []

    def is_purged() -> bool:
        ticks.append("tick")
        scene.send(source, lines("tick"))
        return _first_offset(secured, internal) > 0

    wait_until(is_purged, 60, "a purge")
    worker.kill()
    more = sentences(100)
    scene.send(source, lines(*more))
    worker.start_ready()
    scene.wait_outputs(sink, 1500 + len(ticks))
    assert worker.stop() == 0
    drain = _worker(scene, secured, source, sink, until="drain")
    assert drain.run() == 0
    scene.check_words(sink, [*texts, *more, *ticks])
    assert "not deleted" not in worker.log()
    assert "uthorization" not in worker.log()
    scene.wait_gone(scene.application_id)
    state = scene.folder / "state-worker"
    verified = _command(secured, "verify", scene.application_id)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    reset = _command(secured, "reset", scene.application_id, "--state-dir", str(state))
    assert reset.returncode == 0, reset.stdout + reset.stderr
    worker.start_ready()
    assert worker.stop() == 0


def _cases() -> list[tuple[ResourceType, str, AclOperation]]:
    rights = documented_rights("ID", "INPUT", "SINK")
    return [
        (kind, name, operation)
        for kind, name, _, operation in rights
        if name != "kstash-tools" and (kind, operation) != (ResourceType.GROUP, AclOperation.DELETE)
    ]


def _is_case(right: Right, case: tuple[ResourceType, str, AclOperation], scene: Scene) -> bool:
    kind, name, operation = case
    real = name.replace("ID", scene.application_id)
    real = real.replace("INPUT", f"in-{scene.mark}").replace("SINK", f"out-{scene.mark}")
    return (right[0], right[1], right[3]) == (kind, real, operation)


@pytest.mark.parametrize("case", _cases(), ids=lambda case: f"{case[1]}{case[2].name}")
def test_a_right_that_is_taken_away(
    secured: SecuredBroker, scene: Scene, case: tuple[ResourceType, str, AclOperation]
) -> None:
    """The start ends within ten seconds, with one error that names resource and operation."""
    source, sink = scene.topic("in"), scene.topic("out")
    rights = documented_rights(scene.application_id, source, sink)
    left = [right for right in rights if not _is_case(right, case, scene)]
    assert len(left) == len(rights) - 1
    Rights(secured.admin).give(left)
    scene.send(source, lines("a"))
    worker = _worker(scene, secured, source, sink)
    started = time.monotonic()
    worker.start()
    assert worker.wait(60) == 1
    assert time.monotonic() - started < START_S_MAX + REFUSED_S_MAX
    _, name, operation = case
    name = {"INPUT": source, "SINK": sink}.get(name, scene.application_id)
    last = worker.log().strip().splitlines()[-1]
    assert operation.name in last, worker.log()
    assert name in last
    assert "check the client's credentials and the ACLs" in last


def test_a_tool_without_its_group(secured: SecuredBroker, scene: Scene) -> None:
    """A command that reads names the group that it needs."""
    source = scene.topic("in")
    rights = documented_rights(scene.application_id, source, scene.topic("out"))
    Rights(secured.admin).give(right for right in rights if right[1] != "kstash-tools")
    scene.send(source, lines("a"))
    read = _command(secured, "topics", "read", source)
    assert read.returncode == 1
    assert "READ on group 'kstash-tools'" in read.stderr
